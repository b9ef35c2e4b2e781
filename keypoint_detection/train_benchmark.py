"""Time the training step of a Trainer against a bare PyTorch loop, and compare the memory that both take."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from keypoint_detection.backbone_benchmark import memory_bytes
from keypoint_detection.data.coco_dataset import Batch
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.transfer import parameter_groups
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.utils import build_detector, build_trainer, expected_warnings_ignored

NAMES = ("Unet", "ConvNeXtUnet", "ViT-S_16")
CHANNELS = 4
UNCOUNTED = 3
"""First steps, in which memory is taken and code is loaded."""

MEMORY_STEPS = 6
"""Steps of which the memory is measured: the first takes most of it, the optimiser's state included."""

HIGHEST_TIME_RATIO, HIGHEST_MEMORY_RATIO = 1.03, 1.05


@dataclass(frozen=True)
class TrainConditions:
    """Hold what all rows are measured with.

    Attributes:
        image_hw: Height and width in pixels.
        batch_size: Images of a step.
        steps: Steps of each of the two that are counted.
        threads: Threads of PyTorch; default: as many as this process has.
        device: `cpu` or `cuda`.
    """

    image_hw: tuple[int, int] = (256, 256)
    batch_size: int = 4
    steps: int = 20
    threads: int = field(default_factory=torch.get_num_threads)
    device: str = "cpu"


@dataclass(frozen=True)
class TrainRow:
    """Hold one line of the table.

    Attributes:
        name: Backbone.
        seconds: Time of each step of the Trainer, everything between two batches included.
        bare_seconds: Time of each step of the bare loop, taken in turns with the others.
        peak_bytes: Memory that a training with the Trainer adds to its process.
        bare_peak_bytes: Memory that the bare loop adds to its own.
    """

    name: str
    seconds: Sequence[float]
    bare_seconds: Sequence[float]
    peak_bytes: int
    bare_peak_bytes: int

    @property
    def time_ratio(self) -> float:
        """Return the median step of the Trainer in units of the median bare step."""
        return statistics.median(self.seconds) / statistics.median(self.bare_seconds)

    @property
    def memory_ratio(self) -> float:
        """Return the memory of the Trainer's training in units of that of the bare loop."""
        return self.peak_bytes / max(self.bare_peak_bytes, 1)

    @property
    def is_met(self) -> bool:
        """Tell whether both ratios are as wanted."""
        return self.time_ratio <= HIGHEST_TIME_RATIO and self.memory_ratio <= HIGHEST_MEMORY_RATIO

    def __str__(self) -> str:
        ours, bare = (1e3 * statistics.median(times) for times in (self.seconds, self.bare_seconds))
        mean_ratio = sum(self.seconds) / sum(self.bare_seconds)
        return (
            f"{self.name:16}{ours:9.1f} ms{bare:9.1f} ms{self.time_ratio:8.3f}{mean_ratio:8.3f}"
            f"{self.peak_bytes / 1e6:9.0f} MB{self.bare_peak_bytes / 1e6:8.0f} MB{self.memory_ratio:8.3f}"
            f"   {'ok' if self.is_met else 'MISSED'}"
        )


TRAIN_HEADING = (
    f"{'training step':16}{'ours':>12}{'bare':>12}{'median':>8}{'mean':>8}{'ours':>12}{'bare':>11}"
    f"{'memory':>8}   wanted: median <= {HIGHEST_TIME_RATIO}, memory <= {HIGHEST_MEMORY_RATIO}"
)


def train_rows(names: Sequence[str] = NAMES, conditions: TrainConditions | None = None) -> Iterator[TrainRow]:
    """Yield a row per backbone, measured in three fresh processes; about three minutes on two cores."""
    conditions = conditions or TrainConditions()
    for name in names:
        seconds, bare_seconds = measured_apart("time", name, conditions)
        peaks = [int(measured_apart(task, name, conditions)) for task in ("memory", "bare memory")]
        yield TrainRow(name, seconds, bare_seconds, *peaks)


def measured_apart(task: str, name: str, conditions: TrainConditions) -> Any:
    """Return what a task measures in a process of its own.

    Raises:
        RuntimeError: The process failed; one line with its reason.
    """
    call = json.dumps([task, name, asdict(conditions)])
    command = [sys.executable, "-m", "keypoint_detection.train_benchmark", call]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"benchmark of a training step of {name}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


class InTurns:
    """Give a Trainer its batches, and take a bare step between two of its own, so that both meet the same.

    What lies between giving a batch and being asked for the next one is the Trainer's: its step, its logging
    and its callbacks.

    Attributes:
        seconds: Time of each step of the Trainer.
        bare_seconds: Time of each bare step.
    """

    def __init__(
        self, batches: Sequence[Batch], bare_step: Callable[[Batch], object], n_steps: int, device: str
    ) -> None:
        self.batches, self.bare_step, self.n_steps, self.device = batches, bare_step, n_steps, device
        self.seconds: list[float] = []
        self.bare_seconds: list[float] = []

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[Batch]:
        given = None
        for index in range(self.n_steps):
            batch = self.batches[index % len(self.batches)]
            asked = self._now()
            if given is not None:
                self.seconds.append(asked - given)
            self.bare_step(batch)
            given = self._now()
            self.bare_seconds.append(given - asked)
            yield batch

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def training(name: str, conditions: TrainConditions, folder: Path, n_steps: int) -> tuple[Any, ...]:
    """Return the detector, the Trainer and the batches of a training with the defaults of the command."""
    config = TrainConfig(
        json_dataset_path="preloaded",
        backbone_type=name,
        accelerator="gpu" if conditions.device == "cuda" else "cpu",
        devices=1,
        batch_size=conditions.batch_size,
        max_epochs=1,
        trainer={"limit_val_batches": 0, "max_steps": n_steps},
    )
    torch.manual_seed(0)
    detector = build_detector(config, [[f"point{i}"] for i in range(CHANNELS)])
    return detector, build_trainer(config, folder), drawn_batches(conditions)


def drawn_batches(conditions: TrainConditions, count: int = 4) -> list[Batch]:
    """Return random batches with a keypoint per channel, on the device."""
    n, (height, width) = conditions.batch_size, conditions.image_hw
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        image = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)
        points = torch.rand(n, CHANNELS, 1, 2, generator=generator) * torch.tensor([width - 1, height - 1])
        flags = torch.full((n, CHANNELS, 1), 2, dtype=torch.uint8)
        batch = {"image": image, "keypoints": points, "visibility": flags}
        moved = {key: value.to(conditions.device) for key, value in batch.items()}
        batches.append(cast("Batch", moved))
    return batches


def bare_training_step(detector: KeypointDetector, device: str) -> Callable[[Batch], None]:
    """Return the step that a plain loop would take with the network, loss and optimiser of a detector."""
    detector.to(device).train()
    network, head, parameters = detector.backbone, detector.head, list(detector.parameters())
    groups = parameter_groups(
        network, head, learning_rate=detector.learning_rate, weight_decay=detector.hparams["weight_decay"]
    )
    optimizer = torch.optim.AdamW(groups)

    def step(batch: Batch) -> None:
        logits = head(network((batch["image"] - detector.image_mean) / detector.image_std))
        target, weight = head.targets(batch, logits, required_visibility=1, sigma_px=2.0, mask_excluded=False)
        loss = detector.loss_function(logits, target, weight).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def fit_seconds(name: str, conditions: TrainConditions) -> tuple[list[float], list[float]]:
    """Return the times of the Trainer's steps and of as many bare steps, in this process."""
    n_steps = conditions.steps + UNCOUNTED + 1
    with tempfile.TemporaryDirectory() as folder:
        detector, trainer, batches = training(name, conditions, Path(folder), n_steps)
        other, _, _ = training(name, conditions, Path(folder), n_steps)
        loader = InTurns(batches, bare_training_step(other, conditions.device), n_steps, conditions.device)
        _fit(trainer, detector, loader)
    return loader.seconds[UNCOUNTED:], loader.bare_seconds[UNCOUNTED:-1]


def peak_bytes(name: str, conditions: TrainConditions, *, bare: bool) -> int:
    """Return what a few steps of one of the two add to this process, which must be a fresh one."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = TrainConditions((16, 16), 1, device=conditions.device)
        detector, trainer, batches = training("S3K", tiny, Path(folder), 2)
        _fit(trainer, detector, _alone(batches, 2))  # loads what PyTorch and Lightning load late
        bare_training_step(detector, conditions.device)(batches[0])
        if conditions.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        before = memory_bytes("VmRSS", conditions.device)
        detector, trainer, batches = training(name, conditions, Path(folder), MEMORY_STEPS)
        loader = _alone(batches, MEMORY_STEPS)
        if bare:
            step = bare_training_step(detector, conditions.device)
            for batch in loader:
                step(batch)
        else:
            _fit(trainer, detector, loader)
        return memory_bytes("VmHWM", conditions.device) - before


def _alone(batches: Sequence[Batch], n_steps: int) -> InTurns:
    """Return a loader of the batches that takes no bare steps between them."""
    return InTurns(batches, lambda _: None, n_steps, "cpu")


def _fit(trainer: Any, detector: KeypointDetector, loader: Any) -> None:
    with expected_warnings_ignored():
        trainer.fit(detector, loader)


def main(call: str) -> None:
    """Measure what `measured_apart` asks for and print it as one line of JSON, the last one."""
    task, name, values = json.loads(call)
    conditions = TrainConditions(**values)
    torch.set_num_threads(conditions.threads)
    if task == "time":
        found: Any = fit_seconds(name, conditions)
    else:
        found = peak_bytes(name, conditions, bare=task == "bare memory")
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
