"""Time the backbones against `Unet` on this computer, each in a fresh process, as a Markdown table."""

import json
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from keypoint_detection.backbone_table import HeatmapNetwork, count_parameters
from keypoint_detection.models.backbones.backbone_factory import backbone_class, list_backbones

REFERENCE = "Unet"
LEAST_RUNS, MOST_RUNS = 3, 20
SLOW_SECONDS = 30.0
"""A call that takes longer is not repeated."""

HEADINGS = (
    "backbone",
    "parameters (M)",
    "MACs (G)",
    "forward (ms)",
    f"/ {REFERENCE}",
    "step (ms)",
    f"/ {REFERENCE}",
    "peak memory (MB)",
    "runs",
)


@dataclass(frozen=True)
class Conditions:
    """Hold what all backbones of a table are measured with.

    Attributes:
        image_hw: Height and width in pixels.
        batch_size: Images of a training step; the forward pass takes one.
        threads: Threads of PyTorch; default: as many as this process has.
        seconds: Time to spend on the runs of the forward pass, and again on those of the training step.
        device: `cpu` or `cuda`.
    """

    image_hw: tuple[int, int]
    batch_size: int = 4
    threads: int = field(default_factory=torch.get_num_threads)
    seconds: float = 3.0
    device: str = "cpu"

    def __str__(self) -> str:
        size = "x".join(map(str, self.image_hw))
        return f"""\
- torch {torch.__version__}, {self.threads} threads, {processor_name(self.device)}
- {size} images, float32, one heatmap; every backbone with its default options, in its own process
- forward: batch 1, eval mode, inference mode; step: batch {self.batch_size}, forward and BCE of all stages, \
backward, AdamW
- times: medians of {LEAST_RUNS} to {MOST_RUNS} runs (last column: forward + step) after one that is not \
counted; a call of more than {SLOW_SECONDS:.0f} s is measured once
- MACs: multiply-adds of convolutions, matrix products and attention, for one image, padding included
- peak memory: what the training step adds to the process after its imports, weights included"""


@dataclass(frozen=True)
class BackboneTiming:
    """Hold one line of the table.

    Attributes:
        name: Registered name.
        parameters: Number of parameters, with a head of one heatmap.
        macs: Multiply-adds of one image.
        forward_seconds: Times of the forward passes.
        step_seconds: Times of the training steps.
        peak_bytes: Memory of the training step.
        failure: Why there are no numbers; empty if there are.
    """

    name: str
    parameters: int = 0
    macs: int = 0
    forward_seconds: Sequence[float] = ()
    step_seconds: Sequence[float] = ()
    peak_bytes: int = 0
    failure: str = ""

    def cells(self, reference: "BackboneTiming | None") -> list[str]:
        """Return the texts below `HEADINGS`."""
        if self.failure:
            reason = f"failed: {self.failure}".replace("|", "/")  # a bar would start a new column
            return [self.name, *["-"] * (len(HEADINGS) - 2), reason]
        cells = [self.name, f"{self.parameters / 1e6:.3f}", f"{self.macs / 1e9:.3f}"]
        for kind in ("forward_seconds", "step_seconds"):
            median = statistics.median(getattr(self, kind))
            compared = getattr(reference, kind, ())
            cells += [f"{1e3 * median:.1f}"]
            cells += [f"{median / statistics.median(compared):.2f}" if compared else "-"]
        runs = f"{len(self.forward_seconds)} + {len(self.step_seconds)}"
        return [*cells, f"{self.peak_bytes / 1e6:.0f}", runs]


def chosen_backbones(text: str) -> list[str]:
    """Read `all`, or names separated by commas or spaces; a wrong name is the registry's ValueError."""
    names = list(dict.fromkeys(text.replace(",", " ").split()))
    if not names:
        raise ValueError("expected 'all' or names of backbones such as 'Unet,ConvNeXtUnet'; got nothing.")
    if names == ["all"]:
        return list_backbones()
    for name in names:
        backbone_class(name)
    return names


def benchmark_backbones(names: list[str], conditions: Conditions) -> list[BackboneTiming]:
    """Measure backbones one after the other and tell the progress on stderr.

    Args:
        names: Registered names; `Unet` is measured with them if it is missing, as the others are compared
            with it.
        conditions: What to measure with.

    Returns:
        One line per backbone; one that fails has its reason instead of numbers.
    """
    names = names if REFERENCE in names else [REFERENCE, *names]
    minutes = len(names) * (2 * conditions.seconds + 10) / 60
    print(f"{len(names)} backbones: {minutes:.1f} minutes; large ones take longer", file=sys.stderr)
    timings = []
    for number, name in enumerate(names, start=1):
        print(f"[{number}/{len(names)}] {name} ...", end=" ", flush=True, file=sys.stderr)
        start = time.perf_counter()
        timings.append(measure_apart(name, conditions))
        outcome = timings[-1].failure and f"failed: {timings[-1].failure}, "
        print(f"{outcome}{time.perf_counter() - start:.0f} s", flush=True, file=sys.stderr)
    return timings


def markdown_table(timings: list[BackboneTiming], conditions: Conditions) -> str:
    """Return the conditions as a list and the timings as a table that is aligned in a terminal too."""
    reference = next((row for row in timings if row.name == REFERENCE and not row.failure), None)
    rows = [list(HEADINGS), *(timing.cells(reference) for timing in timings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # A reason of a failure may be long; it widens its own line alone.
    widths[-1] = max(len(row[-1]) for row in rows if not row[-1].startswith("failed"))
    rows.insert(1, [width * "-" if not i else (width - 1) * "-" + ":" for i, width in enumerate(widths)])
    lines = []
    for name, *others in rows:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"| {name.ljust(widths[0])} | {' | '.join(padded)} |")
    return "\n".join([str(conditions), "", *lines, ""])


def measure_apart(name: str, conditions: Conditions) -> BackboneTiming:
    """Measure one backbone in a fresh process, whose end, whatever its reason, is a line of the table."""
    task = json.dumps([name, asdict(conditions)])
    command = [sys.executable, "-m", "keypoint_detection.backbone_benchmark", task]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        stopped = signal.Signals(-done.returncode)
        reason = " (out of memory?)" if stopped == signal.SIGKILL else ""
        return BackboneTiming(name, failure=f"ended by {stopped.name}{reason}")
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return BackboneTiming(name, failure=last)
    return BackboneTiming(**json.loads(done.stdout.splitlines()[-1]))


def measure(name: str, conditions: Conditions) -> BackboneTiming:
    """Measure one backbone in this process, which must be a fresh one for `peak_bytes` to be its own."""
    torch.set_num_threads(conditions.threads)
    parameters, macs = network_size(name, conditions.image_hw)
    # PyTorch loads parts of itself in its first step; they are not the backbone's memory.
    training_step(HeatmapNetwork(REFERENCE), torch.rand(1, 3, 8, 8))()
    memory_before = memory_bytes("VmRSS", conditions.device)
    torch.manual_seed(0)
    with torch.device(conditions.device):
        network = HeatmapNetwork(name)
        shape = (conditions.batch_size, network.backbone.in_channels, *conditions.image_hw)
        images = torch.randint(0, 256, shape) / 255
        step_seconds = timed_runs(training_step(network, images), conditions)
        peak_bytes = max(memory_bytes("VmHWM", conditions.device) - memory_before, 0)
        network.zero_grad()
        forward_seconds = timed_runs(forward_pass(network, images[:1]), conditions)
    return BackboneTiming(name, parameters, macs, forward_seconds, step_seconds, peak_bytes)


def network_size(name: str, image_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the parameters of a backbone with a head of one heatmap, and its multiply-adds for one image."""
    with torch.device("meta"):  # shapes without numbers: takes no memory, and attention as plain products
        network = HeatmapNetwork(name).eval()
        image = torch.empty(1, network.backbone.in_channels, *image_hw)
        return count_parameters(network), count_macs(network, image)


def count_macs(network: nn.Module, image: Tensor) -> int:
    """Return the multiply-adds of the convolutions, matrix products and attention of a forward pass."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops() // 2


def training_step(network: HeatmapNetwork, images: Tensor) -> Callable[[], None]:
    """Return a function that takes a step of AdamW on `[n, c_in, h, w]` towards empty heatmaps."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    rows, columns = (-(-side // network.backbone.stride) for side in images.shape[-2:])
    target = images.new_zeros(len(images), 1, rows, columns)

    def step() -> None:
        optimizer.zero_grad()
        losses = [F.binary_cross_entropy_with_logits(logits, target) for logits in network(images)]
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step


def forward_pass(network: HeatmapNetwork, image: Tensor) -> Callable[[], None]:
    """Return a function that predicts in evaluation mode, without gradients."""
    network.eval()

    def forward() -> None:
        with torch.inference_mode():
            network(image)

    return forward


def timed_runs(work: Callable[[], object], conditions: Conditions) -> list[float]:
    """Return the seconds of some calls, after one that is counted only if it was very slow."""
    first = _seconds(work, conditions.device)
    if first > SLOW_SECONDS:
        return [first]
    times: list[float] = []
    while len(times) < LEAST_RUNS or (len(times) < MOST_RUNS and sum(times) < conditions.seconds):
        times.append(_seconds(work, conditions.device))
    return times


def _seconds(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_bytes(kind: str, device: str) -> int:
    """Return the memory of this process in bytes; on a GPU the most that its tensors took.

    Linux is asked for `VmRSS` or `VmHWM`, as `ru_maxrss` of a new process starts at the size of the process
    that started it; other systems are asked for `ru_maxrss`.

    Args:
        kind: `VmRSS`, what is taken now, or `VmHWM`, the most so far.
        device: `cpu` or `cuda`.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    for line in _lines("/proc/self/status"):
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor_name(device: str = "cpu") -> str:
    """Return the name of the GPU or of the processor, as far as the system tells it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    models = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()


def _lines(path: str) -> list[str]:
    """Return the lines of a file that only Linux has, else none."""
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []


def main(task: str) -> None:
    """Measure what `measure_apart` asks for and print it as one line of JSON."""
    name, conditions = json.loads(task)
    try:
        timing = measure(name, Conditions(**conditions))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        timing = BackboneTiming(name, failure=reason[:200])
    print(json.dumps(asdict(timing)))


if __name__ == "__main__":
    main(sys.argv[1])
