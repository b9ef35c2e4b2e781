import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoAnnotation
from keypoint_detection.data.label_warp import warp_annotation, warp_notes
from keypoint_detection.geometry import compose, invert, resize_affine

HALF = resize_affine((100, 100), (50, 50))


def annotation(**fields) -> CocoAnnotation:
    return CocoAnnotation(id=1, image_id=1, category_id=1, **{"keypoints": [9, 19, 2], **fields})


def test_points_from_centres_and_boxes_from_corners():
    moved = warp_annotation(
        annotation(bbox=[10, 20, 30, 40], area=1200, segmentation=[[10, 20, 40, 60]]), HALF
    )
    assert moved.keypoints == [4.25, 9.25, 2]
    assert moved.bbox == [5, 10, 15, 20]
    assert moved.area == 300
    assert moved.model_extra == {"segmentation": [[5, 10, 20, 30]]}


def test_the_given_annotation_stays():
    given_one = annotation(segmentation={"counts": "x"}, bbox=[1, 2, 3, 4])
    before = given_one.model_dump()
    assert warp_annotation(given_one, HALF).model_extra == {}
    assert given_one.model_dump() == before


def test_absent_points():
    moved = warp_annotation(annotation(keypoints=[0, 0, 0, 9, 9, 0, 0, 0, 1]), HALF)
    assert moved.keypoints == [0, 0, 0, 4.25, 4.25, 0, -0.25, -0.25, 1]


def test_fields_that_are_not_there_stay_away():
    assert warp_annotation(annotation(), HALF).model_fields_set == {
        "id",
        "image_id",
        "category_id",
        "keypoints",
    }


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4),
    st.tuples(*[st.floats(0.1, 10)] * 2),
    st.tuples(*[st.floats(-1e3, 1e3)] * 2),
)
def test_the_inverse_gives_everything_back(values, scale, shift):
    affine = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    first = annotation(keypoints=[*values[:2], 2], bbox=values, area=7.0, segmentation=[values])
    last = warp_annotation(warp_annotation(first, affine), invert(affine))
    np.testing.assert_allclose(last.keypoints, first.keypoints, atol=1e-6)
    np.testing.assert_allclose(last.bbox, values, atol=1e-6)
    np.testing.assert_allclose(last.model_extra["segmentation"][0], values, atol=1e-6)
    assert last.area == pytest.approx(7.0)


def test_two_maps_are_their_product():
    shift = np.array([[1.0, 0.0, 3.5], [0.0, 1.0, -2.25]])
    one = warp_annotation(warp_annotation(annotation(bbox=[1, 2, 3, 4]), HALF), shift)
    other = warp_annotation(annotation(bbox=[1, 2, 3, 4]), compose(HALF, shift))
    np.testing.assert_allclose(one.keypoints, other.keypoints)
    np.testing.assert_allclose(one.bbox, other.bbox)


@pytest.mark.parametrize("value", [{"counts": "abc"}, [[1, 2, 3]], [1, 2, 3, 4], "text", [["a", "b"]], 5])
def test_segmentations_that_are_no_polygons(value):
    entry = annotation(segmentation=value)
    assert warp_annotation(entry, HALF).model_extra == {}
    assert warp_notes([entry, annotation()])[0].startswith("1 segmentations are left out")


@pytest.mark.parametrize("fields", [{"segmentation": []}, {"segmentation": None}, {"attributes": {"a": 1}}])
def test_other_fields_stay_without_a_note(fields):
    entry = annotation(**fields)
    assert warp_annotation(entry, HALF).model_extra == fields
    assert warp_notes([entry]) == []
