"""Where the time of a training goes: seconds by phase, as a table with advice."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

VALIDATION = "validation"
PHASES = (
    "data wait",
    "host to device",
    "forward",
    "targets + loss",
    "backward",
    "optimiser",
    VALIDATION,
    "checkpoints",
    "logging",
    "other",
)

KEPT_IN_VALIDATION = (VALIDATION, "checkpoints", "logging")
"""Phases that count for themselves while a validation is open; all others are part of it."""

FEW_STEPS_PER_MINUTE = 60
MUCH_DATA_WAIT, MUCH_FORWARD, MUCH_VALIDATION, MUCH_OVERHEAD = 0.10, 0.75, 0.30, 0.05
LARGE_PIXELS = 320 * 320


@dataclass
class PhaseTimes:
    """Count time once: each moment belongs to the innermost phase that is open.

    Attributes:
        clock: Gives seconds.
        seconds: Time by phase.
        n_steps: Training steps, counted by the caller.
    """

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    n_steps: int = 0
    _open: list[tuple[str, str]] = field(default_factory=list)
    _since: float | None = None

    def start(self, name: str, phase: str | None) -> None:
        """Open a phase under a name; None goes on with the phase around it."""
        self._credit()
        around = self.current
        is_part = around == VALIDATION and phase not in KEPT_IN_VALIDATION
        self._open.append((name, around if phase is None or is_part else phase))

    def stop(self, name: str) -> None:
        """Close what was opened last under a name; nothing happens if there is none."""
        self._credit()
        for index in reversed(range(len(self._open))):
            if self._open[index][0] == name:
                del self._open[index]
                return

    @property
    def current(self) -> str:
        """Return the phase that time is counted for now."""
        return self._open[-1][1] if self._open else "other"

    def _credit(self) -> None:
        now = self.clock()
        if self._since is not None:
            self.seconds[self.current] += now - self._since
        self._since = now

    def table(self) -> str:
        """Return a line per phase: seconds, share of all, and milliseconds per step."""
        total = sum(self.seconds.values()) or 1.0
        lines = [f"{'where the time went':20}{'seconds':>10}{'share':>9}{'ms / step':>12}"]
        for phase, seconds in [*self.seconds.items(), ("total", sum(self.seconds.values()))]:
            per_step = f"{1e3 * seconds / self.n_steps:12.1f}" if self.n_steps else f"{'-':>12}"
            lines.append(f"{phase:20}{seconds:10.2f}{100 * seconds / total:8.1f} %{per_step}")
        return "\n".join(lines)


def advice(times: PhaseTimes, image_hw: tuple[int, int], output_stride: int, device: str) -> list[str]:
    """Return what would make the training faster, one sentence per finding.

    Args:
        times: Seconds by phase.
        image_hw: Height and width of the network's input in pixels.
        output_stride: Image pixels per heatmap pixel.
        device: `cpu` or `cuda`.
    """
    total = sum(times.seconds.values()) or 1.0
    share = {phase: seconds / total for phase, seconds in times.seconds.items()}
    found = []
    if share["data wait"] > MUCH_DATA_WAIT:
        found.append("the device waits for images: more --num_workers, or --cache ram")
    network = share["forward"] + share["backward"]
    network_seconds = times.seconds["forward"] + times.seconds["backward"]
    per_minute = 60 * times.n_steps / network_seconds if network_seconds else FEW_STEPS_PER_MINUTE
    if network > MUCH_FORWARD and per_minute < FEW_STEPS_PER_MINUTE:
        found.append(_cheaper_network(image_hw, output_stride, per_minute))
    if device == "cuda" and network > MUCH_FORWARD:
        found.append("the network dominates: --precision bf16-mixed, --channels_last and --compile")
    if share["validation"] > MUCH_VALIDATION:
        found.append("much of the time is validation: a larger --check_val_every_n_epoch or --ap_epoch_freq")
    if share["checkpoints"] > MUCH_OVERHEAD:
        found.append("checkpoints take long: write them less often, or to a faster disk")
    if share["logging"] > MUCH_OVERHEAD:
        found.append("logging takes long: a larger --log_every_n_steps")
    return found or ["nothing stands out"]


def _cheaper_network(image_hw: tuple[int, int], output_stride: int, per_minute: float) -> str:
    height, width = image_hw
    flags = []
    if height * width > LARGE_PIXELS:
        flags.append(f"--image_size {height // 2}x{width // 2} (now {height}x{width})")
    if output_stride == 1:
        flags.append("--output_stride 2")
    flags.append("a smaller backbone, or --frozen_features")
    return f"the network dominates, with {per_minute:.0f} steps per minute: {', '.join(flags)}"
