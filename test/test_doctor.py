"""The doctor on drawn data sets: clean ones give nothing, every planted fault gives its own code."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.doctor import CODES, SHOWN, examine, exit_code, report_json, report_text
from keypoint_detection.doctor_findings import Finding

Content = dict[str, Any]


@pytest.fixture(scope="session")
def clean_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of 14 drawn images; read only."""
    folder = tmp_path_factory.mktemp("clean")
    make_dataset("boxes", folder, 14, (96, 96), seed=3)
    return folder


@pytest.fixture
def folder(clean_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_folder, tmp_path / "set"))


def change(folder: Path, edit: Callable[[Content], object]) -> Path:
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def labelled(content: Content) -> Content:
    """Return the first annotation with all its six points."""
    return next(entry for entry in content["annotations"] if entry["num_keypoints"] == 6)


@pytest.mark.parametrize("kind", ["boxes", "flowers"])
@pytest.mark.parametrize("seed", [0, 7])
def test_clean_data_has_no_finding(kind: str, seed: int, tmp_path: Path) -> None:
    path = make_dataset(kind, tmp_path, 50, seed=seed)
    other = make_dataset(kind, tmp_path / "other", 50, seed=seed + 1)
    examination = examine([path, other])
    assert examination.findings == ()
    assert examination.counts["images"] == examination.counts["image files read"] == 100
    assert exit_code(examination.findings) == 0
    assert report_text(examination).endswith("nothing found")


def _drop(section: str, key: str) -> Callable[[Content], object]:
    return lambda content: content[section][0].pop(key)


def _put(key: str, value: Any) -> Callable[[Content], object]:
    return lambda content: labelled(content).update({key: value})


def _move(index: int, value: Any) -> Callable[[Content], object]:
    return lambda content: labelled(content)["keypoints"].__setitem__(index, value)


def _repeat(section: str, **fields: Any) -> Callable[[Content], object]:
    return lambda content: content[section].append({**content[section][0], **fields})


def _double_points(content: Content) -> None:
    points = labelled(content)["keypoints"]
    points[3:5] = [points[0] + 0.3, points[1] - 0.3]


def _empty_name(content: Content) -> None:
    for entry in content["annotations"]:
        entry["num_keypoints"] -= entry["keypoints"][17] > 0
        entry["keypoints"][15:18] = [0, 0, 0]


def _move_box(content: Content) -> None:
    box = labelled(content)["bbox"]
    labelled(content)["bbox"] = [box[0] + 2 * box[2], box[1], box[2], box[3]]


def _same_again(content: Content) -> None:
    content["annotations"].append({**labelled(content), "id": 900})


def _lose_labels(content: Content) -> None:
    content["annotations"] = content["annotations"][:4]


def _swap_size(content: Content) -> None:
    content["images"][2]["width"] = 97


FAULTS: list[tuple[str, str, Callable[[Content], object]]] = [
    ("field-missing", "error", _drop("images", "file_name")),
    ("field-missing", "error", _drop("images", "height")),
    ("field-missing", "error", _drop("annotations", "image_id")),
    ("field-missing", "error", _drop("annotations", "keypoints")),
    ("field-missing", "error", lambda content: content.pop("categories")),
    ("field-value", "error", _move(0, "12")),
    ("field-value", "error", _move(0, math.nan)),
    ("field-value", "error", _move(0, 10**400)),
    ("field-value", "error", lambda content: content["images"][0].update(width=-4)),
    ("field-value", "error", lambda content: content["annotations"].append(7)),
    ("field-value", "error", _put("area", "big")),
    ("field-value", "error", _put("bbox", [1, 2, 3])),
    ("field-value", "error", lambda content: content["categories"][0].update(skeleton="no")),
    (
        "field-value",
        "error",
        lambda content: content["categories"][0]["keypoints"].__setitem__(0, "flap_left"),
    ),
    ("id-duplicate", "error", _repeat("images", file_name="images/00005.png")),
    ("id-duplicate", "error", _repeat("annotations")),
    ("id-duplicate", "error", _repeat("categories")),
    ("image-reference", "error", _put("image_id", 999)),
    ("category-reference", "error", _put("category_id", 5)),
    ("keypoint-count", "error", _put("keypoints", [1.0, 2.0, 2.0])),
    ("visibility-value", "error", _move(2, 3)),
    ("image-missing", "error", lambda content: content["images"][0].update(file_name="images/gone.png")),
    ("image-size", "error", _swap_size),
    ("image-name-twice", "error", _repeat("images", id=900)),
    ("point-outside", "error", _move(0, 95.6)),
    ("point-outside", "error", _move(1, -0.6)),
    ("point-doubled", "warning", _double_points),
    ("point-doubled", "error", _same_again),
    ("area-zero", "error", _put("area", 0)),
    ("area-zero", "warning", _put("area", None)),
    ("box-missing", "warning", _put("bbox", None)),
    ("box-missing", "warning", _put("bbox", [3, 4, 0, 7])),
    ("box-points", "warning", _move_box),
    ("num-keypoints", "warning", _put("num_keypoints", 5)),
    ("channel-empty", "warning", _empty_name),
    ("category-empty", "warning", _repeat("categories", id=2, name="lid")),
    ("category-empty", "warning", _repeat("categories", id=2, name="all", keypoints=[])),
    ("crowd-labelled", "warning", _put("iscrowd", 1)),
    ("image-unlabelled-share", "warning", _lose_labels),
]


@pytest.mark.parametrize(("code", "severity", "plant"), FAULTS)
def test_planted_fault_is_found(
    code: str, severity: str, plant: Callable[[Content], object], folder: Path
) -> None:
    examination = examine([change(folder, plant)])
    found = [finding for finding in examination.findings if finding.code == code]
    assert [finding.severity for finding in found][:1] == [severity], examination.findings
    assert all("expected" in finding.message and "got" in finding.message for finding in found)
    assert all("\n" not in finding.message for finding in examination.findings)
    assert exit_code(found) == (severity == "error")


@pytest.mark.parametrize(
    ("code", "plant"),
    [
        (code, plant)
        for code, _, plant in FAULTS
        if code in {"point-outside", "box-points", "visibility-value"}
    ],
)
def test_label_fault_is_found_once_with_its_place(
    code: str, plant: Callable[[Content], object], folder: Path
) -> None:
    path = change(folder, plant)
    expected = labelled(json.loads(path.read_text()))
    [finding] = [finding for finding in examine([path]).findings if finding.code == code]
    assert (finding.image_id, finding.annotation_id) == (expected["image_id"], expected["id"])
    assert finding.file == str(path)


def test_point_on_the_border_is_inside(folder: Path) -> None:
    def plant(content: Content) -> None:
        labelled(content)["keypoints"][:2] = [95.5, -0.5]
        labelled(content)["bbox"] = [0, 0, 96, 96]

    assert examine([change(folder, plant)]).findings == ()


def test_labels_of_several_people_are_no_doubled_instance(folder: Path) -> None:
    def plant(content: Content) -> None:
        first = labelled(content)
        first["annotator"] = "ann"
        content["annotations"].append({**first, "id": 900, "annotator": "bob"})

    assert examine([change(folder, plant)]).findings == ()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000, b'{"images": [}', b"7"]
)
def test_broken_file_is_one_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    findings = examine([path]).findings
    assert [(finding.code, finding.severity) for finding in findings] == [("file-broken", "error")]


def test_cut_file_is_broken(folder: Path) -> None:
    path = folder / "annotations.json"
    path.write_bytes(path.read_bytes()[:-40])
    assert [finding.code for finding in examine([path]).findings] == ["file-broken"]


def test_missing_file_and_repeated_file_are_refused(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a COCO keypoint file"):
        examine([folder / "none.json"])
    path = folder / "annotations.json"
    with pytest.raises(ValueError, match="got one twice"):
        examine([path, path])
    with pytest.raises(ValueError, match="got none"):
        examine([])


def test_unreadable_images_are_found(folder: Path) -> None:
    (folder / "images/00001.png").write_bytes(b"no image")
    whole = (folder / "images/00002.png").read_bytes()
    (folder / "images/00002.png").write_bytes(whole[: len(whole) // 2])
    (folder / "images/00003.png").write_bytes(b"")
    findings = examine([folder / "annotations.json"]).findings
    assert [(finding.code, finding.image_id) for finding in findings] == [
        ("image-unreadable", 2),
        ("image-unreadable", 3),
        ("image-unreadable", 4),
    ]


def test_channels_are_checked_against_the_labels(folder: Path) -> None:
    path = folder / "annotations.json"
    assert examine([path], channels="corner0 = corner1; flap_left").findings == ()
    [unknown] = examine([path], channels="corner0 = corner1; flap_lef").findings
    assert (unknown.code, unknown.severity) == ("channel-empty", "error")
    assert "Did you mean 'flap_left'" in unknown.message
    change(folder, _empty_name)
    findings = examine([path], channels=[["corner0"], ["flap_right"]]).findings
    assert [(finding.code, finding.severity) for finding in findings] == [
        ("channel-empty", "error"),
        ("channel-empty", "warning"),
    ]
    assert "'flap_right'" in findings[0].message
    pooled = examine([path], channels=[["flap_left", "flap_right"]]).findings
    assert [finding.severity for finding in pooled] == ["warning"]


def test_images_can_be_left_unread(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    examination = examine([folder / "annotations.json"], images=False)
    assert examination.findings == ()
    assert examination.counts["image files read"] == 0


def test_report_shows_a_few_of_each_code_and_json_all(folder: Path) -> None:
    def plant(content: Content) -> None:
        for entry in content["annotations"]:
            entry["area"] = -1

    examination = examine([change(folder, plant)])
    number = len(examination.findings)
    assert number == examination.counts["annotations"] > SHOWN
    lines = report_text(examination).splitlines()
    assert len(lines) == SHOWN + 4
    assert lines[-2].startswith("proposal: category 1 ")
    assert lines[-3] == f"error area-zero: ... and {number - SHOWN} more"
    assert lines[1].startswith("error area-zero: image 1, annotation 1: expected an area above 0, got -1")
    report = json.loads(json.dumps(report_json(examination), allow_nan=False))
    assert (len(report["findings"]), report["errors"], report["warnings"]) == (number, number, 0)
    assert report["findings"][0]["code"] == "area-zero"


def test_findings_are_ordered_and_the_same_every_time(folder: Path) -> None:
    for _, _, plant in FAULTS[20:35]:
        path = change(folder, plant)
    first, second = examine([path], workers=1), examine([path], workers=4)
    assert first == second
    keys = [(finding.severity, CODES.index(finding.code)) for finding in first.findings]
    assert keys == sorted(keys)
    assert len(set(keys)) >= 6


def test_exit_code_counts_errors_only() -> None:
    assert exit_code([]) == 0
    assert exit_code([Finding("images-near", "warning", "expected ...")]) == 0
    assert exit_code([Finding("images-near", "warning", ""), Finding("area-zero", "error", "")]) == 1


@pytest.fixture(scope="session")
def fuzz_file(clean_folder: Path) -> Path:
    return clean_folder.parent / "fuzz.json"


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_findings(fuzz_file: Path, content: bytes) -> None:
    fuzz_file.write_bytes(content)
    assert examine([fuzz_file]).findings


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(2**70), 1e308, "\ud800", "\0", "a\nb", "", ".", "/"])
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    (section, field)
    for section, fields in {
        "images": ("id", "file_name", "width", "height"),
        "categories": ("id", "name", "keypoints", "skeleton"),
        "annotations": (
            "id",
            "image_id",
            "category_id",
            "keypoints",
            "bbox",
            "area",
            "num_keypoints",
            "iscrowd",
        ),
    }.items()
    for field in fields
]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.sampled_from(PATHS), st.integers(0, 13), VALUES), min_size=1, max_size=4))
def test_any_values_give_findings_of_one_line(fuzz_file: Path, clean_folder: Path, places: list) -> None:
    content = json.loads((clean_folder / "annotations.json").read_text())
    for (section, field), index, value in places:
        content[section][index % len(content[section])][field] = value
    fuzz_file.write_text(json.dumps(content))
    examination = examine([fuzz_file], images=False, channels="corner0; flap_left")
    text = report_text(examination)
    assert text.encode("utf-8")
    assert all(finding.message.isprintable() for finding in examination.findings)
    try:
        read_coco(fuzz_file)
    except ValueError:  # what a training refuses is an error here
        assert exit_code(examination.findings) == 1


@settings(max_examples=60, deadline=None)
@given(section=st.sampled_from(["images", "annotations", "categories"]), value=VALUES, share=st.floats(0, 1))
def test_any_section_and_any_cut_gives_findings(
    fuzz_file: Path, clean_folder: Path, section: str, value: Any, share: float
) -> None:
    whole = (clean_folder / "annotations.json").read_bytes()
    fuzz_file.write_bytes(whole[: int(share * (len(whole) - 3))])
    assert [finding.code for finding in examine([fuzz_file]).findings] == ["file-broken"]
    fuzz_file.write_text(json.dumps({**json.loads(whole), section: value}))
    assert examine([fuzz_file], images=False).findings


@pytest.mark.slow
def test_many_annotations_are_examined(tmp_path: Path) -> None:
    names = [f"name{index}" for index in range(17)]
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 600, (150_000, 17, 2)).round(2), np.full((150_000, 17, 1), 2)], 2)
    box = {"bbox": [0, 0, 600, 600], "area": 360_000, "category_id": 1, "num_keypoints": 17}
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 640, "height": 640} for i in range(50_000)],
        "categories": [{"id": 1, "name": "many", "keypoints": names}],
        "annotations": [
            {"id": i, "image_id": i % 50_000, "keypoints": row, **box}
            for i, row in enumerate(points.reshape(150_000, -1).tolist())
        ],
    }
    path = tmp_path / "many.json"
    path.write_text(json.dumps(content))
    examination = examine([path], images=False)
    assert examination.counts["labelled points"] == 150_000 * 17
    assert {finding.code for finding in examination.findings} <= {"point-doubled"}


def test_exif_rotation_is_named_as_the_cause(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    # big-endian TIFF with one entry: tag 0x112 (orientation), a short, one of it, 6 (turn by 90 degrees)
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    (tmp_path / "plain.jpg").write_bytes(jpeg)
    content = {
        "images": [
            {"id": 1, "file_name": "turned.jpg", "width": 50, "height": 30},
            {"id": 2, "file_name": "plain.jpg", "width": 30, "height": 50},
        ],
        "categories": [{"id": 1, "name": "a", "keypoints": ["b"]}],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "keypoints": [5, 5, 2],
                "area": 9,
                "bbox": [4, 4, 3, 3],
            }
            for i in (1, 2)
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    sizes = [finding for finding in examine([tmp_path / "a.json"]).findings if finding.code == "image-size"]
    assert "EXIF rotation" in sizes[0].message
    assert "30x50, got 50x30" in sizes[0].message
    assert "width and height are swapped" in sizes[1].message
    (tmp_path / "plain.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    cut = [
        finding for finding in examine([tmp_path / "a.json"]).findings if finding.code == "image-unreadable"
    ]
    assert [finding.image_id for finding in cut] == [2]
