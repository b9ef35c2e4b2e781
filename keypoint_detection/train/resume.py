"""Find the checkpoint to resume from, refuse one that does not fit, say how an interrupted run goes on."""

import logging
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml

from keypoint_detection.callbacks_faults import FiniteLoss
from keypoint_detection.callbacks_resume import LastCheckpoint
from keypoint_detection.models.backbones.backbone_factory import without_weights
from keypoint_detection.models.optimization import optimizer_groups
from keypoint_detection.train.config import TrainConfig, config_to_yaml
from keypoint_detection.train.faults import remove_leftovers
from keypoint_detection.train.resume_config import LAST

logger = logging.getLogger("keypoint_detection")

_MAY_DIFFER = ("ckpt_path", "run_name", "default_root_dir", "init_weights")
_MODEL_SETTINGS = {
    "backbone_type": "--backbone_type",
    "backbone_options": "options of the backbone",
    "head": "--head",
    "keypoint_channel_configuration": "--keypoint_channel_configuration",
}
_TRAINED_SETTINGS = ("freeze_backbone", "unfreeze_epoch", "layer_decay")
"""Settings that say which parameters the optimiser has, and in which groups."""


class TrainingInterrupted(RuntimeError):
    """A training was asked to stop: the message says where it stopped and how to go on.

    Attributes:
        number: The signal.
        exit_code: What the process returns: 1 after Ctrl-C, else 128 + the signal, as shells have it.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number
        self.exit_code = 1 if number == signal.SIGINT else 128 + number


def resume_callbacks(config: TrainConfig, folder: Path) -> list[pl.Callback]:
    """Return the checkpoint to resume from and the guard of the weights that go into it."""
    path = folder / "checkpoints" / "last.ckpt"
    last = LastCheckpoint(path, config.checkpoint_steps, config.checkpoint_seconds)
    return [FiniteLoss(path), last]


def resolve_checkpoint(config: TrainConfig) -> TrainConfig:
    """Return the configuration with `ckpt_path` as a file.

    A folder of a run means its `last.ckpt`. `last` means that of `--run_name`, else that of the newest run in
    `--default_root_dir`; where there is none yet the training begins, so that the same command starts a run
    and continues it.

    Raises:
        FileNotFoundError: The folder has no checkpoint.
    """
    if not config.ckpt_path:
        return config
    given = Path(config.ckpt_path)
    if config.ckpt_path == LAST and not given.exists():
        return _with_checkpoint(config, _last_checkpoint(config))
    if not given.is_dir():
        return config
    found = [path for path in (given / "checkpoints" / "last.ckpt", given / "last.ckpt") if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"--ckpt_path: expected the folder of a run with checkpoints/last.ckpt: {given}"
        )
    return _with_checkpoint(config, found[0])


def _with_checkpoint(config: TrainConfig, path: Path | None) -> TrainConfig:
    logger.info("resuming from %s" if path else "no checkpoint to resume from yet: %s", path or "a new run")
    return config.model_copy(update={"ckpt_path": str(path) if path else None})


def _last_checkpoint(config: TrainConfig) -> Path | None:
    root = Path(config.default_root_dir)
    runs = root.glob("*/") if config.run_name is None else [root / config.run_name]
    paths = [run / "checkpoints" / "last.ckpt" for run in runs]
    return max(
        (path for path in paths if path.is_file()), key=lambda path: path.stat().st_mtime, default=None
    )


def check_resumable(path: str | Path, checkpoint: Mapping[str, Any], detector: pl.LightningModule) -> None:
    """Refuse a checkpoint of another model or optimiser, before anything is loaded or written.

    Raises:
        ValueError: Channels, backbone, head or the parameters that are trained differ, or it holds weights
            alone; one line that names the flags and both values.
    """
    differing = []
    for name, flag in _MODEL_SETTINGS.items():
        there, here = (
            _comparable(name, values) for values in (checkpoint["hyper_parameters"], detector.hparams)
        )
        if there != here:
            differing.append(f"{flag}: {there} there, {here} here")
    if differing:
        raise ValueError(
            f"--ckpt_path {path}: expected a checkpoint of the same model, got one that differs in "
            f"{'; '.join(differing)}; give it the same flags, or start from its weights with --init_weights"
        )
    _check_optimiser(path, checkpoint, detector)


def _check_optimiser(path: str | Path, checkpoint: Mapping[str, Any], detector: Any) -> None:
    """Refuse a checkpoint without the state of an optimiser, or with that of other parameters."""
    states = checkpoint.get("optimizer_states")
    if not states:
        raise ValueError(
            f"--ckpt_path {path}: expected the checkpoint of a training, got weights without the state of an "
            f"optimiser; start a new run from them with --init_weights {path}"
        )
    there, here = (
        [len(group["params"]) for group in groups]
        for groups in (states[0]["param_groups"], optimizer_groups(detector, 1.0))
    )
    if there == here:
        return
    settings = [(name, checkpoint["hyper_parameters"].get(name)) for name in _TRAINED_SETTINGS]
    differing = [
        f"--{name} {then} there, {detector.hparams[name]} here"
        for name, then in settings
        if then != detector.hparams[name]
    ]
    raise ValueError(
        f"--ckpt_path {path}: expected an optimiser of {sum(here)} tensors, got one of {sum(there)}: "
        f"{'; '.join(differing) or 'another version trained them'}; give it the same flags, or start a new "
        f"run from its weights with --init_weights {path}"
    )


def _comparable(name: str, hparams: Mapping[str, Any]) -> Any:
    value = hparams.get(name)
    if name == "backbone_options":
        return without_weights(value or {})
    return [list(channel) for channel in value or ()] if name == "keypoint_channel_configuration" else value


def changed_flags(config: TrainConfig, folder: Path) -> list[str]:
    """Return how this configuration differs from the `config.yaml` of the run that it continues."""
    try:
        before = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []
    now = yaml.safe_load(config_to_yaml(config))
    names = [name for name in now if name in before and name not in _MAY_DIFFER]
    return [f"--{name} {before[name]} -> {now[name]}" for name in names if before[name] != now[name]]


def prepare_folder(config: TrainConfig, folder: Path) -> None:
    """Say which flags changed since the run was begun, and clear away half-written checkpoints."""
    changed = changed_flags(config, folder)
    if changed:
        logger.warning("resumed with other flags than the run began with: %s", ", ".join(changed))
    remove_leftovers(folder / "checkpoints")


def interrupted(trainer: pl.Trainer, folder: Path, number: int, asked_for: str | None) -> TrainingInterrupted:
    """Return the error of a training that was asked to stop; on SLURM's warning queue the job again.

    Args:
        trainer: The training.
        folder: Folder of the run.
        number: The signal.
        asked_for: `--ckpt_path` as it was given: a job that has `last` there continues by itself.
    """
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resume = f"resume with --ckpt_path {checkpoint}" if checkpoint.is_file() else "no step was finished"
    is_warning = number == getattr(signal, "SIGUSR1", None) and "SLURM_JOB_ID" in os.environ
    if is_warning and trainer.is_global_zero:
        resume += f"; {_requeue(asked_for)}"
    return TrainingInterrupted(f"interrupted in epoch {trainer.current_epoch}; {resume}", number)


def _requeue(asked_for: str | None) -> str:
    """Put this SLURM job back in the queue if it continues by itself; return what happened."""
    job = slurm_job(os.environ)
    if asked_for != LAST:
        return "with --run_name NAME --ckpt_path last the job would be queued again and continue by itself"
    command: Sequence[str] = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"job {job} is not queued again ({error.strerror}); run: {' '.join(command)}"
    if done.returncode == 0:
        return f"job {job} is queued again"
    return f"job {job} is not queued again ({' '.join(done.stderr.split())}); run: {' '.join(command)}"


def slurm_job(environment: Mapping[str, str]) -> str:
    """Return the number of this SLURM job, with that of the task in an array."""
    array = environment.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else environment["SLURM_JOB_ID"]
    if not re.fullmatch(r"[0-9_]+", job):
        raise ValueError(f"expected the number of a SLURM job, got {job!r}")
    return job
