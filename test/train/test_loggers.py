import importlib.util
from pathlib import Path

import pytest

from keypoint_detection.train import loggers
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.loggers import build_loggers


def names(folder: Path, logger: str) -> list[str]:
    config = TrainConfig(json_dataset_path="x", logger=logger)
    return [type(one).__name__ for one in build_loggers(config, folder)]


def test_csv_is_always_written(tmp_path: Path) -> None:
    assert names(tmp_path, "csv") == ["DurableCSVLogger"]
    assert names(tmp_path, "tensorboard") == ["DurableCSVLogger", "TensorBoardLogger"]
    assert names(tmp_path, "wandb,tensorboard") == ["DurableCSVLogger", "WandbLogger", "TensorBoardLogger"]


@pytest.mark.parametrize(
    ("library", "requirement"),
    [("tensorboard", r"pip install 'keypoint-detection\[tensorboard\]'"), ("wandb", "pip install 'wandb'")],
)
def test_a_missing_library_is_named_with_its_extra(
    library: str, requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest)
    )
    with pytest.raises(ValueError, match=f"--logger {library} needs {library}: {requirement}"):
        names(tmp_path, library)


def test_a_login_is_looked_for_without_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not loggers._wandb_is_logged_in()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert loggers._wandb_is_logged_in()
