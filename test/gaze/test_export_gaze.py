"""Files of the part that runs once per person."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from followers import follower

from keypoint_detection.gaze import export
from keypoint_detection.gaze.export import example_inputs, export_conditioner, kind_of
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.network_presets import PRESETS

SIZES: dict[str, Any] = {"scene_hw": (65, 97), "head_hw": (33, 40)}
DEPTH = {"depth": True, "head_grid_hw": None}


def light(decoder: str) -> GazeFollower:
    preset = PRESETS["light"]
    options = {"denoiser": preset["denoiser"]} if decoder == "diffusion" else {"decoder": preset["direct"]}
    torch.manual_seed(0)
    return GazeFollower(decoder, preset["conditioner"], options, scene_hw=(128, 128), head_hw=(32, 32))


def by_hand(one: GazeFollower, given: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Return what the follower itself gives."""
    with torch.inference_mode():
        conditioning, logits = one.eval()(*given)
        found = {"tokens": conditioning.tokens, "features": conditioning.features, "in_out_logit": logits}
        if one.hparams["decoder"] == "direct":
            found["map"] = one.decoder.sample_maps(conditioning, 1)
    return {name: value.numpy() for name, value in found.items()}


def run_onnx(path: Path, given: list[torch.Tensor]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    about = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert [one.name for one in session.get_inputs()] == about["inputs"]
    feed = {name: one.numpy() for name, one in zip(about["inputs"], given, strict=True)}
    return dict(zip(about["outputs"], session.run(about["outputs"], feed), strict=True)), about


def run_torch(path: Path, given: list[torch.Tensor]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    files = {export.METADATA_FILE: ""}
    module = torch.export.load(path, extra_files=files).module()
    about = json.loads(files[export.METADATA_FILE])
    with torch.inference_mode():
        return dict(zip(about["outputs"], [one.numpy() for one in module(*given)], strict=True)), about


RUN = {"onnx": run_onnx, "torch": run_torch}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("decoder", "conditioner", "kind"),
    [
        ("diffusion", {}, "torch"),
        pytest.param("diffusion", {}, "onnx", marks=SLOW),
        *(pytest.param("direct", {}, kind, marks=SLOW) for kind in RUN),
        *(
            pytest.param(decoder, DEPTH, kind, marks=SLOW)
            for decoder in ("diffusion", "direct")
            for kind in RUN
        ),
    ],
)
def test_a_file_gives_what_the_follower_gives(
    decoder: str, conditioner: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    one = follower(decoder, conditioner=conditioner, **SIZES).train()
    path = tmp_path / f"gaze{export.KINDS[kind]}"
    assert export_conditioner(one, path, kind) <= 1e-4
    assert one.training
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    for n in (1, 4):
        given = example_inputs(one, n)
        expected = by_hand(one, given)
        found, about = RUN[kind](path, given)
        assert found.keys() == expected.keys()
        for name, wanted in expected.items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4, err_msg=name)
    assert about["scene_hw"] == [65, 97]
    assert about["head_hw"] == [33, 40]
    assert about["map_hw"] == [16, 16]
    assert about["decoder"] == decoder
    assert about["inputs"] == ["scene", "head", "head_mask", *(["depth"] if conditioner else [])]


@pytest.mark.parametrize("decoder", [pytest.param("diffusion", marks=SLOW), "direct"])
def test_the_light_networks_as_onnx(decoder: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    one = light(decoder)
    assert export_conditioner(one, tmp_path / "gaze.onnx") <= 1e-4
    given = example_inputs(one, 4)
    expected, (found, about) = by_hand(one, given), run_onnx(tmp_path / "gaze.onnx", given)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4, err_msg=name)
    assert (about["scene_hw"], about["head_hw"], about["map_hw"]) == ([128, 128], [32, 32], [32, 32])


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUN)
def test_the_published_networks(kind: str, tmp_path: Path) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    path = tmp_path / f"gaze{export.KINDS[kind]}"
    assert export_conditioner(GazeFollower("direct"), path, kind) <= 1e-4
    assert path.stat().st_size > 200e6


def test_a_file_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = follower(**SIZES)
    path = tmp_path / "gaze.pt2"
    path.write_text("older")
    opened = export._open_torch

    def wrong(file: Path, module: Any) -> Any:
        run = opened(file, module)
        return lambda given: [out + 0.01 for out in run(given)]

    monkeypatch.setattr(export, "_open_torch", wrong)
    with pytest.raises(ValueError, match=r"to 0\.0001, got a difference of .*nothing is written"):
        export_conditioner(one, path, "torch")
    assert [file.name for file in tmp_path.iterdir()] == ["gaze.pt2"]
    assert path.read_text() == "older"


def test_a_network_that_cannot_be_exported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = follower(**SIZES)

    def forward(*_: Any) -> Any:
        raise RuntimeError("no such operator\nwith advice on many lines")

    monkeypatch.setattr(one.in_out_head, "forward", forward)
    for kind, ending in export.KINDS.items():
        with pytest.raises(ValueError, match=f"cannot be exported as {kind}") as raised:
            export_conditioner(one, tmp_path / f"gaze{ending}", kind)
        assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_nan_is_a_difference(tmp_path: Path) -> None:
    one = follower(**SIZES)
    with torch.no_grad():
        next(one.in_out_head.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="got a difference of inf"):
        export_conditioner(one, tmp_path / "gaze.pt2", "torch")


def test_what_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = follower(**SIZES)
    with pytest.raises(ValueError, match="expected onnx or torch, got 'tflite'"):
        export_conditioner(one, tmp_path / "gaze.onnx", "tflite")
    with pytest.raises(ValueError, match=r"ends in \.onnx, got .*gaze\.pt2"):
        export_conditioner(one, tmp_path / "gaze.pt2")
    with pytest.raises(ValueError, match=r"ends in \.onnx or \.pt2"):
        kind_of("gaze.pt")
    assert [kind_of(name) for name in ("a.ONNX", "b.pt2")] == ["onnx", "torch"]
    with pytest.raises(ValueError, match=r"float32 weights to export, got torch\.bfloat16"):
        export_conditioner(follower(**SIZES).bfloat16(), tmp_path / "gaze.pt2", "torch")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else 1)
    with pytest.raises(
        ValueError, match=r"onnxscript to be installed; pip install 'keypoint-detection\[onnx"
    ):
        export_conditioner(one, tmp_path / "gaze.onnx")
    assert not list(tmp_path.iterdir())
