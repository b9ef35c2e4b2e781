from pathlib import Path
from typing import Any

import pytest
import torch
from followers import CONDITIONER, follower, people

from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.utils.load_checkpoints import checkpoint_kind, load_model
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.load_classifier import load_classifier


def saved(path: Path, module: Any, **hparams: Any) -> Path:
    settings = {**module.hparams, **hparams}
    torch.save({"hyper_parameters": settings, "state_dict": module.state_dict()}, path)
    return path


@pytest.fixture
def gaze_checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path / "gaze.ckpt", follower())


@pytest.fixture
def point_checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path / "points.ckpt", VisibilityClassifier((2, 4), 3, patch_px=16, size_hidden=8))


@pytest.mark.parametrize("kind", ["diffusion", "direct"])
@pytest.mark.parametrize("depth", [False, True])
def test_a_loaded_follower_gives_the_same_bits(kind: str, depth: bool, tmp_path: Path) -> None:
    grid = {"head_grid_hw": None} if depth else {}
    one = follower(kind, frozen=["scene"], conditioner={**grid, "depth": depth}).eval()
    loaded = load_follower(saved(tmp_path / "one.ckpt", one))
    assert not any(module.training for module in loaded.modules())
    assert loaded.hparams == one.hparams
    batch = people(depth=depth)
    expected, found = one.sample_maps(batch, 2, seed=1), loaded.sample_maps(batch, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("is_said", [True, False])
def test_loading_never_asks_for_pretrained_weights(
    is_said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"encoder": "mobilenetv3_small_050", "output_stride": 4}
    encoder = {"scene_encoder": "MobileNetV3", "scene_options": {**options, "pretrained": False}}
    one = follower(conditioner={**encoder, "grid_hw": (2, 2)})
    said = {"pretrained": True} if is_said else {}
    asked = {**one.hparams["conditioner_options"], "scene_options": {**options, **said}}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = saved(tmp_path / "one.ckpt", one, conditioner_options=asked)
    loaded = load_follower(path)
    assert loaded.hparams["conditioner_options"]["scene_options"]["pretrained"] is False


def test_every_kind_of_checkpoint_knows_its_name(
    gaze_checkpoint: Path, point_checkpoint: Path, tiny_checkpoint: Path
) -> None:
    kinds = [
        checkpoint_kind(torch.load(path, weights_only=True))
        for path in (gaze_checkpoint, point_checkpoint, tiny_checkpoint)
    ]
    assert kinds == ["gaze follower", "visibility classifier", "keypoint detector"]
    assert checkpoint_kind({"state_dict": {}, "hyper_parameters": {}}) is None


def test_checkpoints_of_other_models_are_named_as_such(
    gaze_checkpoint: Path, point_checkpoint: Path, tiny_checkpoint: Path
) -> None:
    calls = [
        (load_follower, tiny_checkpoint, "is a checkpoint of a keypoint detector; expected one of gaze"),
        (load_follower, point_checkpoint, "is a checkpoint of a visibility classifier; expected one of gaze"),
        (load_model, gaze_checkpoint, "is a checkpoint of a gaze follower, not .* of a keypoint detector"),
        (
            load_classifier,
            gaze_checkpoint,
            "is a checkpoint of a gaze follower; expected one of a visibility",
        ),
    ]
    for load, path, message in calls:
        with pytest.raises(ValueError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.ckpt"):
        load_follower(tmp_path / "none.ckpt")


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {"hyper_parameters": {}, "state_dict": {}}])
def test_something_else_is_one_line(content: object, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="lacks settings or weights; expected one of gaze following"):
        load_follower(path)


@pytest.mark.parametrize("change", ["setting", "weight", "encoder", "decoder"])
def test_what_does_not_fit_is_one_line(change: str, gaze_checkpoint: Path) -> None:
    content = torch.load(gaze_checkpoint, weights_only=True)
    if change == "setting":
        content["hyper_parameters"]["unheard_of"] = 1
    elif change == "weight":
        content["state_dict"].popitem()
    elif change == "decoder":
        content["hyper_parameters"]["decoder"] = "unheard_of"
    else:
        content["hyper_parameters"]["conditioner_options"] = {**CONDITIONER, "width": 32}
        content["hyper_parameters"]["decoder_options"]["denoiser"]["context_dim"] = 32
    torch.save(content, gaze_checkpoint)
    with pytest.raises(ValueError, match=f"{gaze_checkpoint}: .* do not fit this version") as caught:
        load_follower(gaze_checkpoint)
    assert "\n" not in str(caught.value)
