"""Time the hot paths against named references in one run, and print the ratios."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_dataset import collate
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.metrics import KeypointAveragePrecision
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps


@dataclass(frozen=True)
class Row:
    """Hold one line of the table: what, our seconds, those of the reference, and the ratio that is wanted."""

    name: str
    seconds: float
    reference_seconds: float | None = None
    wanted: str = ""
    note: str = ""

    def __str__(self) -> str:
        ratio = "" if self.reference_seconds is None else f"{self.reference_seconds / self.seconds:8.1f}x"
        reference = "" if self.reference_seconds is None else f"{self.reference_seconds:9.4f} s"
        return f"{self.name:58}{self.seconds:9.4f} s {reference:>11} {ratio:>9}  {self.wanted:10} {self.note}"


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of some calls, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def dense_heatmaps(keypoints: Tensor, heatmap_hw: tuple[int, int], sigma_px: float) -> Tensor:
    """Evaluate the plain dense formula: exp of every pixel's distance to every keypoint, then the maximum.

    Args:
        keypoints: `[n, c, k, 2]` in heatmap pixels.
        heatmap_hw: Height and width.
        sigma_px: Standard deviation in pixels.

    Returns:
        `[n, c, h, w]`.
    """
    y = torch.arange(heatmap_hw[0], dtype=torch.float32).view(-1, 1)
    x = torch.arange(heatmap_hw[1], dtype=torch.float32).view(1, -1)
    maps = []
    for points in keypoints.flatten(0, 1):
        squared = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
        maps.append(torch.exp(squared / (-2.0 * sigma_px**2)).amax(0))
    return torch.stack(maps).view(*keypoints.shape[:2], *heatmap_hw)


def max_pool_peaks(heatmaps: Tensor, max_keypoints: int, radius: int) -> tuple[Tensor, Tensor]:
    """Find peaks the usual way: max-pooling, equality, top-k over all pixels; whole pixels only."""
    pooled = F.max_pool2d(heatmaps, 2 * radius + 1, stride=1, padding=radius)
    scores, places = torch.where(heatmaps == pooled, heatmaps, 0.0).flatten(2).topk(max_keypoints)
    width = heatmaps.shape[-1]
    return torch.stack([places % width, places // width], dim=-1), scores


def time_targets() -> Iterator[Row]:
    """Time target generation: 16 images, 8 channels, 512x512, 5 and 50 keypoints a channel."""
    for n_keypoints, wanted in ((5, ">= 10x"), (50, ">= 100x")):
        points = torch.rand(16, 8, n_keypoints, 2, generator=torch.Generator().manual_seed(0)) * 511
        flags = torch.full(points.shape[:-1], 2, dtype=torch.uint8)
        ours = median_seconds(lambda p=points, v=flags: generate_heatmaps(p, v, (512, 512), 2.0))
        dense = median_seconds(lambda p=points: dense_heatmaps(p, (512, 512), 2.0), repeats=1)
        yield Row(f"targets 16x8x512x512, {n_keypoints} keypoints | dense formula", ours, dense, wanted)


def peaky_maps() -> Tensor:
    """Return 16x8x256x256 maps as a trained model gives them: five peaks on a low, noisy ground."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(16, 8, 5, 2, generator=generator) * 255
    flags = torch.full(points.shape[:-1], 2, dtype=torch.uint8)
    noise = torch.rand(16, 8, 256, 256, generator=generator) * 0.005
    return (0.9 * generate_heatmaps(points, flags, (256, 256), 2.0) + noise).clamp(0, 1)


def time_decoding() -> Iterator[Row]:
    """Time peak extraction with sub-pixel refinement against max-pooling and top-k without."""
    maps = peaky_maps()
    for radius, wanted in ((1, ">= 3x"), (5, ">= 6x")):
        ours = median_seconds(lambda r=radius: extract_keypoints(maps, 20, r))
        pooled = median_seconds(lambda r=radius: max_pool_peaks(maps, 20, r))
        yield Row(f"decode 16x8x256x256, radius {radius} | max_pool2d + topk", ours, pooled, wanted)


def time_average_precision(reference: Callable[..., Any]) -> Iterator[Row]:
    """Time AP of 2000 images, 8 channels, up to 10 keypoints, 3 thresholds: update and compute.

    Args:
        reference: `(preds, scores, target, visibility, thresholds) -> ap [c, t]`, NumPy, one image at a time.
    """
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2000, 8, 10, 2, generator=generator) * 256
    visibility = (torch.rand(2000, 8, 10, generator=generator) < 0.6).to(torch.uint8) * 2
    preds = target + torch.randn(target.shape, generator=generator) * 2
    scores = torch.rand(2000, 8, 10, generator=generator)
    absent = torch.rand(2000, 8, 10, generator=generator) < 0.3
    preds[absent], scores[absent] = torch.nan, 0.0
    thresholds = [1.0, 2.0, 4.0]

    def ours() -> Tensor:
        metric = KeypointAveragePrecision(8, thresholds)
        for start in range(0, 2000, 16):
            chosen = slice(start, start + 16)
            metric.update(preds[chosen], scores[chosen], target[chosen], visibility[chosen])
        return metric.compute()["ap"]

    arrays = [values.numpy() for values in (preds, scores, target, visibility)]
    start = time.perf_counter()
    expected = torch.as_tensor(reference(*arrays, thresholds))
    seconds = time.perf_counter() - start
    same = torch.equal(expected.double(), ours().double())
    note = "identical values" if same else "VALUES DIFFER"
    yield Row(
        "AP 2000 images x 8 x 10, 3 thresholds | per image", median_seconds(ours, 3), seconds, ">= 20x", note
    )


def time_loader(json_path: Path, worker_counts: tuple[int, ...] = (0, 1, 2)) -> Iterator[Row]:
    """Time the loader with augmentation over a data set, by number of workers."""
    for workers in worker_counts:
        data = KeypointsDataModule(
            json_dataset_path=json_path,
            json_validation_dataset_path=json_path,
            keypoint_channel_configuration=None,
            batch_size=8,
            num_workers=workers,
            augment_train=True,
            augmentation=AugmentationConfig(),
        )
        loader = data.train_dataloader()
        images = sum(len(batch["image"]) for batch in loader)
        seconds = median_seconds(lambda loader=loader: [None for _ in loader], repeats=3)
        rate = f"{images / seconds:.0f} images/s"
        yield Row(f"loader, augmented, {workers} workers, {images} images", seconds, note=rate)


def time_training_step(json_path: Path, backbone: str = "Unet", steps: int = 12) -> Iterator[Row]:
    """Time Lightning's whole training step against the bare forward, loss and backward of the same layers."""
    data = KeypointsDataModule(
        json_dataset_path=json_path, json_validation_dataset_path=json_path, batch_size=4, num_workers=0
    )
    batch = collate([data.train_dataset[index] for index in range(4)])
    detector = KeypointDetector(data.channels, backbone)
    target, _ = detector.targets(batch, detector(batch["image"]))

    def bare() -> None:
        detector.zero_grad()
        F.binary_cross_entropy_with_logits(detector(batch["image"]), target).backward()

    clock = _StepClock()
    loader = DataLoader([batch] * steps, batch_size=None)  # pyright: ignore[reportArgumentType]
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    detector.train()
    with _quiet():
        trainer.fit(detector, loader)
    whole, plain = statistics.median(clock.seconds[2:]), median_seconds(bare, steps)
    overhead = f"overhead {100 * (whole / plain - 1):.1f} %"
    yield Row(
        f"training step {backbone}, batch 4 | bare forward, loss, backward", whole, plain, "<= 5 %", overhead
    )


class _StepClock(pl.Callback):
    """Note the time between the starts of successive steps: everything that a step costs."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    @property
    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.starts, self.starts[1:], strict=False)]

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(time.perf_counter())


@contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
