"""Which checkpoints a training of gaze following can go on from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.models.backbones.backbone_factory import WEIGHT_OPTIONS
from keypoint_detection.utils.load_checkpoints import is_gaze_checkpoint, read_any_checkpoint

_SAME = ("decoder", "conditioner_options", "decoder_options", "scene_hw", "head_hw", "frozen")
_MAY_DIFFER = {"sampler", "sampling_steps", "eta", *WEIGHT_OPTIONS}
"""Options that say how maps are drawn, or where the first weights came from."""


def check_resumable(path: Path, follower: GazeFollower, *, is_averaged: bool) -> None:
    """Refuse a checkpoint that a training cannot go on from, before anything is written.

    Args:
        path: The checkpoint.
        follower: The network that is to go on.
        is_averaged: Its weights will be averaged.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another network, or holds weights alone; one line.
    """
    content = read_any_checkpoint(path)
    if not is_gaze_checkpoint(content):
        raise ValueError(f"--ckpt_path: expected a checkpoint of gaze train, got {path}")
    if not content.get("optimizer_states"):
        raise ValueError(
            f"--ckpt_path {path}: expected the checkpoint of a training, got weights alone; start a new run "
            f"from them with --init_weights {path}"
        )
    there, here = ({name: values.get(name) for name in _SAME} for values in _settings(content, follower))
    apart = list(_differences("", there, here))
    if apart:
        raise ValueError(
            f"--ckpt_path {path}: expected a checkpoint of the same network, got {'; '.join(apart[:4])}"
        )
    if "averaging_state" in content and not is_averaged:
        raise ValueError(
            f"--ckpt_path {path}: the run was trained with averaged weights; give --ema_decay again, or "
            "start a new run from the average with --init_weights"
        )


def _settings(content: Mapping[str, Any], follower: GazeFollower) -> tuple[Mapping[str, Any], ...]:
    return content["hyper_parameters"], follower.hparams


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """Name the settings that differ, as `name: value there, value here`."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in {**there, **here}:
            if key not in _MAY_DIFFER:
                yield from _differences(key, there.get(key), here.get(key))
    elif _plain(there) != _plain(here):
        yield f"{name}: {there} there, {here} here"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
