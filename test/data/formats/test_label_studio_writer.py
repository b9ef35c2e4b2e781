import json
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
from keypoint_detection.data.formats.label_studio import read_label_studio, write_label_studio
from keypoint_detection.data.synthetic import make_dataset


def comparable(coco: CocoKeypoints) -> list:
    """Return the instances of every image without their ids, rounded, in an order of their own."""
    return sorted(
        (
            a.image_id,
            a.category_id,
            np.round(a.keypoints, 6).tolist(),
            np.round(a.bbox or [], 6).tolist(),
            str((a.model_extra or {}).get("annotator")),
        )
        for a in coco.annotations
    )


@pytest.mark.parametrize("kind", ["boxes", "flowers"])
def test_round_trip_of_a_drawn_data_set(tmp_path, kind):
    make_dataset(kind, tmp_path, n_images=6, image_hw=(64, 96), seed=1)
    coco = read_coco(next(tmp_path.glob("*.json")))
    write_label_studio(coco, tmp_path, tmp_path)
    conversion = read_label_studio(tmp_path / "tasks.json", categories=tmp_path / "categories.json")
    assert conversion.coco.images == coco.images
    assert conversion.coco.categories == coco.categories
    assert comparable(conversion.coco) == comparable(coco)
    assert {i: p.resolve() for i, p in conversion.image_paths.items()} == {
        image.id: (tmp_path / image.file_name).resolve() for image in coco.images
    }
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    count = Counter(r["type"] for t in tasks for a in t["annotations"] for r in a["result"])
    flags = np.concatenate([a.keypoints[2::3] for a in coco.annotations])
    assert count["keypointlabels"] == (flags > 0).sum()


@st.composite
def labels(draw) -> CocoKeypoints:
    name = st.text(max_size=5)
    n_categories = draw(st.integers(1, 2))
    categories = [
        CocoCategory(
            id=number,
            name=f"c{number}",
            keypoints=draw(st.lists(name.filter(bool), min_size=1, max_size=3, unique=True)),
        )
        for number in range(1, n_categories + 1)
    ]
    side = st.integers(1, 3000)
    images = [
        CocoImage(id=i, file_name=f"images/{i} &.png", width=draw(side), height=draw(side)) for i in (3, 9)
    ]
    place = st.floats(-50, 3000)
    annotations = []
    for number in range(draw(st.integers(1, 5))):
        category = draw(st.sampled_from(categories))
        values: list[float] = []
        for _ in category.keypoints:
            flag = draw(st.integers(0, 2))
            values += [draw(place), draw(place), flag] if flag else [0, 0, 0]
        fields = {"annotator": draw(st.sampled_from([5, "a@b.c"]))} if draw(st.booleans()) else {}
        bbox = [draw(place), draw(place), draw(st.floats(1, 100)), draw(st.floats(1, 100))]
        annotations.append(
            CocoAnnotation(
                id=number,
                image_id=draw(st.sampled_from([3, 9])),
                category_id=category.id,
                keypoints=values,
                bbox=bbox,
                area=bbox[2] * bbox[3],
                **fields,
            )
        )
    return CocoKeypoints(images=images, categories=categories, annotations=annotations)


@settings(max_examples=60, deadline=None)
@given(coco=labels(), drop_boxes=st.booleans())
def test_round_trip(tmp_path_factory, coco, drop_boxes):
    folder = tmp_path_factory.mktemp("round")
    kept = coco.annotations
    if drop_boxes:
        kept = [a for a in kept if any(a.keypoints[2::3])]
        for annotation in coco.annotations:
            annotation.bbox = annotation.area = None
    write_label_studio(coco, folder, folder)
    again = read_label_studio(folder / "tasks.json", categories=folder / "categories.json").coco
    assert again.images == coco.images
    assert again.categories == coco.categories
    if drop_boxes:  # the reader takes the box around the points
        for annotation in again.annotations:
            annotation.bbox = None
    assert comparable(again) == comparable(coco.model_copy(update={"annotations": kept}))


def test_what_the_format_cannot_hold_is_counted(tmp_path):
    coco = CocoKeypoints(
        images=[CocoImage(id=0, file_name="images/a.png", width=10, height=10)],
        categories=[CocoCategory(id=1, name="cat", keypoints=["nose"])],
        annotations=[
            CocoAnnotation.model_validate(
                {
                    "id": 1,
                    "image_id": 0,
                    "category_id": 1,
                    "keypoints": [1, 2, 2],
                    "bbox": [0, 0, 5, 5],
                    "area": 7,
                    "iscrowd": 1,
                    "track_id": 4,
                }
            ),
            CocoAnnotation(id=2, image_id=0, category_id=1, keypoints=[0, 0, 0], bbox=[1, 1, 0, 0]),
        ],
    )
    notes = " | ".join(write_label_studio(coco, tmp_path, tmp_path / "out"))
    for text in (
        "areas of 1 instances that differ",
        "1 crowd instances",
        "field 'track_id' of 1 instances",
        "empty boxes of 1 instances",
        "1 instances without box and points",
    ):
        assert text in notes
    assert '<Label value="cat.nose"/>' in (tmp_path / "out/label_config.xml").read_text()
    coco.categories[0].name = "cat.small"
    with pytest.raises(ValueError, match=r"hold no '.', got 'cat.small'"):
        write_label_studio(coco, tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()
