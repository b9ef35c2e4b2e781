import importlib.util
import inspect
import json
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection import convert
from keypoint_detection.convert import FORMATS, Format, convert_from_coco, convert_to_coco
from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.synthetic import make_dataset


def write_image(path: Path, value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((20, 40), value, np.uint8))
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Register a format `fake` of three images, the last one without a file; return the source folder."""
    source = tmp_path / "source"
    paths = {1: write_image(source / "frames/a.png"), 2: write_image(source / "frames/b.png", 9)}
    coco = CocoKeypoints.model_validate(
        {
            "images": [
                {"id": number, "file_name": f"images/v/{name}.png", "width": 40, "height": 20}
                for number, name in enumerate("abc", start=1)
            ],
            "categories": [{"id": 1, "name": "face", "keypoints": ["nose", "ear"]}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 0, 0, 0]},
                {"id": 2, "image_id": 3, "category_id": 1, "keypoints": [1, 2, 1, 3, 4, 2]},
            ],
        }
    )
    module = types.ModuleType("fake_format")
    module.conversion = Conversion(coco, paths, ("one thing was odd",))

    def read_fake(source, *, categories=None):
        module.categories = categories
        return module.conversion

    module.read_fake = read_fake
    monkeypatch.setitem(sys.modules, "fake_format", module)
    monkeypatch.setitem(FORMATS, "fake", Format("fake_format:read_fake", None, "for the test"))
    return source


def test_images_and_labels_are_written(fake, tmp_path):
    done = convert_to_coco("fake", fake, tmp_path / "out", categories=str(tmp_path / "c.json"))
    assert sys.modules["fake_format"].categories == tmp_path / "c.json"
    assert (done.path, done.n_images, done.n_annotations, done.n_keypoints) == (
        tmp_path / "out/annotations.json",
        3,
        2,
        3,
    )
    assert done.notes == (
        "one thing was odd",
        "images without a file, whose labels are kept: 1 (the first one: images/v/c.png)",
    )
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == [
        "annotations.json",
        "images/v/a.png",
        "images/v/b.png",
    ]
    assert (tmp_path / "out/images/v/b.png").read_bytes() == (fake / "frames/b.png").read_bytes()
    assert read_coco(done.path) == sys.modules["fake_format"].conversion.coco


def test_links_point_to_the_originals(fake, tmp_path):
    before = sys.modules["fake_format"].conversion.coco.model_copy(deep=True)
    done = convert_to_coco("fake", fake, tmp_path / "out", link=True)
    names = [image.file_name for image in read_coco(done.path).images]
    assert names == ["../source/frames/a.png", "../source/frames/b.png", "images/v/c.png"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotations.json"]
    assert sys.modules["fake_format"].conversion.coco == before
    assert convert_to_coco("fake", fake, tmp_path / "out").n_images == 3  # the same data set, copied now


@pytest.fixture
def holding(fake, monkeypatch):
    """Let the source of the format `fake` hold its third image itself; return what it is asked for."""
    asked = []

    def extract(source, folder, coco):
        asked.append((source, [image.file_name for image in coco.images]))
        for image in coco.images:
            write_image(folder / image.file_name, 33)
        return len(coco.images)

    sys.modules["fake_format"].extract = extract
    entry = Format("fake_format:read_fake", None, "for the test", extract="fake_format:extract")
    monkeypatch.setitem(FORMATS, "fake", entry)
    return asked


def test_images_inside_the_source_are_extracted(fake, holding, tmp_path):
    done = convert_to_coco("fake", fake, tmp_path / "deep/er/out")
    assert holding == [(fake, ["images/v/c.png"])]
    assert done.notes == ("one thing was odd", "images written out of the source or its videos: 1")
    assert (cv2.imread(str(done.path.parent / "images/v/c.png")) == 33).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "source"]
    assert convert_to_coco("fake", fake, tmp_path / "deep/er/out").notes == done.notes  # replaced
    assert sorted(path.name for path in done.path.parent.iterdir()) == ["annotations.json", "images"]
    write_image(done.path.parent / "images/v/c.png", 34)
    refused(fake, done.path.parent, "expected no other image at .*c.png, where")


def test_links_extract_nothing(fake, holding, tmp_path):
    done = convert_to_coco("fake", fake, tmp_path / "out", link=True)
    assert holding == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotations.json"]
    assert "convert without link" in done.notes[1]


def test_an_earlier_conversion_is_replaced(fake, tmp_path):
    first = convert_to_coco("fake", fake, tmp_path / "out")
    sys.modules["fake_format"].conversion.coco.annotations.pop()
    assert convert_to_coco("fake", fake, tmp_path / "out").n_annotations == 1
    assert len(read_coco(first.path).annotations) == 1


def refused(fake, output: Path, expected: str) -> None:
    before = {path: path.read_bytes() for path in output.parent.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=expected) as caught:
        convert_to_coco("fake", fake, output)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in output.parent.rglob("*") if path.is_file()} == before


def test_outputs_that_would_destroy_something_are_refused(fake, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(fake, tmp_path / "file", "expected a folder for the output, got the file")
    refused(fake, fake / "frames" / "coco", "expected an output outside of the source's images")
    make_dataset("boxes", tmp_path / "boxes", 1, (64, 64))
    refused(
        fake, tmp_path / "boxes", "expected an empty folder or an earlier conversion, got another data set"
    )
    (tmp_path / "boxes/annotations.json").write_text("[]")
    refused(fake, tmp_path / "boxes", "got what this library cannot read")
    write_image(tmp_path / "half/images/v/b.png", 30)
    refused(fake, tmp_path / "half", "expected no other image at .*b.png, where")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../a.png", "inside the data set"),
        ("/a.png", "inside the data set"),
        ("images/v/b.png", "that occur once"),
    ],
)
def test_file_names_of_a_reader_are_checked(fake, tmp_path, name, expected):
    sys.modules["fake_format"].conversion.coco.images[0].file_name = name
    refused(fake, tmp_path / "out", expected)


def test_contradicting_labels_write_nothing(fake, tmp_path):
    sys.modules["fake_format"].conversion.coco.annotations[0].image_id = 99
    refused(fake, tmp_path / "out", "annotation 1, field 'image_id'")
    assert not (tmp_path / "out").exists()


def test_the_source_itself_is_never_replaced(tmp_path):
    path = make_dataset("boxes", tmp_path, 1, (64, 64))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="it would replace the source"):
        convert_to_coco("coco", path, tmp_path)
    with pytest.raises(ValueError, match="it would replace the source"):
        convert_from_coco("coco", path, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "coco"])
def test_labels_of_another_tool_may_lie_beside_the_source(tmp_path, name):
    path = make_dataset("boxes", tmp_path, 2, (64, 64))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    convert_from_coco(name, path, tmp_path)
    assert {file: file.read_bytes() for file in before} == before


def test_unknown_formats_and_missing_writers(fake, tmp_path):
    with pytest.raises(ValueError, match=r"unknown format 'yolov8'; known: cvat, .*Did you mean 'yolo'"):
        convert_to_coco("yolov8", fake, tmp_path / "out")
    with pytest.raises(ValueError, match=r"expected a format that can be written .*, got 'fake'"):
        convert_from_coco("fake", tmp_path / "a.json", tmp_path / "out")


def test_to_yolo_and_back(tmp_path):
    path = make_dataset("flowers", tmp_path / "drawn", 3, (64, 96), seed=2)
    original = read_coco(path)
    notes = convert_from_coco("yolo", path, tmp_path / "yolo")
    assert any("'skeleton'" in note for note in notes)
    done = convert_to_coco("yolo", tmp_path / "yolo", tmp_path / "back")
    back = read_coco(done.path)
    assert [image.file_name for image in back.images] == [image.file_name for image in original.images]
    assert len(back.annotations) == len(original.annotations) == done.n_annotations
    flags = [flag for annotation in original.annotations for flag in annotation.keypoints[2::3]]
    assert done.n_keypoints == len([flag for flag in flags if flag])
    for mine, theirs in zip(back.annotations, original.annotations, strict=True):
        assert mine.keypoints == pytest.approx(theirs.keypoints, abs=1e-6)
    for image in original.images:
        assert (tmp_path / "back" / image.file_name).read_bytes() == (
            path.parent / image.file_name
        ).read_bytes()


def test_coco_to_coco(tmp_path):
    path = make_dataset("boxes", tmp_path / "drawn", 2, (64, 64))
    done = convert_to_coco("coco", path, tmp_path / "new")
    assert done.path.read_bytes() == path.read_bytes()
    assert convert_from_coco("coco", path, tmp_path / "newer") == ()
    assert json.loads((tmp_path / "newer/annotations.json").read_text()) == json.loads(path.read_text())


def test_a_source_that_may_not_be_read_is_one_line(fake, tmp_path):
    def read_fake(source, *, categories=None):
        raise PermissionError(13, "Permission denied", f"{source}/a.json")

    sys.modules["fake_format"].read_fake = read_fake
    refused(
        fake, tmp_path / "out", "source/a.json: expected a file or folder that can be read, got: Permission"
    )


def one_line(name: str, source: Path, output: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        convert_to_coco(name, source, output)
    assert not output.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_sources_that_are_nothing_are_one_line(tmp_path, name):
    """An empty folder, a file without a byte, and no file: the line names the path."""
    (tmp_path / "folder").mkdir()
    endings = {"cvat": "xml", "deeplabcut": "csv", "sleap": "slp", "yolo": "yaml"}
    file = tmp_path / f"empty.{endings.get(name, 'json')}"
    file.write_bytes(b"")
    for source in (tmp_path / "folder", file, tmp_path / "gone", tmp_path / "nul\0"):
        if "nul" not in source.name:
            assert str(source) in one_line(name, source, tmp_path / "out")
        else:
            one_line(name, source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "folder"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("way", ["reader", "writer"])
def test_every_format_has_its_functions(name, way):
    place = getattr(FORMATS[name], way)
    module, _, function = place.partition(":")
    assert importlib.util.find_spec(module) is not None
    parameters = list(inspect.signature(convert._load(place)).parameters)
    assert parameters == (["source", "categories"] if way == "reader" else ["coco", "image_folder", "output"])
    assert FORMATS[name].description
    assert function.startswith("read_" if way == "reader" else "write_")
