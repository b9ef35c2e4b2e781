import json
from pathlib import Path

import pytest

from keypoint_detection.data.coco_parser import CocoCategory, CocoKeypoints
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.symmetry import Symmetry, propose_pairs, read_symmetry
from keypoint_detection.models.flip_test import mirrored_channels

NAMES = ["port", "starboard", "bow", "c0", "c1", "c2", "c3", "leaf_a", "leaf_b"]


def coco(**fields: object) -> CocoKeypoints:
    category = CocoCategory(id=3, name="boat", keypoints=NAMES, **fields)  # pyright: ignore[reportArgumentType]
    return CocoKeypoints(images=[], categories=[category], annotations=[])


def test_declared_sets_say_what_a_mirror_does() -> None:
    symmetry = read_symmetry(
        coco(
            symmetric_keypoints=[["port", "starboard"]],
            cyclic_keypoints=[["c0", "c1", "c2", "c3"]],
            interchangeable_keypoints=[["leaf_a", "leaf_b"]],
        )
    )
    mirror = symmetry.mirror(NAMES)
    expected = {
        "port": "starboard",
        "starboard": "port",
        "bow": "bow",
        "leaf_a": "leaf_a",
        "leaf_b": "leaf_b",
    }
    assert mirror.swap == expected | {"c0": "c0", "c1": "c3", "c2": "c2", "c3": "c1"}
    assert mirror.unpaired == []
    assert all(mirror.swap[mirror.swap[name]] == name for name in NAMES)


def test_without_a_declaration_the_names_decide_and_given_pairs_win() -> None:
    names = ["left_eye", "right_eye", "nose"]
    assert Symmetry().mirror(names).swap["left_eye"] == "right_eye"
    assert Symmetry(pairs=()).mirror(names).swap["left_eye"] == "left_eye"
    assert Symmetry(pairs=(("left_eye", "nose"),)).mirror(names).swap["left_eye"] == "nose"
    assert Symmetry(pairs=()).mirror(names, [["left_eye", "right_eye"]]).swap["right_eye"] == "left_eye"
    assert read_symmetry(coco()) == Symmetry()
    assert read_symmetry(coco(symmetric_keypoints=[])).pairs == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"symmetric_keypoints": "port"}, "expected a list of lists"),
        ({"symmetric_keypoints": ["port", "starboard"]}, "expected a list of lists"),
        ({"symmetric_keypoints": [["port"]]}, "expected two names"),
        ({"symmetric_keypoints": [["port", "starboard", "bow"]]}, "expected two names"),
        ({"symmetric_keypoints": [["port", "starbord"]]}, "'starbord'. Did you mean 'starboard'"),
        ({"symmetric_keypoints": [["port", "port"]]}, "got 'port' twice"),
        ({"cyclic_keypoints": [["c0", "c1"]]}, "expected 3 names or more"),
        ({"symmetric_keypoints": [["c0", "c1"]], "cyclic_keypoints": [["c0", "c2", "c3"]]}, "got 'c0' twice"),
    ],
)
def test_what_contradicts_itself_is_one_line(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_symmetry(coco(**fields))
    assert str(caught.value).startswith("category 3 ('boat'), field ")
    assert "\n" not in str(caught.value)


def test_arbitrary_names_must_share_a_channel() -> None:
    symmetry = Symmetry(interchangeable=(("leaf_a", "leaf_b"),))
    symmetry.check_channels([["bow"], ["leaf_a", "leaf_b"]])
    symmetry.check_channels([["bow"]])
    with pytest.raises(ValueError, match="'leaf_a = leaf_b' in --keypoint_channel_configuration"):
        symmetry.check_channels([["leaf_a"], ["leaf_b"]])


def test_pairs_are_proposed_from_the_names() -> None:
    category = CocoCategory(id=1, name="x", keypoints=["nose", "right_eye", "left_eye", "ear_l", "ear_r"])
    assert propose_pairs(category) == [["right_eye", "left_eye"], ["ear_l", "ear_r"]]


def test_flips_and_the_flip_test_use_what_the_category_declares(ten_images: Path) -> None:
    content = json.loads(ten_images.read_text())
    content["categories"][0]["symmetric_keypoints"] = [["nose", "left_eye"]]
    ten_images.write_text(json.dumps(content))
    data = KeypointsDataModule(json_dataset_path=ten_images, augment_train=True)
    assert data.train_dataset.augmenter is not None
    assert data.train_dataset.augmenter.swap == {
        "nose": "left_eye",
        "left_eye": "nose",
        "right_eye": "right_eye",
    }
    assert mirrored_channels(data.channels, None, data.symmetry) == [1, 0, 2]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"symmetric_keypoints": [["left_eye", "rigth_eye"]]}, "train.json: category 1"),
        ({"interchangeable_keypoints": [["left_eye", "right_eye"]]}, "train.json: .*must share a channel"),
    ],
)
def test_a_training_refuses_what_does_not_fit(ten_images: Path, field: dict, message: str) -> None:
    content = json.loads(ten_images.read_text())
    content["categories"][0] |= field
    ten_images.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        KeypointsDataModule(json_dataset_path=ten_images)
    if "interchangeable_keypoints" in field:
        KeypointsDataModule(
            json_dataset_path=ten_images, keypoint_channel_configuration="nose; left_eye = right_eye"
        )
