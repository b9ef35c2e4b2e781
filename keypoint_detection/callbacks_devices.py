"""What several processes of one training owe each other: when one ends, none of them waits for ever."""

import ctypes
import os
import signal
import sys
import threading
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback

GRACE_S = 30.0
"""How long a process that failed may wait for the others, in seconds."""

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


class EndTogether(Callback):
    """End every process of a training when one of them fails or is killed.

    - A process that fails alone would wait in its last checkpoint for processes that wait for its gradients.
      After a time of grace it ends, with the error; torchrun, SLURM or Lightning then ends the others.
    - A process that Lightning started ends with the first one, also when that one is killed. torchrun and
      SLURM see to this themselves.

    Args:
        grace_s: Seconds from a failure to the end, whatever the process waits for.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tie a process that Lightning started to the one that started it."""
        environment = trainer._accelerator_connector.cluster_environment
        is_started_here = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        if is_started_here and sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() == 1:  # it has died meanwhile
                os._exit(1)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Begin the time of grace."""
        if trainer.world_size > 1:
            timer = threading.Timer(self.grace_s, _end, (trainer.global_rank, exception))
            timer.daemon = True  # a process that gets away in time is not kept
            timer.start()


def _end(rank: int, exception: Any) -> None:
    """Say what failed and end this process, which hangs in a call that no exception reaches."""
    text = " ".join(str(exception).split()) or type(exception).__name__
    print(f"[rank: {rank}] error: {text}", file=sys.stderr, flush=True)
    os._exit(1)
