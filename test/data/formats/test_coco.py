import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.data.coco_parser import CocoError, read_coco
from keypoint_detection.data.formats.coco import read_coco_labels, write_coco_labels
from keypoint_detection.data.synthetic import make_dataset

REAL_DATA = Path(__file__).parents[4] / "shared" / "data"

MINIMAL = {
    "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
    "categories": [{"id": 5, "name": "face", "keypoints": ["nose", "ear"]}],
    "annotations": [
        {
            "id": 11,
            "image_id": 7,
            "category_id": 5,
            "keypoints": [1, 2, 2, 3.5, 4.25, 1],
            "num_keypoints": 2,
            "iscrowd": 0,
            "area": 12,
            "bbox": [1, 2, 3, 4],
        }
    ],
}


def write(folder: Path, content) -> Path:
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_image(path: Path, hw: tuple[int, int] = (20, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(hw, 7, np.uint8))


def read(folder: Path, change=lambda content: None):
    """Return the conversion of the minimal file after a change of it."""
    content = copy.deepcopy(MINIMAL)
    change(content)
    return read_coco_labels(write(folder, content))


def counts(notes) -> dict[str, int]:
    return {note.split(": ")[0]: int(note.split(": ")[1].split(" ")[0]) for note in notes}


def error_line(folder: Path, content) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_coco_labels(write(folder, content))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_file_keeps_everything_but_the_file_name(tmp_path):
    write_image(tmp_path / "a.png")
    conversion = read(tmp_path)
    expected = copy.deepcopy(MINIMAL)
    expected["images"][0]["file_name"] = "images/a.png"
    assert conversion.coco.model_dump(exclude_unset=True) == expected
    assert conversion.image_paths == {7: tmp_path / "a.png"}
    assert conversion.notes == ("images with another file name: 1 (a.png is images/a.png)",)


def test_every_correction_is_counted(tmp_path):
    write_image(tmp_path / "images/b.png", (30, 10))

    def spoil(content):
        content["images"][0]["id"] = "7"
        content["images"].append({"id": 8.0, "file_name": "images/b.png"})
        content["categories"].append({"id": 6, "name": "box"})
        content["categories"][0]["skeleton"] = [["nose", "ear"]]
        good = content["annotations"][0]
        for number, changes in enumerate(
            [
                {"image_id": "7", "num_keypoints": 9, "keypoints": [1, 2, 2.0, 3, 4, 0]},
                {"image_id": 8, "iscrowd": None, "area": 0},
                {"keypoints": [None, None, 0, "8.5", 9, "2"]},
                {"keypoints": [[float("nan"), 4, 2], [5, 6, 1]], "num_keypoints": 1},
                {"bbox": [1, 2, 3], "area": None},
                {"id": 11},
                {"category_id": 6, "keypoints": None},
                {"keypoints": []},
                {"image_id": 99},
                {"category_id": "5", "area": -4, "bbox": None},
            ]
        ):
            content["annotations"].append({**good, "id": 20 + number, **changes})

    conversion = read(tmp_path, spoil)
    coco = conversion.coco
    assert [(image.id, image.width, image.height) for image in coco.images] == [(7, 40, 20), (8, 10, 30)]
    by_id = {annotation.id: annotation for annotation in coco.annotations}
    assert list(by_id) == [11, 20, 21, 22, 23, 24, 30, 29]
    assert (by_id[20].image_id, by_id[20].num_keypoints) == (7, 1)
    assert (by_id[21].image_id, by_id[21].iscrowd, by_id[21].area) == (8, 0, 12)
    assert by_id[22].keypoints == [0, 0, 0, 8.5, 9, 2]
    assert by_id[23].keypoints == [0, 0, 0, 5, 6, 1]
    assert (by_id[24].bbox, by_id[24].area) == (None, None)
    assert by_id[30].keypoints == by_id[11].keypoints
    assert by_id[29].area is None
    assert counts(conversion.notes) == {
        "numbers that are not finite, which become null": 1,
        "image ids that are written as text or fraction": 2,
        "annotation ids that are missing or no numbers or occur twice": 1,
        "images with another file name": 1,
        "images without a size, which is read from the file": 1,
        "skeletons that are no pairs of keypoint numbers, which are left out": 1,
        "numbers of keypoints that are counted anew": 2,
        "annotations without the mark of a crowd, which are none": 1,
        "areas that are missing or 0, which become the box's": 1,
        "areas that are no number above 0, which are left out": 1,
        "keypoints with numbers written as text": 1,
        "lists of keypoints in lists, which are joined": 1,
        "points without finite numbers, which are absent": 1,
        "boxes that are not four numbers, which are left out": 1,
        "annotations without keypoints, which are left out": 2,
        "annotations of an image that the file does not hold, which are left out": 1,
    }


def test_ids_that_are_no_numbers_are_made_and_found(tmp_path):
    def spoil(content):
        content["images"][0]["id"] = "frame-a"
        content["images"].append({"id": 3, "file_name": "b.png", "width": 1, "height": 1})
        content["annotations"][0]["image_id"] = "frame-a"

    coco = read(tmp_path, spoil).coco
    assert [image.id for image in coco.images] == [4, 3]
    assert coco.annotations[0].image_id == 4


@pytest.mark.parametrize(
    ("name", "lies_at", "new"),
    [
        ("a.png", "a.png", "images/a.png"),
        ("a.png", "images/a.png", "images/a.png"),
        ("images/v/a.png", "images/v/a.png", "images/v/a.png"),
        ("v\\a.png", "v/a.png", "images/v/a.png"),
        ("v/a.png", "images/v/a.png", "images/v/a.png"),
        ("C:\\data\\a.png", "a.png", "images/a.png"),
        ("/data/set/a.png", "images/a.png", "images/a.png"),
        ("../v/./a.png", "../v/a.png", "images/v/a.png"),
    ],
)
def test_file_names(tmp_path, name, lies_at, new):
    folder = tmp_path / "set"
    write_image(folder / lies_at)
    conversion = read(folder, lambda content: content["images"][0].update(file_name=name))
    assert conversion.coco.images[0].file_name == new
    assert conversion.image_paths[7].samefile(folder / lies_at)


def test_file_names_stay_unique(tmp_path):
    def add(content):
        content["images"].append({**content["images"][0], "id": 8, "file_name": "images/a.png"})

    names = [image.file_name for image in read(tmp_path, add).coco.images]
    assert names == ["images/a.png", "images/a_2.png"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["images"][0].update(file_name=""), "images[0], field 'file_name': expected a text"),
        (lambda c: c["images"][0].pop("width"), "image 7, field 'width': expected a finite number"),
        (lambda c: c["images"].append(c["images"][0]), "image 7, field 'id': expected ids that occur once"),
        (lambda c: c.pop("categories"), "field 'categories': expected a list, got nothing"),
        (
            lambda c: c["categories"][0].update(keypoints=[[]]),
            "categories[0], field 'keypoints[0]': expected",
        ),
        (
            lambda c: c["annotations"][0].update(keypoints=[1, 2]),
            "annotation 11, field 'keypoints': expected 6",
        ),
        (
            lambda c: c["annotations"][0].update(keypoints=5),
            "annotation 11, field 'keypoints': expected a list",
        ),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 0.5), "expected visibility 0, 1 or 2"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(1, "x"), "field 'keypoints[1]': expected a"),
        (lambda c: c.update(annotations=[3]), "annotations[0]: expected a JSON object, got 3"),
    ],
)
def test_contradictions_are_errors(tmp_path, change, expected):
    content = copy.deepcopy(MINIMAL)
    change(content)
    assert expected in error_line(tmp_path, content)


def test_other_files(tmp_path):
    assert "expected a JSON object, got a list of 0" in error_line(tmp_path, "[]")
    assert "expected a COCO keypoint file as JSON in UTF-8" in error_line(tmp_path, "{")
    assert "not JSON compliant" in error_line(tmp_path, json.dumps(MINIMAL).replace("4.25", "1e999"))
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_coco_labels(tmp_path / "absent.json")
    with pytest.raises(ValueError, match="needs no category configuration"):
        read_coco_labels(tmp_path / "labels.json", categories=tmp_path)
    without = {key: value for key, value in MINIMAL.items() if key != "annotations"}
    assert read_coco_labels(write(tmp_path, without)).coco.annotations == []


def test_normalising_twice_changes_nothing(tmp_path):
    path = make_dataset("boxes", tmp_path / "drawn", 3, (64, 64))
    conversion = read_coco_labels(path)
    assert conversion.notes == ()
    assert conversion.coco == read_coco(path)
    assert {key: value.resolve() for key, value in conversion.image_paths.items()} == {
        image.id: (path.parent / image.file_name).resolve() for image in conversion.coco.images
    }
    assert write_coco_labels(conversion.coco, path.parent, tmp_path / "copy") == ()
    assert (tmp_path / "copy/annotations.json").read_bytes() == path.read_bytes()
    for image in conversion.coco.images:
        assert (tmp_path / "copy" / image.file_name).read_bytes() == (
            path.parent / image.file_name
        ).read_bytes()


def test_writing_notes_missing_images_and_new_names(tmp_path):
    write_image(tmp_path / "v/a.png")
    coco = read(tmp_path).coco
    coco.images.append(coco.images[0].model_copy(update={"id": 9, "file_name": "../v/a.png"}))
    notes = write_coco_labels(coco, tmp_path / "v", tmp_path / "out")
    assert notes == (
        "images that are missing, so that only their labels are written: 1 (images/a.png)",
        "images with another file name: 1 (../v/a.png is images/v/a.png)",
    )
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["a.png"]
    assert [i.file_name for i in read_coco(tmp_path / "out/annotations.json").images] == [
        "images/a.png",
        "images/v/a.png",
    ]
    coco.annotations[0].image_id = 1
    with pytest.raises(CocoError):
        write_coco_labels(coco, tmp_path / "v", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_dot_lies_where_its_label_says(tmp_path):
    """COCO's keypoints count from the centre of the first pixel."""
    x, y = 13.37, 9.81
    rows, columns = np.indices((36, 48))
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    assert cv2.imwrite(str(tmp_path / "a.png"), np.round(dot).astype(np.uint8))

    def move(content):
        content["images"][0].update(width=48, height=36)
        content["annotations"][0]["keypoints"][:3] = [x, y, 2]

    conversion = read(tmp_path, move)
    seen = cv2.imread(str(conversion.image_paths[7]), cv2.IMREAD_GRAYSCALE).astype(float)
    centroid = [(seen * indices).sum() / seen.sum() for indices in (columns, rows)]
    assert np.hypot(*(np.array(centroid) - conversion.coco.annotations[0].keypoints[:2])) <= 0.05


@pytest.mark.parametrize(
    ("name", "n_images", "n_annotations"),
    [
        ("coco_person/test_coco.json", 4, 14),
        ("cvat_example/annotations.json", 4, 4),
        ("cvat_example/coco.json", None, None),
        ("coco_results/example_coco_val.json", None, None),
    ],
)
def test_real_files(tmp_path, name, n_images, n_annotations):
    path = REAL_DATA / name
    if not path.is_file():
        pytest.skip(f"the real data set {name} is not here")
    raw = json.loads(path.read_text())
    coco = read_coco_labels(path).coco
    assert len(coco.images) == len(raw["images"])
    kept = [a for a in raw["annotations"] if a.get("keypoints")]
    assert [annotation.id for annotation in coco.annotations] == [a["id"] for a in kept]
    assert (n_images is None) or (len(coco.images), len(coco.annotations)) == (n_images, n_annotations)
    flags = [flag for a in kept for flag in a["keypoints"][2::3]]
    mine = [flag for annotation in coco.annotations for flag in annotation.keypoints[2::3]]
    assert [mine.count(v) for v in (0, 1, 2)] == [flags.count(v) for v in (0, 1, 2)]
