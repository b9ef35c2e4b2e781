import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keypoint_detection.callbacks_resume import StoppedBySignal
from keypoint_detection.gaze.train_config import GazeTrainConfig
from keypoint_detection.train.named_runs import fit, resolve_checkpoint, run_folder
from keypoint_detection.train.resume import TrainingInterrupted
from keypoint_detection.visibility.train_config import VisibilityTrainConfig

CONFIGS = [GazeTrainConfig, VisibilityTrainConfig]


def begun(root: Path) -> Path:
    path = root / "one" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_run_is_found_by_name_folder_or_file(kind: Any, tmp_path: Path) -> None:
    last = begun(tmp_path)
    for given in (
        {"ckpt_path": "last", "run_name": "one"},
        {"ckpt_path": last},
        {"ckpt_path": last.parents[1]},
    ):
        values = {name: str(value) for name, value in given.items()}
        config = kind(data="people.json", default_root_dir=str(tmp_path), **values)
        assert resolve_checkpoint(config) == last
        assert run_folder(config, last, "new") == tmp_path / "one"
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        resolve_checkpoint(kind(data="people.json", ckpt_path=str(tmp_path / "none.ckpt")))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_run_that_is_not_there_begins_and_one_that_is_is_not_lost(kind: Any, tmp_path: Path) -> None:
    begun(tmp_path)
    absent = kind(data="d", default_root_dir=str(tmp_path), ckpt_path="last", run_name="two")
    assert resolve_checkpoint(absent) is None
    assert run_folder(absent, None, "new") == tmp_path / "two"
    assert run_folder(kind(data="d", default_root_dir=str(tmp_path)), None, "new").name.startswith("new-2")
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        run_folder(kind(data="d", default_root_dir=str(tmp_path), run_name="one"), None, "new")


@pytest.mark.parametrize(
    ("stop", "number"),
    [(KeyboardInterrupt(), signal.SIGINT), (StoppedBySignal(signal.SIGTERM), signal.SIGTERM)],
)
def test_a_stop_says_how_to_go_on(stop: BaseException, number: int, tmp_path: Path) -> None:
    def stopping(*_: Any, **__: Any) -> None:
        raise stop

    trainer: Any = SimpleNamespace(fit=stopping, default_root_dir=tmp_path / "one", current_epoch=3)
    model: Any = None
    with pytest.raises(TrainingInterrupted, match="in epoch 3; no step was finished"):
        fit(trainer, model, [], None)
    last = begun(tmp_path)
    with pytest.raises(TrainingInterrupted, match=f"resume with --ckpt_path {last}") as stopped:
        fit(trainer, model, [], None)
    assert stopped.value.number == number
