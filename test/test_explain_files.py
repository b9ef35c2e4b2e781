"""The files of an explanation, and the numbers in them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
from reference.small_vits import make_vits_small, vit_detector

from keypoint_detection.explain import ExplainOptions, KeypointExplanation
from keypoint_detection.explain_files import ExplainResult, explain_to_files, mean_shares, shares_table


def shown(score: float, area: float, share: float) -> KeypointExplanation:
    return KeypointExplanation("nose", (1.0, 2.0), score, 6.0, area, {}, {"saliency": share})


def test_pictures_and_numbers_of_every_image(
    monkeypatch: pytest.MonkeyPatch, boxes_json: Path, tmp_path: Path
) -> None:
    make_vits_small(monkeypatch)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(vit_detector(9))
    trainer.save_checkpoint(tmp_path / "vit.ckpt")
    images = sorted((boxes_json.parent / "images").glob("*.png"))[:2]
    other = tmp_path / "other" / images[0].name  # the same name in another folder
    other.parent.mkdir()
    cv2.imwrite(str(other), np.zeros((33, 47, 3), np.uint8))
    options = ExplainOptions("gradient_rollout", discard_ratios=(0.0, 0.9))
    result = explain_to_files(tmp_path / "vit.ckpt", [*images, other], tmp_path / "out", options)
    assert len(result.images) == 3
    stem = images[0].stem
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {stem, images[1].stem, f"{stem}_2"}
    names = {path.name for path in (tmp_path / "out" / f"{stem}_2").iterdir()}
    assert len(names) == 9 * 2 + 2
    assert {"03_point3_gradient_rollout.png", "08_point8_gradient_rollout_0.9.png", "grid_2.png"} <= names
    written = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert written["images"][2]["source"] == str(other)
    point = written["images"][2]["keypoints"][3]
    assert point["channel"] == "point3"
    assert {*point["shares"]} == {"gradient_rollout", "gradient_rollout_0.9"}
    assert point["shares"]["gradient_rollout"] == result.images[2][1][3].shares["gradient_rollout"]
    assert cv2.imread(str(tmp_path / "out" / f"{stem}_2" / "03_point3_gradient_rollout.png")).shape == (
        33 * 8,
        47 * 8,
        3,
    )


def test_a_wrong_method_leaves_no_file(tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got Unet; use --method saliency"):
        explain_to_files(
            tiny_checkpoint, [boxes_json.parent / "images"], tmp_path / "out", ExplainOptions("rollout")
        )
    assert not (tmp_path / "out").exists()


def test_means_are_over_what_was_found() -> None:
    images = [("a.png", [shown(0.9, 0.02, 0.5), shown(0.05, 0.02, 0.1)]), ("b.png", [shown(0.1, 0.04, 0.3)])]
    result = ExplainResult(images, [])
    assert mean_shares(result) == {
        "keypoints": 2,
        "area_share": pytest.approx(0.03),
        "shares": {"saliency": pytest.approx(0.4)},
    }
    lines = shares_table(result).splitlines()
    assert lines[1] == "a.png"
    assert lines[2].split() == ["nose", "0.90", "2.0", "%", "50", "%"]
    assert lines[-2].split() == ["mean", "of", "2", "found", "3.0", "%", "40", "%"]


def test_nothing_found_has_no_mean() -> None:
    assert mean_shares(ExplainResult([("a.png", [shown(0.0, 0.1, 0.1)])], []))["shares"] is None
    assert "mean" not in shares_table(ExplainResult([("a.png", [shown(0.0, 0.1, 0.1)])], []))
    assert shares_table(ExplainResult([], ["bad"])) == "no image could be read"
