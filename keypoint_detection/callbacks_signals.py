"""Signals that ask a training to stop: noted at once, obeyed between two steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)
"""Ctrl-C; the end of a job, of a machine or of a container; SLURM's warning (`--signal=USR1@120`)."""


class StopRequest:
    """Note the first signal; the second Ctrl-C interrupts at once.

    In the middle of a step the weights may be half-changed, so that nobody could go on from there exactly.

    Attributes:
        number: The signal that came; None as long as none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._former: dict[int, Any] = {}

    def listen(self) -> None:
        """Take the signals over from whoever had them; only a main thread can."""
        self.number = None
        if threading.current_thread() is threading.main_thread() and not self._former:
            self._former = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}

    def give_back(self) -> None:
        """Let those have the signals who had them before."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number is not None:
            raise KeyboardInterrupt
        if self.number is None:
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            name = signal.Signals(number).name
            os.write(2, f"\n{name}: saving a checkpoint after this step, then stopping{again}\n".encode())
            self.number = number
