from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoKeypoints
from keypoint_detection.data.formats.yolo import read_yolo
from keypoint_detection.data.formats.yolo_writer import write_yolo

NAMES = ["nose", "left_eye", "right_eye"]


def make(folder: Path, images: list[dict], annotations: list[dict], **category) -> CocoKeypoints:
    """Return records of 40x20 images, which are written into the folder."""
    for number, image in enumerate(images, start=1):
        for name, value in (("id", number), ("width", 40), ("height", 20)):
            image.setdefault(name, value)
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((image["height"], image["width"]), 7, np.uint8))
    for number, annotation in enumerate(annotations, start=1):
        for name, value in (("id", number), ("image_id", 1), ("category_id", 1)):
            annotation.setdefault(name, value)
    entry = {"id": 1, "name": "face", "keypoints": NAMES, **category}
    return CocoKeypoints.model_validate({"images": images, "annotations": annotations, "categories": [entry]})


def test_hand_worked_file(tmp_path):
    images = [{"file_name": "images/train/a.png", "split": "train"}, {"file_name": "b.png", "split": "val"}]
    annotation = {"keypoints": [19.5, 9.5, 2, 9.5, 1.5, 1, 0, 0, 0], "bbox": [15, 5, 10, 10], "area": 100}
    coco = make(tmp_path, images, [annotation])
    notes = write_yolo(coco, tmp_path, tmp_path / "out")
    assert notes == ("images with another file name: 1 (b.png is images/val/b.png)",)
    assert (
        tmp_path / "out/labels/train/a.txt"
    ).read_text() == "0 0.5 0.5 0.25 0.5 0.5 0.5 2 0.25 0.1 1 0 0 0\n"
    assert (tmp_path / "out/labels/val/b.txt").read_text() == ""
    assert (tmp_path / "out/images/val/b.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "kpt_shape": [3, 3],
        "flip_idx": [0, 2, 1],  # from the names
        "names": {0: "face"},
        "kpt_names": {0: NAMES},
    }
    assert write_yolo(coco, tmp_path, tmp_path / "out") == notes  # again, over the earlier version


def test_a_declared_symmetry_wins_over_the_names(tmp_path):
    coco = make(tmp_path, [{"file_name": "a.png"}], [], symmetric_keypoints=[["nose", "right_eye"]])
    write_yolo(coco, tmp_path, tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["flip_idx"] == [2, 1, 0]
    coco = make(tmp_path, [{"file_name": "a.png"}], [], symmetric_keypoints=[["nose", "ear"]])
    with pytest.raises(ValueError, match="expected keypoint names of the category, got 'ear'"):
        write_yolo(coco, tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_yolo_cannot_hold_is_noted(tmp_path):
    zeros, point = [0, 0, 0], [-0.5, -0.5, 2]
    annotations = [
        {
            "id": 9,
            "keypoints": point + zeros * 2,
            "bbox": [-5, 0, 15, 10],
            "area": 77,
            "segmentation": [[1, 2]],
        },
        {"id": 2, "keypoints": [10, 5, 2, 20, 15, 1, 3, 4, 0], "track": 4},
        {"id": 3, "keypoints": [99, 5, 2] + zeros * 2, "bbox": [1, 1, 2, 2]},
        {"id": 4, "keypoints": zeros * 3},
        {"id": 5, "keypoints": zeros * 3, "bbox": [1, 1, 2, 2], "iscrowd": 1},
    ]
    images = [{"file_name": "a.png", "licence": 3}, {"file_name": "a.jpg"}]
    coco = make(tmp_path, images, annotations, skeleton=[[1, 2]], supercategory="body", colour="red")
    coco.info = {"year": 2020}
    notes = write_yolo(coco, tmp_path, tmp_path / "out")
    counts = {note.split(": ")[0]: int(note.split(": ")[1].split(" ")[0]) for note in notes}
    assert counts == {
        "data sets without splits, train and val name the same images": 1,
        "images with another file name": 2,
        "labelled points at (0, 0), which other readers take for absent": 1,
        "boxes that reach out of their image, which are cut": 1,
        "areas that are not their box's, which are left out": 1,
        "coordinates of absent points, which are left out": 1,
        "instances without a box, which get the box around their points": 1,
        "points outside of their image, which become absent": 1,
        "instances without a box and without points, which are left out": 1,
        "crowd regions, which are left out": 1,
        "fields of the file, which are left out": 1,
        "categories with 'skeleton', which is left out": 1,
        "categories with 'supercategory', which is left out": 1,
        "categories with 'colour', which is left out": 1,
        "images with 'licence', which is left out": 1,
        "annotations with 'segmentation', which is left out": 1,
        "annotations with 'track', which is left out": 1,
        "ids that are numbered anew": 1,
    }
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["a.txt", "a_2.txt"]
    again = read_yolo(tmp_path / "out").coco
    first, second, third = again.annotations  # by the name of the image: all are on a.png
    assert first.bbox == pytest.approx([0, 0, 10, 10])
    assert second.bbox == pytest.approx([10.5, 5.5, 10, 10])  # the points are at pixel centres
    assert third.num_keypoints == 0


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    coco = make(tmp_path, [{"file_name": "a.png"}], [])
    other = coco.categories[0].model_copy(update={"id": 2, "name": "paw", "keypoints": ["tip"]})
    with pytest.raises(ValueError, match="equally many keypoints, got 3 for 'face', 1 for 'paw'"):
        write_yolo(
            coco.model_copy(update={"categories": [*coco.categories, other]}), tmp_path, tmp_path / "o"
        )
    coco.images[0].width = 41
    with pytest.raises(ValueError, match="image 1: expected 41x20 pixels as the labels say, got 40x20"):
        write_yolo(coco, tmp_path, tmp_path / "o")
    coco.images[0].file_name = "b.png"
    with pytest.raises(FileNotFoundError, match="expected an image at"):
        write_yolo(coco, tmp_path, tmp_path / "o")
    coco = make(tmp_path, [{"file_name": "a.png", "split": "fold3"}], [])
    with pytest.raises(ValueError, match="image 1: expected a split out of train, val, test, got 'fold3'"):
        write_yolo(coco, tmp_path, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_folder_of_another_data_set_is_refused(tmp_path):
    write_yolo(make(tmp_path, [{"file_name": "a.png"}], []), tmp_path, tmp_path / "o")
    before = sorted((tmp_path / "o").rglob("*"))
    with pytest.raises(ValueError, match=r"expected an empty folder for the data set, found .*images/a.png"):
        write_yolo(make(tmp_path, [{"file_name": "b.png"}], []), tmp_path, tmp_path / "o")
    assert sorted((tmp_path / "o").rglob("*")) == before


def fractions_of(side: int):
    return st.floats(-0.5, side - 0.5)


@st.composite
def data_sets(draw):
    """Draw what YOLO can hold: images, and instances with points inside and a box."""
    images, annotations = [], []
    has_splits = draw(st.booleans())
    for number in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
        image = {"file_name": f"images/{number}.png", "width": width, "height": height}
        if has_splits:
            split = ["train", "val", "test"][number]
            image |= {"file_name": f"images/{split}/{number}.png", "split": split}
        images.append(image)
        for _ in range(draw(st.integers(0, 2))):
            points = []
            for flag in draw(st.lists(st.integers(0, 2), min_size=3, max_size=3)):
                x, y = draw(fractions_of(width)), draw(fractions_of(height))
                points += [x, y, flag] if flag else [0, 0, 0]
            left, top = draw(st.floats(0, 0.5)) * width, draw(st.floats(0, 0.5)) * height
            box = [left, top, draw(st.floats(0.01, 0.5)) * width, draw(st.floats(0.01, 0.5)) * height]
            area = box[2] * box[3]
            annotations.append({"image_id": number + 1, "keypoints": points, "bbox": box, "area": area})
    pairs = draw(st.sampled_from([[], [["left_eye", "right_eye"]], [["nose", "left_eye"]]]))
    return images, annotations, pairs, draw(st.text("abé '#:-\u2028\\\"\n1", min_size=1, max_size=6))


@settings(max_examples=30, deadline=None)
@given(data_sets())
def test_there_and_back_is_the_identity(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("yolo")
    images, annotations, pairs, name = drawn
    coco = make(folder, images, annotations, symmetric_keypoints=pairs, name=name)
    notes = write_yolo(coco, folder, folder / "out")
    expected = ("data sets without splits", "splits without images", "labelled points at (0, 0)")
    assert all(note.startswith(expected) for note in notes)
    again = read_yolo(folder / "out")
    assert [image.model_dump() for image in again.coco.images] == [
        image.model_dump() for image in coco.images
    ]
    (category,) = again.coco.categories
    assert (category.name, category.keypoints, category.model_extra["symmetric_keypoints"]) == (
        name,
        NAMES,
        pairs,
    )
    assert len(again.coco.annotations) == len(annotations)
    for back, original in zip(again.coco.annotations, coco.annotations, strict=True):
        assert (back.id, back.image_id, back.category_id) == (original.id, original.image_id, 1)
        assert back.keypoints == pytest.approx(original.keypoints, abs=1e-6, rel=0)
        assert back.keypoints[2::3] == original.keypoints[2::3]
        assert back.bbox == pytest.approx(original.bbox, abs=1e-6, rel=0)
        assert back.area == pytest.approx(original.area, rel=1e-5)
    for image, path in again.image_paths.items():
        assert path.read_bytes() == (folder / coco.images[image - 1].file_name).read_bytes()
