"""The settings of checkpoints to resume from and of faults that a training lives with."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LAST = "last"
"""`--ckpt_path` that goes on with a run where it is, and begins it where it is not."""

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_WORDS = {
    **dict.fromkeys(("steps", "step", ""), "steps"),
    **dict.fromkeys(("s", "sec", "seconds", "second"), "s"),
    **dict.fromkeys(("m", "min", "minutes", "minute"), "m"),
    **dict.fromkeys(("h", "hours", "hour"), "h"),
}


def _checked_interval(value: Any) -> str:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
    unit = _WORDS.get(match[2]) if match else None
    if match is None or unit is None or float(match[1]) <= 0 or (unit == "steps" and "." in match[1]):
        raise ValueError("expected steps or a time above 0, such as '500 steps', 10m, 30s or 2h")
    return f"{match[1]} steps" if unit == "steps" else f"{match[1]}{unit}"


Interval = Annotated[str, BeforeValidator(_checked_interval)]


class ResumeConfig(BaseModel):
    """Hold what a training does so that it can be resumed, and against faults."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    checkpoint_every: Interval = Field(
        default="10m",
        description="write last.ckpt this often, '500 steps', 10m or 2h, and at the end of every epoch",
    )
    max_failed_checkpoints: int = Field(
        default=5, ge=1, description="stop when this many checkpoints in a row could not be written"
    )
    skip_unreadable: bool = Field(
        default=False,
        description="replace training images that cannot be read by the next ones, and count them at the end",
    )

    @property
    def checkpoint_steps(self) -> int | None:
        """Return the optimiser steps between two checkpoints, if they are counted in steps."""
        number, is_steps, _ = self.checkpoint_every.partition(" steps")
        return int(number) if is_steps else None

    @property
    def checkpoint_seconds(self) -> float | None:
        """Return the seconds between two checkpoints, if they are counted in time."""
        if self.checkpoint_steps is not None:
            return None
        return float(self.checkpoint_every[:-1]) * _UNITS_S[self.checkpoint_every[-1]]
