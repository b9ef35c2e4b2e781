from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
    read_coco,
)
from keypoint_detection.data.formats.sleap_export import write_sleap
from keypoint_detection.data.formats.sleap_labels import read_labels
from keypoint_detection.data.synthetic import make_dataset

sio = pytest.importorskip("sleap_io")


@pytest.mark.parametrize("kind", ["boxes", "flowers"])
def test_round_trip_of_a_drawn_data_set(tmp_path, kind):
    make_dataset(kind, tmp_path, n_images=6, image_hw=(64, 96), seed=1)
    coco = read_coco(tmp_path / "annotations.json")
    notes = write_sleap(coco, tmp_path, tmp_path / "out")
    conversion = read_labels(tmp_path / "out" / "labels.slp")
    assert [i.file_name for i in conversion.coco.images] == [i.file_name for i in coco.images]
    assert [p for _, p in sorted(conversion.image_paths.items())] == [
        tmp_path / i.file_name for i in coco.images
    ]
    ours = np.concatenate([np.reshape(a.keypoints, (-1, 3)) for a in coco.annotations])
    theirs = np.concatenate([np.reshape(a.keypoints, (-1, 3)) for a in conversion.coco.annotations])
    seen = ours[:, 2] > 0
    np.testing.assert_array_equal(theirs[:, 2], np.where(seen, 2, 0))
    np.testing.assert_array_equal(theirs[seen, :2], ours[seen, :2])
    counts = Counter(ours[:, 2].tolist())
    assert any(f"{counts[1.0]} occluded points" in note for note in notes) == (counts[1.0] > 0)


@st.composite
def labels(draw) -> CocoKeypoints:
    categories = []
    for number in range(1, draw(st.integers(1, 2)) + 1):
        names = draw(st.lists(st.text("abc é.", min_size=1, max_size=4), min_size=2, max_size=4, unique=True))
        category = CocoCategory(
            id=number, name=f"c{number}", supercategory="", keypoints=names, skeleton=[[2, 1]]
        )
        if draw(st.booleans()):
            category.__pydantic_extra__ = {"symmetric_keypoints": [names[:2]]}
        categories.append(category)
    side = st.integers(1, 2)
    images = [
        CocoImage(id=i, file_name=f"images/{i}/a.png", width=draw(side), height=draw(side))
        for i in range(1, draw(st.integers(1, 4)) + 1)
    ]
    place = st.floats(-1e4, 1e4)
    annotations = []
    for image in images:
        for _ in range(draw(st.integers(0, 2))):
            category = draw(st.sampled_from(categories))
            flags = draw(
                st.lists(
                    st.sampled_from([0, 2]),
                    min_size=len(category.keypoints),
                    max_size=len(category.keypoints),
                ).filter(any)
            )
            values = [v for f in flags for v in ([draw(place), draw(place), f] if f else [0, 0, 0])]
            fields = {"track_id": draw(st.sampled_from([1, 20, "x"]))} if draw(st.booleans()) else {}
            annotations.append(
                CocoAnnotation(
                    id=len(annotations) + 1,
                    image_id=image.id,
                    category_id=category.id,
                    keypoints=values,
                    num_keypoints=sum(f > 0 for f in flags),
                    iscrowd=0,
                    **fields,
                )
            )
    return CocoKeypoints(images=images, categories=categories, annotations=annotations)


@settings(max_examples=40, deadline=None)
@given(coco=labels())
def test_round_trip(tmp_path_factory, coco):
    folder = tmp_path_factory.mktemp("round")
    assert write_sleap(coco, folder / "data", folder) == ()
    again = read_labels(folder / "labels.slp").coco
    for annotation in again.annotations:  # the reader takes the box around the points
        annotation.bbox = annotation.area = None
    fields = [c.model_dump() for c in coco.categories]
    for category in fields:
        if "symmetric_keypoints" in category:
            category["symmetric_keypoints"] = [category["keypoints"][:2]]
    assert [c.model_dump() for c in again.categories] == fields
    assert [i.model_dump() for i in again.images] == [i.model_dump() for i in coco.images]
    assert [a.model_dump() for a in again.annotations] == [a.model_dump() for a in coco.annotations]


def test_what_the_format_cannot_hold_is_counted(tmp_path):
    coco = CocoKeypoints(
        images=[CocoImage(id=4, file_name="images/a.png", width=10, height=10)],
        categories=[
            CocoCategory(
                id=1, name="cat", supercategory="pet", keypoints=["a", "b"], skeleton=[[1, 2], [0, 9]]
            )
        ],
        annotations=[
            CocoAnnotation.model_validate(
                {
                    "id": 1,
                    "image_id": 4,
                    "category_id": 1,
                    "keypoints": [1, 2, 1, 3, 4, 2],
                    "bbox": [0, 0, 5, 5],
                    "iscrowd": 1,
                    "colour": "red",
                }
            ),
            CocoAnnotation(id=2, image_id=4, category_id=1, keypoints=[0] * 6),
        ],
    )
    notes = " | ".join(write_sleap(coco, tmp_path, tmp_path / "out"))
    for text in (
        "1 occluded points are written as visible",
        "boxes and areas of 1 instances",
        "1 crowd instances",
        "field 'colour' of 1 instances",
        "1 instances without points",
        "1 images are numbered anew",
        "supercategories of 1 categories",
        "1 bones of skeletons",
    ):
        assert text in notes
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["labels.slp"]
