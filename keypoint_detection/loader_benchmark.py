"""Time the loader against the plain way to load the same images in one run, and print the ratios."""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from keypoint_detection.benchmark import Row
from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.datamodule_loaders import limit_threads
from keypoint_detection.data.image_cache import CacheKind
from keypoint_detection.data.image_warp import read_pixels, write_pixels
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.loader_benchmark_plain import PlainImages
from keypoint_detection.models.detector import KeypointDetector

SIDE, N_IMAGES, BATCH_SIZE, WORKERS = 512, 256, 16, 2


def loader_rows(n_images: int = N_IMAGES, side: int = SIDE, epochs: int = 4) -> Iterator[Row]:
    """Yield every row; about two minutes on two cores.

    Args:
        n_images: Drawn images of each kind.
        side: Their height and width in pixels.
        epochs: Passes over them that are timed, after one that fills the caches.
    """
    with tempfile.TemporaryDirectory() as folder:
        drawn = make_dataset("flowers", folder, n_images, (side, side))
        for path in (drawn, as_jpeg(drawn)):
            yield from time_images(path, epochs)
        yield time_data_wait(drawn)


def as_jpeg(json_path: Path) -> Path:
    """Write the images of a COCO file as JPEG too, and a COCO file of these; return its path."""
    content = json.loads(json_path.read_text(encoding="utf-8"))
    for image in content["images"]:
        png = json_path.parent / image["file_name"]
        image["file_name"] = str(Path(image["file_name"]).with_suffix(".jpg"))
        write_pixels(json_path.parent / image["file_name"], read_pixels(png))
    path = json_path.with_name("annotations_jpeg.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def time_images(json_path: Path, epochs: int) -> Iterator[Row]:
    """Time augmented images: with each kind of cache, and the plain way, taking turns."""
    table = read_table(json_path)
    kind = Path(table.file_names[0]).suffix.removeprefix(".").upper()
    height, width = table.image_hw[0].tolist()
    plain = PlainImages(table, AugmentationConfig())
    reference = DataLoader(
        plain,
        BATCH_SIZE,
        shuffle=True,
        num_workers=WORKERS,
        collate_fn=_plain_batch,
        persistent_workers=True,
        worker_init_fn=limit_threads,
    )
    loaders = {cache: our_loader(json_path, cache) for cache in ("ram", "off")}
    for loader in (reference, *loaders.values()):
        seconds_per_image(loader)
    # Taking turns, so that other work on the machine meets all alike; the best pass of each counts.
    turns = [
        {"plain": seconds_per_image(reference)}
        | {cache: seconds_per_image(loader) for cache, loader in loaders.items()}
        for _ in range(epochs)
    ]
    best = {name: min(turn[name] for turn in turns) for name in turns[0]}
    for cache, wanted in (("ram", ">= 3.5x"), ("off", "")):
        note = f"{1 / best[cache]:.0f} images/s"
        note += f" (wanted >= 450), plain {1 / best['plain']:.0f}: {plain.tools}" if wanted else ""
        name = f"{kind} {height}x{width} augmented, {WORKERS} workers, cache {cache}"
        yield Row(f"{name} | plain", best[cache], best["plain"], wanted, note)


def our_loader(
    json_path: Path, cache: CacheKind, batch_size: int = BATCH_SIZE, workers: int = WORKERS
) -> DataLoader:
    """Return the loader of a training on a data set, with augmentation."""
    data = KeypointsDataModule(
        json_dataset_path=json_path,
        batch_size=batch_size,
        num_workers=workers,
        validation_split_ratio=0,
        augment_train=True,
        cache=cache,
    )
    return data.train_dataloader()


def seconds_per_image(loader: Iterable[Any]) -> float:
    """Return the time of one pass per image."""
    start, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch["image"])
    return (time.perf_counter() - start) / count


def time_data_wait(
    json_path: Path, backbone: str = "ConvNeXtUnet", batch_size: int = 4, steps: int = 6
) -> Row:
    """Time the wait for batches against training steps on them: forward, loss, backward, optimiser."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = KeypointsDataModule(
        json_dataset_path=json_path, validation_split_ratio=0, batch_size=batch_size, num_workers=0
    )
    detector = KeypointDetector(data.channels, backbone).to(device).train()
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-4)
    loader = our_loader(json_path, "ram", batch_size)
    for _ in loader:
        pass
    waits, works = [], []
    before = time.perf_counter()
    for number, batch in enumerate(loader):
        begin = time.perf_counter()
        logits = detector(batch["image"].to(device, non_blocking=True))
        on_device: Any = {key: _moved(value, device) for key, value in batch.items()}
        target, _ = detector.targets(on_device, logits)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        end = time.perf_counter()
        if number > 0:  # the first batch has nothing to hide behind
            waits.append(begin - before)
            works.append(end - begin)
        before = end
        if number == steps:
            break
    wait, work = sum(waits) / len(waits), sum(works) / len(works)
    note = f"wait {100 * wait / work:.2f} % of a step (wanted < 5 %), on {device.type}"
    return Row(f"data wait, batch {batch_size} | training step {backbone}", wait, work, "> 20x", note)


def _plain_batch(samples: list[Any]) -> dict[str, Any]:
    """Collate images as torch does by default; the points differ in number and stay a list."""
    images = torch.utils.data.default_collate([image for image, _ in samples])
    return {"image": images, "keypoints": [points for _, points in samples]}


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
