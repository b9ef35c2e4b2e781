"""Time a trained detector from image files to written points, stage by stage, as a Markdown table."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.backbone_benchmark import processor_name
from keypoint_detection.data.image_warp import write_pixels
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.data.synthetic import MIN_SIDE, draw_image
from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference import InferenceOptions, decode_batch, prepared_hw, to_predictions
from keypoint_detection.utils.load_checkpoints import load_model

STAGES = ("read", "prepare", "network", "decode", "write")
"""The stages of a batch in their order."""

EXPLANATION = """\
- times of a batch, one stage after the other; images/s: of the network alone and of all stages
- read: JPEG files to pixels; prepare: letterbox and batch; network: copy to the device and forward pass; \
decode: heatmaps to points; write: predictions as lines of JSON"""

HEADINGS = (
    *("batch", "p50 (ms)", "p95 (ms)", "network (images/s)", "whole (images/s)"),
    *(f"{stage} (%)" for stage in STAGES),
    "runs",
)

N_FRAMES = 4
"""Different images that the batches are made of."""
LEAST_RUNS = 3
"""Batches of each size that are timed, however long they take."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class BatchTiming:
    """Hold the times of one batch size.

    Attributes:
        batch_size: Images of a batch.
        seconds: Times by stage, of the same batches in the same order.
    """

    batch_size: int
    seconds: Mapping[str, Sequence[float]]

    @property
    def latencies(self) -> list[float]:
        """Return the seconds of each batch, all stages together."""
        return [sum(stages) for stages in zip(*self.seconds.values(), strict=True)]

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile of the milliseconds of a batch."""
        return 1e3 * float(np.percentile(self.latencies, percentile))

    @property
    def network_rate(self) -> float:
        """Return the images per second of the network alone."""
        times = self.seconds["network"]
        return self.batch_size * len(times) / sum(times)

    @property
    def whole_rate(self) -> float:
        """Return the images per second of all stages one after the other."""
        return self.batch_size * len(self.latencies) / sum(self.latencies)

    @property
    def shares(self) -> dict[str, float]:
        """Return what part of the time each stage takes; they add up to 1."""
        total = sum(self.latencies)
        return {stage: sum(times) / total for stage, times in self.seconds.items()}


@dataclass(frozen=True)
class CheckpointTiming:
    """Hold what was measured of a checkpoint.

    Attributes:
        checkpoint: Its file.
        image_hw: Height and width of the image files.
        input_hw: Height and width that the network saw.
        device: Where it ran.
        device_name: Name of the processor or GPU.
        threads: Threads of PyTorch.
        batches: One entry per batch size.
    """

    checkpoint: str
    image_hw: tuple[int, int]
    input_hw: tuple[int, int]
    device: str
    device_name: str
    threads: int
    batches: Sequence[BatchTiming]


def benchmark_checkpoint(
    checkpoint: str | Path,
    *,
    image_size: tuple[int, int],
    batch_sizes: Sequence[int] = (1, 4, 16),
    seconds: float = 3,
    device: str = "cpu",
    threads: int | None = None,
) -> CheckpointTiming:
    """Time a detector over drawn JPEG files, which the system has in memory after the first batch.

    Nothing overlaps, so that every stage has a time of its own; on a GPU each one ends when the GPU has
    finished.

    Args:
        checkpoint: A `.ckpt` file that a training wrote.
        image_size: Height and width of the files in pixels; a model with an `image_size` letterboxes them.
        batch_sizes: Images of a batch; every size has a line in the table.
        seconds: Time to spend on each batch size, after one batch that is not counted.
        device: `cpu` or `cuda`.
        threads: Threads of PyTorch; None leaves them as they are.

    Returns:
        The times.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint, its model takes neither grey nor RGB images, the device is not there,
            or a number is below 1.
    """
    _check(image_size, batch_sizes, device, threads)
    detector = load_model(checkpoint, device)
    if detector.backbone.in_channels not in (1, 3):
        raise ValueError(
            f"{checkpoint}: expected a model of 1 or 3 image channels, which JPEG files have, got one of "
            f"{detector.backbone.in_channels}"
        )
    with _threads(threads), TemporaryDirectory() as folder:
        files = _draw_files(Path(folder), image_size, detector.backbone.in_channels)
        with (Path(folder) / "predictions.jsonl").open("w", encoding="utf-8") as output:
            batches = [_time_batches(detector, files, size, seconds, output) for size in batch_sizes]
        return CheckpointTiming(
            checkpoint=str(checkpoint),
            image_hw=image_size,
            input_hw=prepared_hw(detector, InferenceOptions()) or image_size,
            device=device,
            device_name=processor_name(device),
            threads=torch.get_num_threads(),
            batches=tuple(batches),
        )


def timing_table(timing: CheckpointTiming) -> str:
    """Return what was measured with as a list and the times as a table that is aligned in a terminal too."""
    image, seen = ("x".join(map(str, side)) for side in (timing.image_hw, timing.input_hw))
    rows = [list(HEADINGS), *(_cells(batch) for batch in timing.batches)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, [(width - 1) * "-" + ":" for width in widths])
    lines = [
        f"| {' | '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    header = (
        f"- torch {torch.__version__}, {timing.threads} threads, {timing.device_name}, {image} images"
        f"{'' if image == seen else f' (the network sees {seen})'}, {timing.checkpoint}"
    )
    return "\n".join([header, EXPLANATION, "", *lines, ""])


def _cells(batch: BatchTiming) -> list[str]:
    """Return the texts below `HEADINGS`."""
    times = [batch.latency_ms(50), batch.latency_ms(95), batch.network_rate, batch.whole_rate]
    shares = [f"{100 * share:.1f}" for share in batch.shares.values()]
    return [str(batch.batch_size), *(f"{value:.1f}" for value in times), *shares, str(len(batch.latencies))]


def _check(image_size: tuple[int, int], batch_sizes: Sequence[int], device: str, threads: int | None) -> None:
    """Raise a ValueError for what cannot be measured with."""
    if min(image_size) < 1:
        raise ValueError(f"expected a height and width of at least 1 px, got {image_size[0]}x{image_size[1]}")
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"expected batch sizes of at least 1, such as 1 4 16, got {list(batch_sizes)}")
    if threads is not None and threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("expected a GPU for device cuda, found none; use cpu")


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Set the threads of PyTorch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _draw_files(folder: Path, image_hw: tuple[int, int], n_channels: int) -> list[Path]:
    """Draw JPEG files; shapes need `MIN_SIDE`, so smaller images are cut from a larger one."""
    rng = np.random.default_rng(0)
    height, width = image_hw
    drawn_hw = (max(height, MIN_SIDE), max(width, MIN_SIDE))
    paths = [folder / f"{number}.jpg" for number in range(N_FRAMES)]
    for path in paths:
        pixels: NDArray[np.uint8] = draw_image("boxes", drawn_hw, rng)[0][:height, :width]
        write_pixels(path, np.ascontiguousarray(pixels[..., 0] if n_channels == 1 else pixels[..., ::-1]))
    return paths


def _time_batches(
    detector: KeypointDetector, files: Sequence[Path], batch_size: int, seconds: float, output: IO[str]
) -> BatchTiming:
    """Time batches until the seconds are over, after one that is not counted."""
    chosen = [files[number % len(files)] for number in range(batch_size)]
    _time_stages(detector, chosen, output)
    runs: list[dict[str, float]] = []
    start = time.perf_counter()
    while len(runs) < LEAST_RUNS or time.perf_counter() - start < seconds:
        runs.append(_time_stages(detector, chosen, output))
    return BatchTiming(batch_size, {stage: [run[stage] for run in runs] for stage in STAGES})


@torch.inference_mode()
def _time_stages(detector: KeypointDetector, files: Sequence[Path], output: IO[str]) -> dict[str, float]:
    """Take a batch of files through all stages and return the seconds of each."""
    spent: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Value]) -> Value:
        start = time.perf_counter()
        value = work()
        if detector.device.type == "cuda":
            torch.cuda.synchronize()
        spent[stage] = time.perf_counter() - start
        return value

    input_hw = prepared_hw(detector, InferenceOptions())
    images = timed("read", lambda: [load_image(path, detector.backbone.in_channels) for path in files])
    batch = timed(
        "prepare",
        lambda: collate_unlabeled(
            [prepare_image(image, input_hw, str(path)) for image, path in zip(images, files, strict=True)]
        ),
    )
    logits = timed("network", lambda: detector(batch["image"].to(detector.device)))
    points, scores = timed("decode", lambda: decode_batch(detector, logits, batch))

    def write() -> None:
        found = to_predictions(detector, points, scores, batch)
        output.writelines(f"{json.dumps(prediction.to_dict())}\n" for prediction in found)
        output.flush()

    timed("write", write)
    return spent
