from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoKeypoints
from keypoint_detection.data.coco_targets import has_single_instances, instance_targets, keypoint_category

SEEN, HIDDEN_ONLY, EMPTY = [1, 2, 2, 3.5, 4, 1], [0, 0, 0, 5, 6, 1], [0, 0, 0, 0, 0, 0]


def coco_file(*annotations: dict[str, Any], images=(7, 3, 5)) -> CocoKeypoints:
    """Return a file of two categories with two keypoints each; annotations count from 20."""
    categories = [(1, "face", ["nose", "chin"]), (2, "hand", ["thumb", "wrist"])]
    defaults = {"image_id": 7, "category_id": 1, "keypoints": SEEN, "area": 50.0, "bbox": [1, 2, 3, 4]}
    return CocoKeypoints.model_validate(
        {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in images],
            "categories": [{"id": i, "name": name, "keypoints": points} for i, name, points in categories],
            "annotations": [
                {**defaults, **annotation, "id": 20 + n} for n, annotation in enumerate(annotations)
            ],
        }
    )


def error_line(coco: CocoKeypoints, **options) -> str:
    with pytest.raises(ValueError) as caught:
        instance_targets(coco, 1, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_arrays_by_hand():
    coco = coco_file(
        {"image_id": 5, "area": 9.5},
        {"image_id": 7, "keypoints": EMPTY, "iscrowd": 1, "num_keypoints": 0, "bbox": [0, 0, 60, 40]},
        {"image_id": 5, "category_id": 2},
        {"image_id": 5, "keypoints": HIDDEN_ONLY, "num_keypoints": 1, "bbox": [9, 8, 7, 6]},
    )
    targets = instance_targets(coco, 1)
    assert list(targets) == [7, 3, 5]
    assert targets[5]["keypoints"].tolist() == [[[1, 2], [3.5, 4]], [[0, 0], [5, 6]]]
    assert targets[5]["visibility"].tolist() == [[2, 1], [0, 1]]
    assert targets[5]["area"].tolist() == [9.5, 50]
    assert targets[5]["iscrowd"].tolist() == [False, False]
    assert targets[5]["boxes"].tolist() == [[1, 2, 3, 4], [9, 8, 7, 6]]
    assert targets[7]["iscrowd"].tolist() == [True]
    assert targets[7]["boxes"].tolist() == [[0, 0, 60, 40]]
    shapes = {name: values.shape for name, values in targets[3].items()}
    assert shapes == {
        "keypoints": (0, 2, 2),
        "visibility": (0, 2),
        "area": (0,),
        "iscrowd": (0,),
        "boxes": (0, 4),
    }
    kinds = {name: values.dtype for name, values in targets[3].items()}
    assert kinds == {
        "keypoints": np.float64,
        "visibility": np.uint8,
        "area": np.float64,
        "iscrowd": bool,
        "boxes": np.float64,
    }


def test_a_file_without_annotations():
    targets = instance_targets(coco_file(), 2)
    assert [len(target["area"]) for target in targets.values()] == [0, 0, 0]


def test_a_missing_area_is_that_of_the_box_and_a_missing_box_is_nan():
    coco = coco_file({"area": None}, {"bbox": None})
    target = instance_targets(coco, 1)[7]
    assert target["area"].tolist() == [12, 50]
    assert target["boxes"][0].tolist() == [1, 2, 3, 4]
    assert np.isnan(target["boxes"][1]).all()


def test_an_ignore_region_needs_neither_area_nor_box():
    crowd = {"iscrowd": 1, "area": None, "bbox": None}
    unlabelled = {"keypoints": EMPTY, "area": None, "bbox": None}
    target = instance_targets(coco_file(crowd, unlabelled, {"keypoints": EMPTY, "area": 0}), 1)[7]
    assert np.isnan(target["area"][:2]).all()
    assert target["area"][2] == 0
    assert np.isnan(target["boxes"][:2]).all()


def test_a_labelled_instance_without_area_and_box():
    lacking = {"area": None, "bbox": None}
    line = error_line(coco_file({}, lacking, lacking, {**lacking, "iscrowd": 1}))
    assert line.startswith("annotation 21 (the first of 2 in 3 labelled ones), field 'area'")
    assert "add one of them to the file" in line
    assert error_line(coco_file(lacking), allow_zero_area=True)


@pytest.mark.parametrize("fields", [{"area": 0}, {"area": -2.5}, {"area": None, "bbox": [1, 2, 0, 4]}])
def test_a_labelled_instance_of_no_area(fields):
    coco = coco_file({}, {**fields, "keypoints": HIDDEN_ONLY})
    line = error_line(coco)
    assert line.startswith("annotation 21 (the first of 1 in 2 labelled ones), field 'area'")
    assert f"got {fields['area'] or 0:g}," in line
    assert "correct the areas" in line
    assert instance_targets(coco, 1, allow_zero_area=True)[7]["area"].tolist() == [50, fields["area"] or 0]
    assert instance_targets(coco, 2)[7]["area"].tolist() == []  # the other category is not concerned


@pytest.mark.parametrize(
    ("keypoints", "count", "words"),
    [(SEEN, 0, ("expected 2", "got 0", "ignores")), (EMPTY, 2, ("expected 0", "got 2", "scores"))],
)
def test_num_keypoints_that_contradicts_the_labels(keypoints, count, words):
    wrong = {"keypoints": keypoints, "num_keypoints": count}
    line = error_line(coco_file({}, wrong, wrong))
    assert line.startswith("annotation 21, field 'num_keypoints'")
    assert "(2 of 3 are wrong)" in line
    assert all(word in line for word in words)
    assert len(instance_targets(coco_file({**wrong, "iscrowd": 1}), 1)[7]["area"]) == 1


def test_another_count_of_num_keypoints_is_no_contradiction():
    assert len(instance_targets(coco_file({"num_keypoints": 1}), 1)[7]["area"]) == 1


def test_an_unknown_category():
    with pytest.raises(ValueError, match=r"got 9; it has 1 \('face'\), 2 \('hand'\)"):
        instance_targets(coco_file({}), 9)


annotation = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from([7, 3, 5]),
        "category_id": st.sampled_from([1, 2]),
        "keypoints": st.sampled_from([SEEN, HIDDEN_ONLY, EMPTY]),
        "area": st.floats(1, 100) | st.none(),
        "iscrowd": st.sampled_from([0, 1, None]),
    }
)


@settings(max_examples=80, deadline=None)
@given(st.lists(annotation, max_size=9))
def test_slow_reference(annotations):
    targets = instance_targets(coco_file(*annotations), 1)
    assert list(targets) == [7, 3, 5]
    for image_id, target in targets.items():
        own = [a for a in annotations if a["image_id"] == image_id and a["category_id"] == 1]
        assert target["area"].tolist() == [12 if a["area"] is None else a["area"] for a in own]
        assert target["iscrowd"].tolist() == [a["iscrowd"] == 1 for a in own]
        assert target["visibility"].tolist() == [a["keypoints"][2::3] for a in own]
        assert target["keypoints"][..., 0].tolist() == [a["keypoints"][::3] for a in own]
        assert target["keypoints"][..., 1].tolist() == [a["keypoints"][1::3] for a in own]


def test_the_category_with_labels():
    hand = keypoint_category(coco_file({"category_id": 2}, {"keypoints": EMPTY}, {"iscrowd": 1}))
    assert not isinstance(hand, str)
    assert hand.name == "hand"


def test_the_reason_why_there_is_no_one_category():
    assert keypoint_category(coco_file({}, {"category_id": 2})) == (
        "OKS-AP is defined for one category, but 2 have labelled keypoints: 'face', 'hand'"
    )
    reason = "OKS-AP needs instances with labelled keypoints, but the file has none"
    assert keypoint_category(coco_file({"keypoints": EMPTY}, {"iscrowd": 1})) == reason
    assert keypoint_category(coco_file()) == reason


def test_single_instances():
    assert has_single_instances(coco_file())
    assert has_single_instances(coco_file({}, {"image_id": 3}, {"image_id": 5}))
    assert has_single_instances(coco_file({}, {"keypoints": EMPTY}, {"iscrowd": 1}))
    assert not has_single_instances(coco_file({}, {"image_id": 3}, {}))
    assert not has_single_instances(coco_file({}, {"category_id": 2}))
    assert not has_single_instances(coco_file({}, {"keypoints": HIDDEN_ONLY}))
