"""What a resumed training needs beside weights and optimiser, as plain values that a checkpoint can hold."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import distributed

Boundary = Literal["epoch", "batch", "validation"]
"""Where a checkpoint is taken: before an epoch, before a batch, or before a validation that is due."""

_COUNTERS = ("ready", "completed", "started", "processed")
_MODULE_NAMES = ("latest_map", "latest_score_epoch")
_EPOCH_LOOP = "epoch_loop"


def random_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators, and that of the current GPU."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - libraries draw from it
    state = {
        "python": random.getstate(),
        "numpy": [numpy_state[0], numpy_state[1].tolist(), *(value for value in numpy_state[2:])],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the generators to what `random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, words, *rest = state["numpy"]
    np.random.set_state((name, np.array(words, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def of_every_process(value: Any) -> list[Any]:
    """Return the value of each process, in order of rank; every process has to call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def settle_loops(fit_loop: dict[str, Any], boundary: Boundary) -> None:
    """Write into the state of Lightning's loops that all begun is done, so that it is resumed exactly there.

    Args:
        fit_loop: The state that `fit_loop.state_dict()` returned; it is changed.
        boundary: Where the training is.
    """
    batches = fit_loop[f"{_EPOCH_LOOP}.batch_progress"]
    validation = fit_loop[f"{_EPOCH_LOOP}.val_loop.batch_progress"]
    if boundary == "epoch":
        _set_to_completed(fit_loop["epoch_progress"])
        batches["current"] = dict.fromkeys(_COUNTERS, 0)
    if boundary != "validation":
        _set_to_completed(batches)
        batches["is_last_batch"] = False
        return
    # Lightning repeats a validation as a whole if one of its batches has been begun.
    validation["current"] = dict.fromkeys(_COUNTERS, 0)
    validation["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


def _set_to_completed(progress: dict[str, Any]) -> None:
    for part in ("total", "current"):
        progress[part] = dict.fromkeys(_COUNTERS, progress[part]["completed"])


def epoch_sums(trainer: pl.Trainer) -> list[dict[str, Any]]:
    """Return the running sums behind the logged means of this epoch's training steps."""
    sums = []
    for metric in trainer.fit_loop.epoch_loop._results.values():
        meta = metric.meta
        if metric.is_tensor and not metric.has_reset and meta.on_epoch and meta.is_mean_reduction:
            options = {name: getattr(meta, name) for name in ("prog_bar", "logger", "on_step", "on_epoch")}
            options |= {"sync_dist": meta.sync.should, "rank_zero_only": meta.sync.rank_zero_only}
            value, size = metric.value.detach().cpu(), metric.cumulated_batch_size.cpu()
            sums.append({"fx": meta.fx, "name": meta.name, "options": options, "value": value, "size": size})
    return sums


def set_epoch_sums(trainer: pl.Trainer, sums: Sequence[Mapping[str, Any]], device: torch.device) -> None:
    """Let the logged means of this epoch go on from the sums of the steps before."""
    results: Any = trainer.fit_loop.epoch_loop._results
    for entry in sums:
        nothing = torch.zeros((), dtype=entry["value"].dtype, device=device)
        results.log(
            entry["fx"],
            entry["name"],
            nothing,
            **entry["options"],
            sync_dist_fn=trainer.strategy.reduce,
            batch_size=0,
        )
        metric = results[f"{entry['fx']}.{entry['name']}"]
        metric.value, metric.cumulated_batch_size = entry["value"].to(device), entry["size"].to(device)


def training_state(
    trainer: pl.Trainer, pl_module: pl.LightningModule, boundary: Boundary | None
) -> dict[str, Any]:
    """Return everything that `apply_training_state` restores; every process has to call it.

    Args:
        trainer: In the middle of a fit.
        pl_module: The detector; of another module less is kept.
        boundary: Where the training is; None when a validation has just ended.
    """
    metrics = {name: torch.as_tensor(value).cpu() for name, value in trainer.callback_metrics.items()}
    return {
        "boundary": boundary,
        "random": of_every_process(random_state()),
        "epoch_sums": epoch_sums(trainer),
        "callback_metrics": metrics,
        "module": {name: getattr(pl_module, name) for name in _MODULE_NAMES if hasattr(pl_module, name)},
        "logged_step": trainer.fit_loop.epoch_loop._batches_that_stepped,
        "batches_done": trainer.fit_loop.epoch_loop.batch_progress.current.completed,
        "loader": _loader_state(trainer),
    }


def fast_forward(trainer: pl.Trainer, state: Mapping[str, Any]) -> None:
    """Let the training loader go on after the batches that are done; see `ResumableLoader`."""
    loader: Any = trainer.train_dataloader
    if state["batches_done"] >= trainer.num_training_batches:
        return  # none is left in this epoch: the next one is whole
    if state["boundary"] != "epoch" and state["loader"] and hasattr(loader, "load_state_dict"):
        loader.load_state_dict({**state["loader"], "batches_done": state["batches_done"]})


def apply_training_state(
    trainer: pl.Trainer, pl_module: pl.LightningModule, state: Mapping[str, Any]
) -> None:
    """Restore what `training_state` returned, just before the step or hook that comes next."""
    states = state["random"]
    if trainer.global_rank < len(states):
        set_random_state(states[trainer.global_rank])
    if state["boundary"] != "epoch":
        set_epoch_sums(trainer, state["epoch_sums"], pl_module.device)
    trainer.callback_metrics.update(state["callback_metrics"])
    for name, value in state["module"].items():
        setattr(pl_module, name, value)


def go_on_in_epoch(trainer: pl.Trainer, pl_module: pl.LightningModule, state: Mapping[str, Any]) -> None:
    """Do before the first step what Lightning leaves out in the middle of an epoch."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = state["logged_step"]
    trainer._logger_connector._first_loop_iter = False  # or the sums would be set to zero
    pl_module.on_train_epoch_start()  # such as a backbone that has been let go


def _loader_state(trainer: pl.Trainer) -> dict[str, int]:
    loader: Any = trainer.train_dataloader
    return dict(loader.state_dict()) if hasattr(loader, "state_dict") else {}
