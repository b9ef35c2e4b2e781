"""The corrected copy: every planted fault is gone and counted, and the original stays as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.doctor import examine
from keypoint_detection.doctor_fix import fix_dataset


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = make_dataset("boxes", tmp_path / "set", 16, (96, 96), seed=3)
    content = json.loads(path.read_text())
    content["categories"][0]["symmetric_keypoints"] = []  # nothing is left to declare
    path.write_text(json.dumps(content))
    return path


def plant(path: Path) -> dict[str, Any]:
    """Plant a fault of each kind that can be mended, each into entries of its own."""
    content = json.loads(path.read_text())
    images, annotations = content["images"], content["annotations"]
    full = [entry for entry in annotations if entry["num_keypoints"] == 6]
    assert len({entry["image_id"] for entry in full}) >= 10
    full[0]["keypoints"][:2] = [96.2, 3]
    full[1]["num_keypoints"] = 2
    full[2]["area"] = 0
    del full[3]["area"]
    full[3]["bbox"] = [0, 0, 0, 0]
    full[4]["keypoints"].pop()
    full[5]["image_id"] = 999
    full[6]["category_id"] = 999
    full[7]["keypoints"][2] = 3
    annotations.append({**full[8], "id": 901})
    annotations.append({**full[2], "id": annotations[0]["id"], "keypoints": [5, 5, 2] * 6, "note": "kept"})
    annotations.append({"id": 902, "image_id": "x"})
    annotations.append(None)
    images[1]["width"] = 50
    images.append({**images[2], "id": 950, "file_name": images[2]["file_name"]})
    images.append({**images[3], "id": images[3]["id"], "file_name": "images/none.png"})
    images.append({"id": 951})
    content["info"] = {"author": "someone"}
    path.write_text(json.dumps(content))
    return content


def test_fixed_copy_has_none_of_the_faults(path: Path, tmp_path: Path) -> None:
    plant(path)
    before = path.read_bytes()
    codes = {finding.code for finding in examine([path]).findings}
    assert codes >= {
        "point-outside",
        "num-keypoints",
        "area-zero",
        "keypoint-count",
        "image-reference",
        "category-reference",
        "visibility-value",
        "point-doubled",
        "id-duplicate",
        "field-missing",
        "field-value",
        "image-size",
        "image-name-twice",
    }
    notes = fix_dataset(path, tmp_path / "mended")
    copy = tmp_path / "mended/annotations.json"
    assert path.read_bytes() == before
    left = {(finding.code, finding.severity) for finding in examine([copy]).findings}
    assert left <= {("box-missing", "warning"), ("point-doubled", "warning"), ("box-points", "warning")}
    assert set(notes) == {
        "1 entries of annotations that are no objects left out",
        "1 broken image entries left out",
        "1 image ids that occurred before renumbered",
        "1 images without a readable file left out",
        "1 second entries of an image file merged into the first",
        "1 image sizes taken from the files",
        "1 annotations left out (keypoint-count)",
        "1 annotations left out (image-reference)",
        "1 annotations left out (category-reference)",
        "1 annotations left out (field-missing)",
        "1 annotation ids that occurred before renumbered",
        "1 points outside their image made absent",
        "1 visibilities other than 0, 1 and 2 corrected",
        "2 num_keypoints recounted",
        "2 areas of 0 or none taken from the box",
        "1 areas of 0 or none taken from the points",
        "1 repeated instances left out",
    }


def test_kept_fields_and_mended_values(path: Path, tmp_path: Path) -> None:
    content = plant(path)
    full = [entry for entry in content["annotations"] if entry and entry.get("num_keypoints") in (2, 6)]
    fix_dataset(path, tmp_path / "other/new.json")
    coco = read_coco(tmp_path / "other/new.json")
    by_id = {annotation.id: annotation for annotation in coco.annotations}
    assert coco.info == {"author": "someone"}
    assert coco.images[1].width == 96
    outside = by_id[full[0]["id"]]
    assert outside.keypoints[:3] == [0, 0, 0]
    assert outside.keypoints[3:] == full[0]["keypoints"][3:]
    assert outside.num_keypoints == 5
    box = full[2]["bbox"]
    assert by_id[full[2]["id"]].area == pytest.approx(box[2] * box[3])
    x, y = full[3]["keypoints"][::3], full[3]["keypoints"][1::3]
    assert by_id[full[3]["id"]].area == pytest.approx((max(x) - min(x)) * (max(y) - min(y)))
    noted = [annotation.id for annotation in coco.annotations if "note" in (annotation.model_extra or {})]
    assert noted == [902]  # the first free id above those of the annotations that are kept
    for image in coco.images:
        assert (tmp_path / "other" / image.file_name).is_file()


def test_clean_file_is_copied_without_a_note(path: Path, tmp_path: Path) -> None:
    assert fix_dataset(path, tmp_path / "copy") == ()
    first, second = read_coco(path), read_coco(tmp_path / "copy/annotations.json")
    assert second.annotations == first.annotations
    assert second.categories == first.categories
    assert fix_dataset(path, path.parent / "same-folder.json") == ()
    assert read_coco(path.parent / "same-folder.json") == first


def test_a_rotation_that_the_labels_lack_is_not_hidden(path: Path, tmp_path: Path) -> None:
    """With another size alone the file would look right, its points beside what they mark."""
    content = json.loads(path.read_text())
    image = content["images"][0]
    pixels = np.zeros((60, 80, 3), np.uint8)
    plain = cv2.imencode(".jpg", pixels)[1].tobytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = plain[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + plain[2:]
    (path.parent / "turned.jpg").write_bytes(turned)
    image.update(file_name="turned.jpg", width=80, height=60)
    own = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
    for entry in own:
        entry.update(keypoints=[70, 50, 2] + [0, 0, 0] * 5, num_keypoints=1, bbox=[60, 40, 15, 15])
    path.write_text(json.dumps(content))
    notes = fix_dataset(path, tmp_path / "out")
    assert any(note.startswith("1 images with an EXIF rotation") for note in notes)
    fixed = read_coco(tmp_path / "out/annotations.json")
    assert (fixed.images[0].width, fixed.images[0].height) == (80, 60)
    kept = [entry for entry in fixed.annotations if entry.image_id == image["id"]]
    assert kept[0].keypoints[:3] == [70, 50, 2]
    errors = [f.code for f in examine([tmp_path / "out/annotations.json"]).findings if f.severity == "error"]
    assert "image-size" in errors


def test_the_file_itself_is_never_the_output(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    before = path.read_bytes()
    for output in (path, path.parent, link, path.parent / "images/../annotations.json"):
        with pytest.raises(ValueError, match="expected another place for the corrected copy"):
            fix_dataset(path, output)
    assert path.read_bytes() == before


def test_what_cannot_be_mended_is_one_line_and_leaves_no_file(path: Path, tmp_path: Path) -> None:
    path.write_text("{")
    with pytest.raises(ValueError, match="expected JSON, got a broken or cut file"):
        fix_dataset(path, tmp_path / "out")
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match="expected at least one category"):
        fix_dataset(path, tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        fix_dataset(tmp_path / "none.json", tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_one_point_without_a_box_keeps_no_area(path: Path, tmp_path: Path) -> None:
    content = json.loads(path.read_text())
    entry = content["annotations"][0]
    entry.update(keypoints=[5, 6, 2] + [0, 0, 0] * 5, num_keypoints=1, area=0, bbox=None)
    path.write_text(json.dumps(content))
    assert fix_dataset(path, tmp_path / "out") == (
        "1 areas left without a value: no box, and the points span none",
    )
    assert read_coco(tmp_path / "out/annotations.json").annotations[0].area is None


VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-3, 20)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(
        [10**400, 1e300, "\0", "\ud800", [], {}, [1, 2, 2] * 6, [1e300] * 18, [0, 0, 1e200, 1e200]]
    )
)

FIELDS = ["id", "image_id", "category_id", "keypoints", "bbox", "area", "num_keypoints", "iscrowd"]
FIELDS += ["width", "file_name", "name", "skeleton"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(
        st.tuples(
            st.sampled_from(["images", "annotations", "annotations", "categories"]),
            st.integers(0, 15),
            st.sampled_from(FIELDS),
            VALUE,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_values_give_a_copy_or_a_line(boxes_json: Path, tmp_path: Path, places: list) -> None:
    content = json.loads(boxes_json.read_text())
    for section, index, field, value in places:
        content[section][index % len(content[section])][field] = value
    source = boxes_json.parent / "fuzzed-fix.json"
    source.write_text(json.dumps(content))
    output = tmp_path / "fuzzed"
    shutil.rmtree(output, ignore_errors=True)
    try:
        fix_dataset(source, output)
    except ValueError as error:
        problem = str(error)
    else:
        problem = ""
    source.unlink()
    if problem:
        assert "\n" not in problem
        assert not list(output.glob("*"))
        return
    read_coco(output / source.name)
    codes = {finding.code for finding in examine([output / source.name]).findings}
    assert not codes & {"id-duplicate", "image-reference", "keypoint-count", "point-outside", "image-size"}
    assert not codes & {"field-missing", "field-value", "num-keypoints", "visibility-value"}
