from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco, write_coco
from keypoint_detection.data.repeated_labels import repeated_distances
from keypoint_detection.metrics.oks_sigmas import RepeatedDistances, resolve_oks_sigmas

NAMES = ["nose", "tail"]


def coco_of(annotations: list[dict[str, Any]], categories: list[list[str]] | None = None) -> CocoKeypoints:
    """Return a file; annotations get ids, and image 1, category 1 and area 100 where they say nothing."""
    filled = [
        {"image_id": 1, "category_id": 1, "area": 100.0, **annotation, "id": index}
        for index, annotation in enumerate(annotations)
    ]
    images = {annotation["image_id"] for annotation in filled} | {1}
    return CocoKeypoints.model_validate(
        {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 50, "height": 40} for i in sorted(images)],
            "categories": [
                {"id": index + 1, "name": f"kind {index}", "keypoints": names}
                for index, names in enumerate(categories or [NAMES])
            ],
            "annotations": filled,
        }
    )


def labels(nose, tail=None, **fields: Any) -> dict[str, Any]:
    first, second = ([0, 0, 0] if point is None else [*point, 2] for point in (nose, tail))
    return {"keypoints": [*first, *second], **fields}


def found(annotations: list[dict[str, Any]]) -> RepeatedDistances:
    distances = repeated_distances(coco_of(annotations))
    assert distances is not None
    return distances


def test_by_hand() -> None:
    distances = found(
        [
            # mean (11, 10): 1 + 1 = 2 square px over an area of 100
            labels((10, 10), (5, 5), object_id=7),
            labels((12, 10), None, object_id=7),
            # mean (3, 3): 9 + 0 + 9 = 18 over a mean area of 200; the tails 4 px apart: 4 + 4 = 8
            labels((3, 0), (0, 0), object_id="b", area=100.0),
            labels((3, 3), (0, 4), object_id="b", area=200.0),
            labels((3, 6), None, object_id="b", area=300.0),
            labels((30, 30), (1, 1), object_id=8),
        ]
    )
    assert distances.names == ("nose", "tail")
    assert distances.squared_sum.tolist() == pytest.approx([0.02 + 0.09, 0.04])
    assert distances.degrees.tolist() == [3, 1]
    assert distances.num_objects == 2
    assert distances.num_labels == (2, 3)
    assert distances.num_without_area == 0
    assert distances.degrees.dtype == np.int64
    sigmas = resolve_oks_sigmas("estimate", NAMES, distances)
    assert sigmas.values == pytest.approx((np.sqrt(0.11 / 3), 0.2))
    assert sigmas.source == "estimated from 2 objects labelled 2 to 3 times"


@pytest.mark.parametrize(
    "annotations",
    [
        [],
        [labels((1, 1)), labels((2, 2))],
        [labels((1, 1), object_id=1), labels((2, 2), object_id=2)],
        [labels((1, 1), object_id=1), labels((2, 2), object_id=1, image_id=2)],
        [labels((1, 1), object_id=None), labels((2, 2), object_id=None)],
        [labels((1, 1), object_id=1), labels(None, (2, 2), object_id=1)],
        [labels((1, 1), object_id=1), labels(None, object_id=1)],
        [labels((1, 1), object_id=1), labels((2, 2), object_id=1, iscrowd=1)],
        [labels((1, 1), annotator="a")],
        [labels((1, 1), annotator="a"), labels((2, 2))],
        [labels((1, 1), annotator="a"), labels((2, 2), annotator="b", image_id=2)],
        [labels((1, 1), annotator="a"), labels((2, 2), annotator="b"), labels((3, 3), annotator="a")],
        [labels((1, 1), annotator="a", object_id=1), labels((2, 2), annotator="b", object_id=2)],
        [labels((1, 1), annotator="a", object_id=1), labels((2, 2), annotator="b")],
    ],
)
def test_nothing_is_labelled_twice(annotations) -> None:
    assert repeated_distances(coco_of(annotations)) is None


def test_annotators_with_one_annotation_each() -> None:
    distances = found(
        [
            labels((10, 10), annotator="ann"),
            labels((12, 10), annotator="bob"),
            labels((1, 1), annotator="ann", image_id=2),  # bob labelled two there: which one is not known
            labels((2, 1), annotator="bob", image_id=2),
            labels((3, 1), annotator="bob", image_id=2),
        ]
    )
    assert distances.squared_sum.tolist() == pytest.approx([0.02, 0.0])
    assert distances.degrees.tolist() == [1, 0]
    assert (distances.num_objects, distances.num_labels) == (1, (2, 2))


def test_categories_are_apart_and_names_are_pooled() -> None:
    annotations = [
        labels((10, 10), (0, 0), object_id=1),
        labels((12, 10), (2, 0), object_id=1),
        {"keypoints": [0, 0, 2, 5, 5, 1, 9, 9, 2], "object_id": 1, "category_id": 2},
        {"keypoints": [4, 0, 2, 5, 9, 2, 0, 0, 0], "object_id": 1, "category_id": 2},
    ]
    distances = repeated_distances(coco_of(annotations, [NAMES, ["tail", "ear", "nose"]]))
    assert distances is not None
    assert distances.names == ("nose", "tail", "ear")
    assert distances.squared_sum.tolist() == pytest.approx([0.02, 0.02 + 0.08, 0.08])
    assert distances.degrees.tolist() == [1, 2, 1]
    assert distances.num_objects == 2


def test_the_box_stands_in_for_the_area() -> None:
    pair = [labels((0, 0), object_id=1, area=None), labels((2, 0), object_id=1, area=None)]
    for annotation in pair:
        annotation["bbox"] = [0, 0, 5, 40]
    assert found(pair).squared_sum[0] == pytest.approx(2 / 200)
    pair[0]["area"] = 100.0
    assert found(pair).squared_sum[0] == pytest.approx(2 / 150)


@pytest.mark.parametrize("area", [None, 0.0, -5.0])
def test_objects_without_area_are_counted(area) -> None:
    lacking = [labels((0, 0), object_id=1, area=area), labels((2, 0), object_id=1, area=area)]
    distances = found([*lacking, labels((0, 0), object_id=2), labels((4, 0), object_id=2)])
    assert distances.squared_sum.tolist() == pytest.approx([0.08, 0.0])
    assert distances.degrees.tolist() == [1, 0]
    assert (distances.num_objects, distances.num_without_area) == (1, 1)
    alone = found(lacking)
    assert (alone.num_objects, alone.num_labels, alone.num_without_area) == (0, (0, 0), 1)
    assert alone.degrees.tolist() == [0, 0]
    source = resolve_oks_sigmas("estimate", NAMES, alone).source
    assert source == "default 0.067: the file has no repeated labels (1 object without area left out)"


def test_equal_labels_have_a_spread_of_exactly_0() -> None:
    distances = found([labels((0.1, 0.7), object_id=1) for _ in range(3)])
    assert distances.squared_sum.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("field", ["object_id", "annotator"])
def test_a_field_of_the_wrong_kind(field: str) -> None:
    with pytest.raises(ValueError, match=rf"annotation 0, field '{field}': .*got \[1\]") as error:
        repeated_distances(coco_of([labels((0, 0), **{field: [1]})]))
    assert "\n" not in str(error.value)


def test_the_fields_survive_a_file(tmp_path) -> None:
    coco = coco_of([labels((0, 0), object_id=1), labels((2, 0), object_id=1)])
    write_coco(coco, tmp_path / "a.json")
    distances = repeated_distances(read_coco(tmp_path / "a.json"))
    assert distances is not None
    assert distances.squared_sum.tolist() == pytest.approx([0.02, 0.0])


def slow_reference(coco: CocoKeypoints) -> dict[str, list[float]]:
    """Return sum and degrees per name for files where every annotation has an object_id and an area."""
    result = {name: [0.0, 0] for name in coco.keypoint_names()}
    objects: dict[tuple, list] = {}
    for annotation in coco.annotations:
        key = (annotation.image_id, (annotation.model_extra or {})["object_id"])
        if any(annotation.keypoints[2::3]):
            objects.setdefault(key, []).append(annotation)
    for annotations in objects.values():
        area = sum(annotation.area for annotation in annotations) / len(annotations)
        for index, name in enumerate(NAMES):
            triples = [annotation.keypoints[3 * index : 3 * index + 3] for annotation in annotations]
            points = np.array([triple[:2] for triple in triples if triple[2] > 0])
            if len(points) > 1:
                result[name][0] += ((points - points.mean(0)) ** 2).sum() / area
                result[name][1] += len(points) - 1
    return result


ANNOTATION = st.fixed_dictionaries(
    {
        "image_id": st.integers(1, 2),
        "object_id": st.integers(0, 2),
        "area": st.integers(1, 50).map(float),
        "keypoints": st.tuples(
            *[st.integers(0, 30), st.integers(0, 30), st.integers(0, 2)] * 2,
        ).map(list),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANNOTATION, max_size=14))
def test_equals_the_slow_reference(annotations) -> None:
    coco = coco_of(annotations)
    expected, distances = slow_reference(coco), repeated_distances(coco)
    if distances is None:
        assert all(degrees == 0 for _, degrees in expected.values())
        return
    assert distances.degrees.tolist() == [expected[name][1] for name in NAMES]
    assert distances.squared_sum.tolist() == pytest.approx([expected[name][0] for name in NAMES], rel=1e-12)


def test_the_estimate_finds_the_spread_that_was_drawn() -> None:
    rng, sigma = np.random.default_rng(0), np.array([0.03, 0.11])
    annotations = []
    for index in range(800):
        side = rng.uniform(20, 200)
        truth = rng.uniform(0, 500, (2, 2))
        for _ in range(rng.integers(2, 6)):
            # E|d|^2 = sigma^2 s^2 over both axes together
            points = truth + rng.normal(size=(2, 2)) * (sigma[:, None] * side / np.sqrt(2))
            annotations.append(labels(*points.tolist(), object_id=index, area=side**2))
    sigmas = resolve_oks_sigmas("estimate", NAMES, found(annotations))
    assert sigmas.values == pytest.approx(sigma, rel=0.04)  # the standard error is about 1.2 %
    assert sigmas.source == "estimated from 800 objects labelled 2 to 5 times"
