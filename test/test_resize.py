import json
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from reference.dots import centroid, draw_dot

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.datamodule import resized_dataset_path
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.resize import resize_dataset

SCRIPTS = Path(__file__).parents[1] / "labeling"
NAMES = ["a", "b"]


def write_dataset(folder: Path, images: dict[str, np.ndarray], **fields) -> Path:
    """Write images, in OpenCV's order of channels, with one annotation each whose first point is (10, 20)."""
    content: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 7, "name": "thing", "keypoints": NAMES}]
    for number, (name, pixels) in enumerate(images.items(), start=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
        height, width = pixels.shape[:2]
        content["images"].append(
            {"id": number, "file_name": name, "width": width, "height": height, "video": "v"}
        )
        annotation = {"id": number, "image_id": number, "category_id": 7, "keypoints": [10, 20, 2, 0, 0, 0]}
        content["annotations"].append({**annotation, **fields})
    path = folder / "train.json"
    path.write_text(json.dumps(content))
    return path


def noise(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize(
    "size_hw", [(64, 64), (128, 160), (57, 91), (301, 203), (96, 128), (200, 61), (80, 110)]
)
@pytest.mark.parametrize("xy", [(63.3, 47.8), (41.0, 30.25)])
def test_dot(tmp_path, size_hw, letterbox, xy):
    dot = draw_dot((96, 128), xy, sigma_px=4.0)
    json_path = write_dataset(tmp_path / "dataset", {"dot.png": dot}, keypoints=[*xy, 2, 0, 0, 0])
    annotation = read_coco(resize_dataset(json_path, size_hw, letterbox=letterbox)).annotations[0]
    found = cv2.imread(str(tmp_path / f"dataset_{size_hw[0]}x{size_hw[1]}/dot.png"), cv2.IMREAD_UNCHANGED)
    assert found.shape == size_hw
    assert np.abs(centroid(found) - annotation.keypoints[:2]).max() <= 0.05
    assert annotation.keypoints[2:] == [2, 0, 0, 0]


def test_labels_by_hand(tmp_path):
    """Height times 2, width times 0.5: (x + .5) * s - .5 for points, x * s for boxes and outlines."""
    fields = {
        "bbox": [4, 5, 20, 30],
        "area": 600,
        "segmentation": [[0, 0, 40, 0, 40, 50]],
        "occluded_by": "hand",
        "iscrowd": 0,
    }
    json_path = write_dataset(tmp_path / "dataset", {"images/a.png": noise(50, 40, 3)}, **fields)
    coco = read_coco(resize_dataset(json_path, (100, 20)))
    image, annotation = coco.images[0], coco.annotations[0]
    assert (image.width, image.height, image.file_name) == (20, 100, "images/a.png")
    assert image.model_extra == {"video": "v"}
    assert annotation.keypoints == [4.75, 40.5, 2, 0, 0, 0]
    assert annotation.bbox == [2, 10, 10, 60]
    assert annotation.area == 600
    assert annotation.model_extra == {"segmentation": [[0, 0, 20, 0, 20, 100]], "occluded_by": "hand"}


def test_letterbox_by_hand(tmp_path):
    """40x20 (w x h) into 40x40: scale 1, ten rows of grey above and below."""
    pixels = noise(20, 40, 3)
    json_path = write_dataset(
        tmp_path / "d", {"a.png": pixels}, bbox=[1, 2, 3, 4], keypoints=[0, 19, 1, 0, 0, 0]
    )
    coco = read_coco(resize_dataset(json_path, (40, 40), letterbox=True))
    assert coco.annotations[0].keypoints == [0, 29, 1, 0, 0, 0]
    assert coco.annotations[0].bbox == [1, 12, 3, 4]
    found = cv2.imread(str(tmp_path / "d_40x40/a.png"))
    assert (found[10:30] == pixels).all()
    assert (found[:10] == 114).all()
    assert (found[30:] == 114).all()


def test_there_and_back(tmp_path):
    json_path = make_dataset("boxes", tmp_path / "dataset", 3, (64, 96), seed=3)
    there = resize_dataset(json_path, (37, 131), tmp_path / "there")
    back = resize_dataset(there, (64, 96), tmp_path / "back")
    first, last = read_coco(json_path), read_coco(back)
    assert [image.model_dump() for image in first.images] == [image.model_dump() for image in last.images]
    assert len(first.annotations) == len(last.annotations) > 0
    for one, other in zip(first.annotations, last.annotations, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-9)
        np.testing.assert_allclose(one.bbox, other.bbox, atol=1e-9)
        assert one.area == pytest.approx(other.area)
    assert [category.model_dump() for category in first.categories] == [
        category.model_dump() for category in last.categories
    ]


def test_the_default_folder_is_where_training_looks(tmp_path):
    json_path = write_dataset(tmp_path / "dataset", {"a.png": noise(30, 40, 3)})
    written = resize_dataset(json_path, (24, 48), workers=1)
    assert written == resized_dataset_path(json_path, "24x48")
    assert files_below(written.parent) == {"a.png", "train.json"}


def test_the_same_size_keeps_every_pixel_and_number(tmp_path):
    pixels = noise(30, 40, 3)
    json_path = write_dataset(tmp_path / "dataset", {"a.png": pixels}, keypoints=[1.37, 2.91, 1, 0, 0, 0])
    written = resize_dataset(json_path, (30, 40))
    assert (cv2.imread(str(written.parent / "a.png")) == pixels).all()
    assert json.loads(written.read_text()) == json.loads(json_path.read_text())


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("grey.png", noise(40, 50)),
        ("deep.png", noise(40, 50, dtype=np.uint16)),
        ("deep.tif", noise(40, 50, 3, dtype=np.uint16)),
        ("alpha.png", noise(40, 50, 4)),
        ("photo.JPG", noise(40, 50, 3)),
        ("photo.webp", noise(40, 50, 3)),
    ],
)
def test_kinds_of_images_stay(tmp_path, name, pixels):
    json_path = write_dataset(tmp_path / "dataset", {name: pixels})
    written = resize_dataset(json_path, (20, 100)).parent / name
    found = cv2.imread(str(written), cv2.IMREAD_UNCHANGED)
    assert found.dtype == pixels.dtype
    assert found.shape == (20, 100, *pixels.shape[2:])
    assert abs(found.mean() / pixels.mean() - 1) < 0.02
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".tif": b"II", ".webp": b"RIFF"}
    assert written.read_bytes().startswith(magic[written.suffix.lower()])


def test_an_exif_rotation_is_applied(tmp_path):
    """Orientation 6: the stored 60x40 (w x h) is shown as 40x60, turned clockwise by a quarter."""
    stored = np.full((40, 60, 3), 20, np.uint8)
    stored[:, :30] = 220  # the left half becomes the upper one
    json_path = write_dataset(tmp_path / "dataset", {"a.jpg": stored})
    plain = (tmp_path / "dataset/a.jpg").read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "dataset/a.jpg").write_bytes(plain[:2] + segment + plain[2:])
    with pytest.raises(ValueError, match=r"expected 60x40 .*got 40x60 .*EXIF"):
        resize_dataset(json_path, (30, 20))
    content = json.loads(json_path.read_text())
    content["images"][0].update(width=40, height=60)
    json_path.write_text(json.dumps(content))
    found = cv2.imread(str(resize_dataset(json_path, (30, 20)).parent / "a.jpg"))
    assert found[:12].mean() > 210
    assert found[18:].mean() < 30


def test_masks_and_unknown_numbers_are_named(tmp_path, caplog):
    fields = {"segmentation": {"counts": [1, 2], "size": [30, 40]}, "foot": [1.0, 2.0]}
    json_path = write_dataset(
        tmp_path / "dataset", {"a.png": noise(30, 40), "b.png": noise(30, 40)}, **fields
    )
    coco = read_coco(resize_dataset(json_path, (15, 20)))
    assert coco.annotations[0].model_extra == {"foot": [1.0, 2.0]}
    assert "2 segmentations are left out" in caplog.text
    assert "field 'foot' of 2 annotations" in caplog.text


def test_images_outside_the_folder_come_inside(tmp_path):
    """A converted set with links leads out of its folder: the copy must not land on the originals."""
    write_dataset(tmp_path / "videos", {"one/a.png": noise(30, 40)})
    json_path = write_dataset(tmp_path / "dataset", {"b.png": noise(30, 40)})
    content = json.loads(json_path.read_text())
    content["images"][0]["file_name"] = "../videos/one/a.png"
    json_path.write_text(json.dumps(content))
    original = (tmp_path / "videos/one/a.png").read_bytes()
    written = resize_dataset(json_path, (15, 20))
    assert read_coco(written).images[0].file_name == "videos/one/a.png"
    assert (written.parent / "videos/one/a.png").is_file()
    assert (tmp_path / "videos/one/a.png").read_bytes() == original


def test_the_source_is_never_replaced(tmp_path):
    json_path = write_dataset(tmp_path / "dataset", {"images/a.png": noise(30, 40)})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "images").symlink_to(tmp_path / "dataset/images")
    for output in (tmp_path / "dataset", tmp_path / "other/../dataset", linked):
        with pytest.raises(ValueError, match="would replace the file it is made from"):
            resize_dataset(json_path, (15, 20), output)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def corrupt(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"no image")


def remove(folder: Path) -> None:
    (folder / "b.png").unlink()


def other_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "b.png"), noise(31, 40))


def no_json(folder: Path) -> None:
    (folder / "train.json").write_text('{"images": [')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (corrupt, "got a corrupt, cut or unknown file"),
        (remove, r"image 2: expected a file at .*b\.png"),
        (other_size, "image 2 .*expected 40x30 .*got 40x31"),
        (no_json, "expected JSON"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, damage, message):
    json_path = write_dataset(tmp_path / "dataset", {"a.png": noise(30, 40), "b.png": noise(30, 40)})
    damage(tmp_path / "dataset")
    before = files_below(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        resize_dataset(json_path, (15, 20), tmp_path / "new/deep")
    assert "\n" not in str(caught.value)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("size_hw", [(0, 10), (10, -1), (10, 40000)])
def test_a_size_that_cannot_be_drawn(tmp_path, size_hw):
    with pytest.raises(ValueError, match="height and width of 1 to 32766"):
        resize_dataset(tmp_path / "none.json", size_hw)


def test_no_workers_and_a_file_as_output(tmp_path):
    json_path = write_dataset(tmp_path / "dataset", {"a.png": noise(30, 40)})
    with pytest.raises(ValueError, match="at least 1 worker, got 0"):
        resize_dataset(json_path, (15, 20), workers=0)
    for output in (json_path, json_path / "below"):
        with pytest.raises(ValueError, match="expected a folder"):
            resize_dataset(json_path, (15, 20), output)


def test_two_files_that_would_become_one(tmp_path):
    write_dataset(tmp_path, {"a.png": noise(30, 40)})
    json_path = write_dataset(tmp_path / "dataset", {"a.png": noise(30, 40), "b.png": noise(30, 40)})
    json_path.write_text(json_path.read_text().replace('"b.png"', '"../a.png"'))
    with pytest.raises(ValueError, match=r"image 2: .*would both become a\.png"):
        resize_dataset(json_path, (15, 20))


KILLED = """
import sys, time
from keypoint_detection import resize
real = resize.write_pixels
def slow(path, pixels):
    real(path, pixels)
    print(path, flush=True)
    time.sleep(30)
resize.write_pixels = slow
resize.resize_dataset(sys.argv[1], (15, 20), workers=1)
"""


def test_a_killed_run_leaves_no_coco_file(tmp_path):
    json_path = write_dataset(tmp_path / "dataset", {"a.png": noise(30, 40), "b.png": noise(30, 40)})
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, json_path], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline().strip().endswith("a.png")
        run.send_signal(signal.SIGKILL)
    assert not list(tmp_path.glob("dataset_*"))
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["dataset"]
    assert read_coco(resize_dataset(json_path, (15, 20))).images[1].width == 20


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    json_path = write_dataset(tmp_path / "dataset", {f"{name}.png": noise(30, 40) for name in "abcd"})
    old = resize_dataset(json_path, (15, 20), tmp_path / "new").read_bytes()
    before, calls = files_below(tmp_path), []

    def interrupted(path, _pixels):
        calls.append(path)
        time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("keypoint_detection.resize.write_pixels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resize_dataset(json_path, (8, 8), tmp_path / "new", workers=1)
    assert len(calls) < 4
    assert files_below(tmp_path) == before
    assert (tmp_path / "new/train.json").read_bytes() == old


@pytest.mark.parametrize(
    ("script", "given", "called"),
    [
        (
            "scripts/resize_coco_dataset.py",
            ["train.json", "--size", "15x20"],
            ["resize", "train.json", "--size", "15x20"],
        ),
        ("scripts/crop_coco_dataset.py", ["train.json"], ["crop", "train.json"]),
        (
            "convert_cvat_to_coco.py",
            ["--cvat_xml_file", "a.xml", "--coco_categories_config_path", "c.json", "--link"],
            ["convert", "cvat", "a.xml", "--output", "dataset", "--categories", "c.json", "--link"],
        ),
        (
            "convert_cvat_to_coco.py",
            ["--cvat_xml_file", "a.xml", "--output", "o"],
            ["convert", "cvat", "a.xml", "--output", "o"],
        ),
    ],
)
def test_scripts_call_the_commands(monkeypatch, script, given, called):
    calls = []
    monkeypatch.setattr("keypoint_detection.__main__.main", lambda argv: calls.append(argv) or 3)
    monkeypatch.setattr(sys, "argv", [script, *given])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert ended.value.code == 3
    assert calls == [called]
    assert len((SCRIPTS / script).read_text().splitlines()) <= 80


def test_real_photographs(tmp_path):
    source = Path(__file__).parents[2] / "shared/data/cvat_example/coco.json"
    if not source.is_file():
        pytest.skip("the example data are not beside the repository")
    first, last = read_coco(source), read_coco(resize_dataset(source, (128, 64), tmp_path / "small"))
    assert len(last.images) == 4
    for one, other in zip(first.annotations, last.annotations, strict=True):
        expected = np.array(one.keypoints).reshape(-1, 3)
        expected[:, :2] = (expected[:, :2] + 0.5) * [0.25, 0.5] - 0.5
        seen = expected[:, 2] > 0
        np.testing.assert_allclose(np.array(other.keypoints).reshape(-1, 3)[seen], expected[seen], atol=1e-9)
