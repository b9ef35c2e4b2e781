from pathlib import Path

import pytest
import timm
import torch

from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.utils.load_checkpoints import load_model


def test_a_checkpoint_gives_the_trained_weights_in_eval_mode(tiny_checkpoint: Path) -> None:
    detector = load_model(tiny_checkpoint)
    saved = torch.load(tiny_checkpoint, weights_only=True)["state_dict"]
    assert not detector.training
    assert set(saved) == set(detector.state_dict())
    assert all(torch.equal(saved[name], value) for name, value in detector.state_dict().items())


def test_loading_never_asks_for_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = KeypointDetector([["a"]], "ConvNeXtUnet", {"encoder": "convnext_atto"})
    hparams = dict(detector.hparams)
    hparams["backbone_options"] = {"encoder": "convnext_atto", "pretrained": True}
    path = tmp_path / "pretrained.ckpt"
    torch.save({"hyper_parameters": hparams, "state_dict": detector.state_dict()}, path)
    asked, build = [], timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **k: asked.append(k.get("pretrained")) or build(*a, **k)
    )
    assert load_model(path).backbone.stride == 1
    assert asked
    assert not any(asked)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.ckpt"):
        load_model(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    "content",
    [b"", b"no checkpoint", b"PK\x03\x04 broken zip", b"\x80\x02K*.", b"epoch,step", b"R", b"seed: 1"],
)
def test_a_file_that_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.ckpt is not a checkpoint") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {"hyper_parameters": {}, "state_dict": {}}])
def test_a_checkpoint_of_something_else_is_one_line(content: object, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="not a checkpoint of a keypoint detector"):
        load_model(path)


def test_weights_that_do_not_fit_are_one_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["state_dict"].popitem()
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="do not fit this version") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
