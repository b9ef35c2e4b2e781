import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keypoint_detection.utils.load_checkpoints import load_model, wandb_checkpoint


def stand_in(files: dict[str, Path], asked: list[str]) -> Any:
    """Return a module that acts as wandb with one artifact of these files."""

    def download(root: str) -> str:
        for name, source in files.items():
            shutil.copy(source, Path(root) / name)
        return root

    artifact = SimpleNamespace(manifest=SimpleNamespace(entries=dict(files)), download=download)
    api = SimpleNamespace(artifact=lambda name: asked.append(name) or artifact)
    return SimpleNamespace(Api=lambda: api)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_an_artifact_gives_its_best_checkpoint_for_a_while(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").write_bytes(b"")
    asked: list[str] = []
    files = {"a.ckpt": tmp_path / "other", "best.ckpt": tiny_checkpoint}
    monkeypatch.setitem(sys.modules, "wandb", stand_in(files, asked))
    with wandb_checkpoint("me/mice/model-1a2b:v3") as path:
        assert path.name == "best.ckpt"
        assert load_model(path).channel_names == load_model(tiny_checkpoint).channel_names
    assert asked == ["me/mice/model-1a2b:v3"]
    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["model:v1", "mice/model:v1", "me/mice/model", "a/b/c/d:v1", "a/b/c d:v1", ""]
)
def test_another_form_of_the_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected entity/project/name:version"), wandb_checkpoint(name):
        pass


def test_offline_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(sys.modules, "wandb", None)  # not even imported
    expected = r"WANDB_MODE is 'offline'; unset it.*--init_weights"
    with pytest.raises(ValueError, match=expected) as caught, wandb_checkpoint("e/p/n:v1"):
        pass
    assert "\n" not in str(caught.value)


def test_a_failure_of_wandb_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=fail))
    expected = r"wandb did not give e/p/n:v1 \(no route to host\)"
    with pytest.raises(ValueError, match=expected), wandb_checkpoint("e/p/n:v1"):
        pass


def test_wandb_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="needs wandb: pip install wandb"), wandb_checkpoint("e/p/n:v1"):
        pass


def test_an_artifact_without_a_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", stand_in({"table.json": tmp_path / "none"}, []))
    with pytest.raises(ValueError, match=r"holds no \.ckpt file"), wandb_checkpoint("e/p/n:v1"):
        pass
