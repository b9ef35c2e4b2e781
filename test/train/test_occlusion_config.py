import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.occlusion_config import check_occlusion, one_sided_labels
from keypoint_detection.train.utils import build_data_module


def config(**changes) -> TrainConfig:
    return TrainConfig(json_dataset_path="train.json", **changes)


def test_occluded_keypoints_are_like_others_unless_asked_for() -> None:
    assert config().occlusion == "ignore"
    assert config(occlusion="signed").occlusion == "signed"
    assert config(head="regression", loss_function="Wing", detect_only_visible_keypoints=True).head


@pytest.mark.parametrize("loss", [None, "BCE", "MSE", "SmoothL1"])
def test_these_losses_go_with_signed_heatmaps(loss: str | None) -> None:
    assert config(occlusion="signed", loss_function=loss).loss_function == loss


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "regression"}, "expected --head heatmap, got regression"),
        ({"loss_function": "Focal"}, "expected --loss_function BCE, MSE, SmoothL1, got Focal"),
        ({"loss_function": "KL"}, "got KL, which takes heatmaps for probabilities"),
        (
            {"detect_only_visible_keypoints": True},
            "expected occluded keypoints in training, got --detect_only",
        ),
    ],
)
def test_what_does_not_go_with_them_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(occlusion="signed", **changes)
    options = {"head": "heatmap", "loss_function": None, "visible_only": False}
    options |= {
        name.replace("detect_only_visible_keypoints", "visible_only"): v for name, v in changes.items()
    }
    with pytest.raises(ValueError, match=r"^--occlusion signed: expected ") as error:
        check_occlusion("signed", **options)
    assert "\n" not in str(error.value)
    check_occlusion("ignore", **options)


def labels_with(folder: Path, flags: dict[str, int]) -> Path:
    """Draw three images, and give each keypoint the flag of its name, others 2."""
    path = make_dataset("boxes", folder, 3, (32, 32))
    content = json.loads(path.read_text())
    names = content["categories"][0]["keypoints"]
    for annotation in content["annotations"]:
        for index, name in enumerate(names):
            annotation["keypoints"][3 * index + 2] = flags.get(name, 2)
    path.write_text(json.dumps(content))
    return path


def test_labels_of_one_visibility_are_said_to_teach_one_sign(tmp_path: Path) -> None:
    path = labels_with(tmp_path, {"corner0": 1, "flap_left": 0})
    table, boxes = read_table(path), len(json.loads(path.read_text())["annotations"])
    assert one_sided_labels(table, table.names) is None
    assert one_sided_labels(table, ["corner0", "corner1"]) is None
    start, end = (
        f"--occlusion signed: expected visible and occluded keypoints in {path}",
        "will tell none to be",
    )
    two, one = (
        one_sided_labels(table, ["corner1", "corner2"]),
        one_sided_labels(table, ["corner0", "flap_left"]),
    )
    assert two == f"{start}, got {2 * boxes} of which none is occluded (visibility 1): the model {end}"
    assert one == f"{start}, got {boxes} of which none is visible (visibility 2): the model {end}"


@pytest.mark.parametrize(("occlusion", "expected"), [("signed", 1), ("ignore", 0)])
def test_a_training_says_so_before_it_begins(
    occlusion: str, expected: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = labels_with(tmp_path, {"corner0": 1})
    options = {"occlusion": occlusion, "num_workers": 0, "cache": "off"}
    for channels, count in (("corner1;corner2", expected), ("corner0;corner1", 0)):
        caplog.clear()
        build_data_module(
            TrainConfig(json_dataset_path=str(path), keypoint_channel_configuration=channels, **options)  # pyright: ignore
        )
        assert sum("none is occluded" in record.message for record in caplog.records) == count
