from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.formats.yolo import label_path, read_yolo

SETTINGS = """path: ../elsewhere
train: images/train
val: images/val
kpt_shape: [3, 3]
flip_idx: [0, 2, 1]
names: {0: person, 1: dog}
kpt_names: [nose, left_eye, right_eye]
"""


def write_image(path: Path, hw: tuple[int, int] = (20, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*hw, 3), 90, np.uint8))


def write_label(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Make a data set of two splits: 40x20 and 10x30 pixels, and one image without labels."""
    root = tmp_path / "pose"
    write_image(root / "images/train/a.png")
    write_image(root / "images/train/deep/b.jpg", (30, 10))
    write_image(root / "images/val/a.png")
    write_label(
        root / "labels/train/a.txt",
        "0 0.5 0.5 0.25 0.5 0.5 0.5 2 0.25 0.1 1 0 0 0",
        "",
        "1 0.5 0.5 1 1 0 0 2 1 1 2 0.7 0.3 0",
    )
    write_label(root / "labels/train/deep/b.txt")
    (root / "data.yaml").write_text(SETTINGS)
    return root


def error_line(source: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_yolo(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_hand_worked_numbers(folder):
    conversion = read_yolo(folder)
    coco, paths, notes = conversion.coco, conversion.image_paths, conversion.notes
    assert [image.file_name for image in coco.images] == [
        "images/train/a.png",
        "images/train/deep/b.jpg",
        "images/val/a.png",
    ]
    assert [(image.width, image.height) for image in coco.images] == [(40, 20), (10, 30), (40, 20)]
    assert [image.model_extra["split"] for image in coco.images] == ["train", "train", "val"]
    assert [paths[image.id].relative_to(folder).as_posix() for image in coco.images] == [
        image.file_name for image in coco.images
    ]
    person, dog = coco.categories
    assert (person.id, person.name, dog.id, dog.name) == (1, "person", 2, "dog")
    for category in coco.categories:
        assert category.keypoints == ["nose", "left_eye", "right_eye"]
        assert category.model_extra == {"symmetric_keypoints": [["left_eye", "right_eye"]]}
    first, second = coco.annotations
    assert first.keypoints == [19.5, 9.5, 2, 9.5, 1.5, 1, 0, 0, 0]  # 0.5 * 40 - 0.5, 0.1 * 20 - 0.5
    assert (first.bbox, first.area, first.num_keypoints) == ([15, 5, 10, 10], 100, 2)
    assert second.keypoints == [-0.5, -0.5, 2, 39.5, 19.5, 2, 0, 0, 0]  # the outer corners of the image
    assert (second.category_id, second.image_id, second.bbox) == (2, 1, [0, 0, 40, 20])
    assert notes == ()
    assert read_yolo(folder / "data.yaml").coco == coco


def test_two_numbers_per_keypoint_and_invented_names(folder):
    (folder / "data.yaml").write_text(
        "train: [images/train]\nval: images/val\ntest: \nkpt_shape: [2, 2]\nnames: [a]\n"
    )
    write_label(folder / "labels/train/a.txt", "0 .5 .5 .5 .5 0 0 .25 .5")
    coco = read_yolo(folder).coco
    assert coco.categories[0].keypoints == ["keypoint0", "keypoint1"]
    assert "symmetric_keypoints" not in coco.categories[0].model_extra
    assert coco.annotations[0].keypoints == [0, 0, 0, 9.5, 9.5, 2]


def test_points_and_boxes_outside_are_noted_with_file_and_line(folder):
    path = folder / "labels/train/a.txt"
    write_label(path, "0 .5 .5 .5 .5 1.25 .5 2 .5 .5 2 -.5 9 0", "0 .5 .5 1.5 .5 0 0 0 .25 .5 1 .5 .75 1")
    conversion = read_yolo(folder)
    first, second = conversion.coco.annotations
    assert first.keypoints == [0, 0, 0, 19.5, 9.5, 2, 0, 0, 0]
    assert first.num_keypoints == 1
    assert second.bbox == [10, 10, 10, 5]  # around the points, from the corner of the image
    assert conversion.notes == (
        f"points outside [0, 1], which are absent: 1 ({path} line 1: 'nose' at 1.25 0.5)",
        f"boxes outside [0, 1], replaced by the box around the points: 1 ({path} line 2: 0.5 0.5 1.5 0.5)",
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 .5 .5 .5 .5 .5 .5 2", "expected 14 numbers (class, box, keypoints as kpt_shape says), got 8"),
        ("0 .5 .5 .5 .5 x .5 2 0 0 0 0 0 0", "expected finite numbers"),
        ("0 .5 .5 .5 .5 nan .5 2 0 0 0 0 0 0", "expected finite numbers"),
        ("2 .5 .5 .5 .5 .5 .5 2 0 0 0 0 0 0", "expected a class from 0 to 1, got 2"),
        ("0.5 .5 .5 .5 .5 .5 .5 2 0 0 0 0 0 0", "expected a class from 0 to 1, got 0.5"),
        ("0 .5 .5 .5 .5 .5 .5 3 0 0 0 0 0 0", "expected visibility 0, 1 or 2 for 'nose', got 3"),
    ],
)
def test_a_malformed_line_names_file_and_line(folder, line, expected):
    path = folder / "labels/train/a.txt"
    write_label(path, "0 .5 .5 .5 .5 .5 .5 2 0 0 0 0 0 0", line)
    assert error_line(folder).startswith(f"{path} line 2: {expected}")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[0, 2, 1]", "[0, 1]", "field 'flip_idx': expected 3 numbers as kpt_shape says, got 2 numbers"),
        ("[0, 2, 1]", "[1, 2, 0]", "expected keypoints that change places in pairs, got 0 -> 1 -> 2"),
        ("[0, 2, 1]", "[0, 2, 7]", "got 1 -> 2 -> 7"),
        ("[0, 2, 1]", "[0, 2, -1]", "expected a whole number from 0 to 10000, got '-1'"),
        ("kpt_shape: [3, 3]", "", "field 'kpt_shape': expected [keypoints, 2 or 3], got nothing"),
        ("[3, 3]", "[3, 4]", "field 'kpt_shape': expected [keypoints, 2 or 3], got [3, 4]"),
        ("[3, 3]", "[99999999999, 3]", "expected a whole number from 0 to 10000"),
        ("[nose, ", "[", "field 'kpt_names' of class 0: expected 3 names as kpt_shape says, got 2"),
        ("[nose, left_eye", "[nose, nose", "expected names that occur once, got 'nose' twice"),
        ("1: dog", "2: dog", "field 'names': expected class names, numbered from 0"),
        ("images/val", "images/nowhere", "field 'val': expected images at"),
        ("train: images/train\nval: images/val", "", "expected the images of train, val, test, got none"),
        ("train: images/train", "train: /", "expected a folder of images, got the root of the disk"),
        ("path: ", "path: {", "expected the data.yaml of a YOLO data set; while parsing"),
    ],
)
def test_a_wrong_setting_names_the_field(folder, old, new, expected):
    assert old in SETTINGS
    (folder / "data.yaml").write_text(SETTINGS.replace(old, new))
    assert expected in error_line(folder)


def test_names_of_each_class(folder):
    names = "kpt_names: {0: [a, b, c], 1: [d, e, f]}"
    (folder / "data.yaml").write_text(SETTINGS.replace("kpt_names: [nose, left_eye, right_eye]", names))
    assert [category.keypoints for category in read_yolo(folder).coco.categories] == [
        ["a", "b", "c"],
        ["d", "e", "f"],
    ]


def test_images_in_two_splits_have_none_and_are_kept_once(folder):
    (folder / "data.yaml").write_text(SETTINGS.replace("images/val", "images/train"))
    conversion = read_yolo(folder)
    assert [image.model_extra for image in conversion.coco.images] == [{}, {}]
    assert len(conversion.coco.annotations) == 2
    assert conversion.notes[0].startswith("images in several splits, which get no split: 2 (")


def test_exports_with_the_split_above_images(tmp_path):
    """The folders are train/images and train/labels, and data.yaml counts from one folder too deep."""
    write_image(tmp_path / "train/images/a.png")
    write_label(tmp_path / "train/labels/a.txt", "0 .5 .5 .5 .5 .5 .5")
    write_label(tmp_path / "train/labels/ghost.txt", "0 .5 .5 .5 .5 .5 .5")
    (tmp_path / "train/images/b.gif").write_bytes(b"GIF")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\ntest: ../test/images\nkpt_shape: [1, 2]\nnc: 1\nroboflow: {a: b}\n"
    )
    conversion = read_yolo(tmp_path)
    assert [image.file_name for image in conversion.coco.images] == ["images/train/a.png"]
    assert conversion.coco.annotations[0].keypoints == [19.5, 9.5, 2]
    assert [note.split(":")[0] for note in conversion.notes] == [
        "fields of data.yaml that are not known and left out",
        "images of a kind that is not read",
        "test images that are named but not there",
        "label files without an image, which are left out",
    ]


def test_lists_of_images(folder):
    (folder / "train.txt").write_text("./images/train/a.png\n\nimages/val/a.png\n")
    (folder / "data.yaml").write_text(
        SETTINGS.replace("images/train", "train.txt").replace("val: images/val", "val: null")
    )
    coco = read_yolo(folder).coco
    assert [image.file_name for image in coco.images] == ["images/train/a.png", "images/val/a.png"]
    assert [image.model_extra["split"] for image in coco.images] == ["train", "train"]
    (folder / "train.txt").write_text("images/train/a.png\nimages/c.png\n")
    assert error_line(folder).startswith(f"{folder / 'train.txt'} line 2: expected an image at ")


def test_missing_things(folder, tmp_path):
    assert "found nothing; give its data.yaml" in error_line(tmp_path / "absent")
    assert "found 0 other YAML files" in error_line(folder / "images")
    (folder / "images/val/a.png").write_bytes(b"no image")
    assert error_line(folder).startswith("expected an image, got a file that cannot be decoded: ")
    with pytest.raises(ValueError, match="needs no category configuration"):
        read_yolo(folder, categories=tmp_path)


def test_the_last_images_folder_becomes_labels():
    assert label_path(Path("/images/x/images/train/a.b.png")) == Path("/images/x/labels/train/a.b.txt")
    assert label_path(Path("/images/images.png")) == Path("/labels/images.txt")
    assert label_path(Path("frames/a.png")) == Path("frames/a.txt")


@pytest.mark.parametrize(("x", "y"), [(13.37, 9.81), (30.0, 12.5), (7.9, 21.02)])
def test_a_dot_lies_where_its_label_says(tmp_path, x, y):
    """x, y in pixels from the top-left corner, as a drawing tool counts; pixel j spans [j, j + 1] there."""
    width, height = 48, 36
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    (tmp_path / "images").mkdir()
    assert cv2.imwrite(str(tmp_path / "images/a.png"), np.round(dot).astype(np.uint8))
    write_label(tmp_path / "labels/a.txt", f"0 .5 .5 1 1 {x / width:.6f} {y / height:.6f} 2")
    (tmp_path / "data.yaml").write_text("train: images\nkpt_shape: [1, 3]\nnames: [dot]\n")
    conversion = read_yolo(tmp_path)
    seen = cv2.imread(str(conversion.image_paths[1]), cv2.IMREAD_GRAYSCALE).astype(float)
    centroid = [(seen * np.indices(seen.shape)[axis]).sum() / seen.sum() for axis in (1, 0)]
    assert np.hypot(*(np.array(centroid) - conversion.coco.annotations[0].keypoints[:2])) <= 0.05


def read_or_one_line(root: Path) -> None:
    before = sorted(path.name for path in root.rglob("*"))
    try:
        read_yolo(root)
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert sorted(path.name for path in root.rglob("*")) == before


FUZZED = {
    "data.yaml": SETTINGS.encode(),
    "labels/train/a.txt": b"0 0.5 0.5 0.25 0.5 0.5 0.5 2 0.25 0.1 1 0 0 0\n",
    "images/train/a.png": b"",
}


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(FUZZED)),
    cut=st.tuples(st.floats(0, 1), st.integers(0, 12)),
    extra=st.binary(max_size=12)
    | st.sampled_from([b"&a [*a]", b"!!int x", b"2001-99-99", b"[" * 3000, b"- "]),
    whole=st.booleans(),
)
def test_any_bytes_give_a_result_or_one_line(tmp_path_factory, name, cut, extra, whole):
    root = tmp_path_factory.mktemp("fuzz")
    write_image(root / "images/train/a.png")
    write_image(root / "images/val/b.jpg")
    for path, content in FUZZED.items():
        if content:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    valid = (root / name).read_bytes()
    start, n_cut = int(cut[0] * len(valid)), cut[1]
    (root / name).write_bytes(extra if whole else valid[:start] + extra + valid[start + n_cut :])
    read_or_one_line(root)


def test_hand_made_settings_that_break_parsers(folder):
    for text in ("a: &a [*a]", "? [1, 2]\n: 3", "[" * 5000, "names: &n {0: *n}", "\0", "kpt_shape: 1", ""):
        (folder / "data.yaml").write_text(text)
        error_line(folder)
    anchors = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    (folder / "data.yaml").write_text(f"a0: &a0 [x]\n{anchors}names: *a29\nkpt_shape: [1, 2]\n")
    error_line(folder)
