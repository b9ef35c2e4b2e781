import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from format_fuzzing import JSON_VALUES, broken_bytes, gives_labels_or_one_line, places, replaced
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
)
from keypoint_detection.data.formats.named_json import NAMED_JSON_FILE, read_named_json, write_named_json

CATS = Path(__file__).parents[4] / "shared" / "data" / "cats"


def small() -> dict:
    return {
        "info": "",
        "images": {
            "0": {"file_name": "a.png", "width": 40, "height": 20},
            "1": {"file_name": "b.png", "width": 10, "height": 10},
        },
        "keypoints": {"0": {"nose": [0.25, 0.5, 1], "tail": [1, 0, 0]}},
    }


def write(folder: Path, content) -> Path:
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_fractions_count_from_the_corner(tmp_path):
    conversion = read_named_json(write(tmp_path, small()))
    coco = conversion.coco
    assert [(image.id, image.file_name, image.width, image.height) for image in coco.images] == [
        (0, "images/a.png", 40, 20),
        (1, "images/b.png", 10, 10),
    ]
    (category,) = coco.categories
    assert (category.name, category.keypoints) == ("object", ["nose", "tail"])
    (annotation,) = coco.annotations
    # 0.25 of 40 columns is the border between columns 9 and 10; 1 is the right border of the last, 39
    assert annotation.keypoints == [9.5, 9.5, 2, 39.5, -0.5, 1]
    assert (annotation.image_id, annotation.num_keypoints) == (0, 2)
    assert (annotation.bbox, annotation.area) == ([10, 0, 30, 10], 300)
    assert conversion.image_paths == {}
    (note,) = conversion.notes
    assert "2 of 2 images are not beside" in note


@pytest.mark.parametrize(("name", "n_images"), [("train", 138), ("test", 24)])
def test_cats_equal_an_independent_count(name, n_images):
    path = CATS / f"{name}_keypoints_annotations.json"
    if not path.is_file():
        pytest.skip("the cats labels are not there")
    content = json.loads(path.read_text())
    expected, sums = Counter(), np.zeros(2)
    for key, points in content["keypoints"].items():
        for x, y, visible in points.values():
            inside = max(x, y) <= 1
            expected[{0: 1, 1: 2}[visible] if inside else 0] += 1
            if inside:
                size = content["images"][key]
                sums += np.array([x, y]) * [size["width"], size["height"]] - 0.5
    conversion = read_named_json(path)
    coco = conversion.coco
    values = np.array([annotation.keypoints for annotation in coco.annotations]).reshape(-1, 3)
    assert len(coco.images) == len(coco.annotations) == n_images
    assert Counter(values[:, 2].astype(int).tolist()) == expected
    np.testing.assert_allclose(values[:, :2].sum(axis=0), sums)
    assert conversion.image_paths == {}
    outside = [note for note in conversion.notes if "outside" in note]
    assert len(outside) == (name == "train")
    if name == "train":
        assert expected == {2: 1559, 1: 633, 0: 16}
        assert "item '137'" in outside[0]
        assert outside[0].count("(1.994, 1.989)") == 16
        assert "rear_right_paw" in outside[0]
        assert "doubled" in outside[0]


def test_values_outside_are_absent_and_named(tmp_path):
    content = small()
    content["keypoints"]["0"] = {"nose": [-0.1, 0.5, 1], "tail": [0.5, 0.5, 1], "ear": None}
    conversion = read_named_json(write(tmp_path, content))
    assert conversion.coco.annotations[0].keypoints == [0, 0, 0, 19.5, 9.5, 2, 0, 0, 0]
    note = conversion.notes[0]
    assert "item '0'" in note
    assert "nose (-0.1, 0.5)" in note
    assert "doubled" not in note


def test_unknown_fields_are_noted(tmp_path):
    content = small()
    content["licence"] = "?"
    content["images"]["1"]["photographer"] = "?"
    notes = " | ".join(read_named_json(write(tmp_path, content)).notes)
    assert "field 'licence'" in notes
    assert "field 'photographer' of 1 images" in notes


def test_keys_that_are_no_numbers_give_running_ids_and_names_stay_unique(tmp_path):
    content = small()
    content["images"] = {"x": content["images"]["0"], "00": dict(content["images"]["0"])}
    content["keypoints"] = {"00": {"nose": [0.5, 0.5, 1]}}
    coco = read_named_json(write(tmp_path, content)).coco
    assert [(image.id, image.file_name) for image in coco.images] == [
        (1, "images/a.png"),
        (2, "images/a_2.png"),
    ]
    assert coco.annotations[0].image_id == 2


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("images",), None, "field 'images': expected a JSON object, got nothing"),
        (("images", "0", "width"), "40", "image '0', field 'width': expected a finite number, got '40'"),
        (("images", "0", "height"), 0, "field 'height': expected a whole number of pixels, got 0"),
        (("keypoints", "7"), {}, "item '7': expected an entry of 'images'"),
        (("keypoints", "0", "nose"), [0.1, 0.2], "point 'nose': expected x, y and visibility"),
        (("keypoints", "0", "nose"), [0.1, 0.2, 2], "visibility 0 (occluded) or 1 (visible)"),
        (("keypoints", "0", "nose"), [0.1, True, 1], "expected a finite number, got True"),
        (("keypoints",), {}, "expected at least one named point"),
    ],
)
def test_other_forms_are_one_line(tmp_path, place, value, expected):
    with pytest.raises(ValueError) as error:
        read_named_json(write(tmp_path, replaced(small(), place, value)))
    assert expected in str(error.value)
    assert "labels.json" in str(error.value)


def test_missing_files_and_needless_categories(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_named_json(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="found a folder"):
        read_named_json(tmp_path)
    with pytest.raises(ValueError, match="needs no category configuration"):
        read_named_json(write(tmp_path, small()), categories=tmp_path / "labels.json")


def test_dot(tmp_path):
    x, y, width, height = 12.3, 7.6, 40, 20
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
    (tmp_path / "images").mkdir()
    assert cv2.imwrite(str(tmp_path / "images/a.png"), np.rint(255 * dot).astype(np.uint8))
    content = small()
    # a drawing tool that shows the image from 0 to 1 has the centre of the first pixel at half a pixel
    content["keypoints"]["0"]["nose"] = [(x + 0.5) / width, (y + 0.5) / height, 1]
    conversion = read_named_json(write(tmp_path, content))
    image = cv2.imread(str(conversion.image_paths[0]), cv2.IMREAD_GRAYSCALE).astype(float)
    centroid = (image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()
    assert np.hypot(*np.subtract(conversion.coco.annotations[0].keypoints[:2], centroid)) <= 0.05


def test_what_the_format_cannot_hold_is_counted(tmp_path):
    coco = CocoKeypoints(
        images=[CocoImage(id=5, file_name="images/a.png", width=10, height=10)],
        categories=[
            CocoCategory(id=1, name="cat", keypoints=["nose", "tail"], skeleton=[[1, 2]]),
            CocoCategory(id=2, name="dog", keypoints=["nose"]),
        ],
        annotations=[
            CocoAnnotation(
                id=1, image_id=5, category_id=1, keypoints=[20, 3, 2, 4, 4, 1], bbox=[0, 0, 5, 5], iscrowd=1
            ),
            CocoAnnotation(id=2, image_id=5, category_id=1, keypoints=[2, 3, 2, 4, 4, 1]),
            CocoAnnotation(id=3, image_id=5, category_id=2, keypoints=[2, 3, 2]),
        ],
    )
    notes = " | ".join(write_named_json(coco, tmp_path, tmp_path / "out"))
    for text in (
        "1 instances of other categories than 'cat'",
        "1 instances are left out: an image holds one",
        "1 images are numbered anew",
        "1 points outside their image",
        "boxes and areas of 1 instances",
        "1 crowd instances",
        "name and skeleton",
    ):
        assert text in notes
    written = json.loads((tmp_path / "out" / NAMED_JSON_FILE).read_text())
    assert written["keypoints"] == {"0": {"tail": [0.45, 0.45, 0]}}


@st.composite
def named(draw) -> dict:
    names = draw(st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True))
    fraction = st.floats(0, 1)
    point = st.tuples(fraction, fraction, st.integers(0, 1)).map(list)
    n_images = draw(st.integers(1, 4))
    size = st.integers(1, 5000)
    images = {
        str(i): {"file_name": f"{i}.png", "width": draw(size), "height": draw(size)} for i in range(n_images)
    }
    items = {str(i): {name: draw(point) for name in names} for i in range(n_images) if draw(st.booleans())}
    items["0"] = {name: draw(point) for name in names}
    return {"info": draw(st.sampled_from(["", "by hand"])), "images": images, "keypoints": items}


@settings(max_examples=60, deadline=None)
@given(content=named())
def test_round_trip(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("round")
    coco = read_named_json(write(folder, content)).coco
    notes = write_named_json(coco, folder, folder)
    assert all(note.startswith(("boxes and areas", "the order")) for note in notes)
    again = read_named_json(folder / NAMED_JSON_FILE).coco
    assert again.images == coco.images
    names = coco.categories[0].keypoints
    assert set(again.categories[0].keypoints) == set(names)
    by_image = {annotation.image_id: annotation for annotation in again.annotations}
    assert by_image.keys() == {annotation.image_id for annotation in coco.annotations}
    order = [again.categories[0].keypoints.index(name) for name in names]
    for annotation in coco.annotations:
        ours = np.reshape(annotation.keypoints, (-1, 3))
        theirs = np.reshape(by_image[annotation.image_id].keypoints, (-1, 3))[order]
        np.testing.assert_allclose(theirs, ours, atol=1e-8, rtol=0)


@settings(max_examples=150, deadline=None)
@given(picked=st.data())
def test_any_json_at_any_place(tmp_path_factory, picked):
    content = small()
    place = picked.draw(st.sampled_from(list(places(content))))
    raw = json.dumps(replaced(content, place, picked.draw(JSON_VALUES))).encode()
    gives_labels_or_one_line(tmp_path_factory.mktemp("fuzz"), raw, read_named_json)


@settings(max_examples=150, deadline=None)
@given(raw=broken_bytes(json.dumps(small()).encode()))
def test_any_bytes(tmp_path_factory, raw):
    gives_labels_or_one_line(tmp_path_factory.mktemp("fuzz"), raw, read_named_json)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 200_000,
        b'{"images": ' + b"9" * 5000 + b"}",
        json.dumps(small()).replace("a.png", "x" * 5000).encode(),
        json.dumps(small()).replace("a.png", "\\u0000").encode(),
        json.dumps(small()).replace("a.png", "\\ud800").encode(),
        json.dumps(small()).replace("40", "1e999").encode(),
    ],
)
def test_hostile_json(tmp_path, raw):
    gives_labels_or_one_line(tmp_path, raw, read_named_json)
