"""Real labels of every kind, converted: images, instances and points against plain csv, json and xml."""

import csv
import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from keypoint_detection.convert import ConvertResult, convert_from_coco, convert_to_coco

REAL = Path(__file__).parents[2] / "shared/data"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are not beside the repository")

Counts = tuple[int, int, int, int]
"""Images, instances, occluded and visible points."""

FOREIGN = {
    "yolo": "data.yaml",
    "cvat": "annotations.xml",
    "label-studio": "tasks.json",
    "deeplabcut": "",
    "sleap": "labels.slp",
}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def coco_counts(path: Path) -> Counts:
    """Return the counts of a COCO file, read as plain JSON."""
    content = read(path)
    flags = Counter(int(flag) for entry in content["annotations"] for flag in entry["keypoints"][2::3])
    return len(content["images"]), len(content["annotations"]), flags[1], flags[2]


def table_counts(table: Path, n_index: int) -> Counts:
    """Return the counts of a DeepLabCut table, three rows of names above, `n_index` columns of names left."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[3:]
    labelled = [[x != "" for x in row[n_index::2]] for row in rows]
    return len(rows), sum(map(any, labelled)), 0, sum(map(sum, labelled))


def xml_counts(path: Path) -> Counts:
    """Return the counts of a CVAT file: points of one image and group are one instance."""
    images = list(ET.parse(path).getroot().iter("image"))
    points = [(image.get("id"), point) for image in images for point in image.iter("points")]
    instances = {(image, point.get("group_id", "")) for image, point in points}
    hidden = sum(point.get("occluded") == "1" for _, point in points)
    return len(images), len(instances), hidden, len(points) - hidden


def named_counts(path: Path) -> Counts:
    """Return the counts of a file of named points: 1 is visible, 0 is not; outside 0..1 there is none."""
    content = read(path)
    flags = Counter(
        flag
        for points in content["keypoints"].values()
        for x, y, flag in points.values()
        if 0 <= x <= 1 and 0 <= y <= 1
    )
    return len(content["images"]), len(content["keypoints"]), flags[0], flags[1]


def converted(kind: str, source: Path, output: Path, categories: Path | None = None) -> ConvertResult:
    return convert_to_coco(kind, source, output, link=True, categories=categories)


def test_openfield(tmp_path: Path) -> None:
    source = REAL / "openfield"
    counts = coco_counts(converted("deeplabcut", source, tmp_path).path)
    assert counts == table_counts(next(source.rglob("CollectedData_*.csv")), 1)
    assert counts == (116, 116, 0, 464)


def test_facemap_names_the_row_that_only_its_hdf5_has(tmp_path: Path) -> None:
    source = REAL / "facemap"
    result = converted("deeplabcut", source, tmp_path)
    assert coco_counts(result.path) == table_counts(next(source.rglob("CollectedData_*.csv")), 3)
    assert coco_counts(result.path) == (118, 118, 0, 1408)
    [note] = result.notes
    assert "CollectedData_AVS.h5: 1 image is only in this file" in note
    assert "img0051.png" in note


@pytest.mark.parametrize("configuration", [None, "coco_category_configuration.json"])
def test_cvat_example(configuration: str | None, tmp_path: Path) -> None:
    source = REAL / "cvat_example/annotations.xml"
    categories = source.parent / configuration if configuration else None
    result = converted("cvat", source, tmp_path, categories)
    assert coco_counts(result.path) == xml_counts(source) == (4, 4, 1, 9)
    assert read(result.path)["categories"][0]["keypoints"] == ["neck", "shoulder1", "shoulder2"]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("cvat_example/coco.json", (4, 4, 1, 9)),
        ("cvat_example/annotations.json", (4, 4, 0, 0)),
        ("coco_person/test_coco.json", (4, 14, 17, 164)),
        ("coco_results/example_coco_val.json", (4, 14, 17, 164)),
    ],
)
def test_coco_files(file: str, expected: Counts, tmp_path: Path) -> None:
    counts = coco_counts(converted("coco", REAL / file, tmp_path).path)
    assert counts == coco_counts(REAL / file) == expected


@pytest.mark.parametrize(
    "file", ["coco_person/test_coco_det_AP_H_56.json", "coco_results/example_coco_preds.json"]
)
def test_results_are_no_labels(file: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a JSON object, got a list of"):
        converted("coco", REAL / file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("part", "n_images"), [("train", 138), ("test", 24)])
def test_cats(part: str, n_images: int, tmp_path: Path) -> None:
    source = REAL / f"cats/{part}_keypoints_annotations.json"
    result = converted("named-json", source, tmp_path)
    assert coco_counts(result.path) == named_counts(source)
    assert coco_counts(result.path)[0] == n_images
    doubled = [note for note in result.notes if "outside 0..1" in note]
    assert len(doubled) == (part == "train")
    assert all("item '137': 16 points" in note and "were they doubled?" in note for note in doubled)


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("dataset", ["openfield", "facemap", "cvat_example", "coco_person"])
def test_there_and_back(kind: str, dataset: str, tmp_path: Path) -> None:
    """Points come back within a hundredth of a pixel; notes say where a format has no occluded points."""
    source, of = {
        "openfield": ("openfield", "deeplabcut"),
        "facemap": ("facemap", "deeplabcut"),
        "cvat_example": ("cvat_example/annotations.xml", "cvat"),
        "coco_person": ("coco_person/test_coco.json", "coco"),
    }[dataset]
    start = convert_to_coco(of, REAL / source, tmp_path / "start")
    notes = convert_from_coco(kind, start.path, tmp_path / "away")
    back = convert_to_coco(kind, tmp_path / "away" / FOREIGN[kind], tmp_path / "back", link=True)
    first, second = coco_counts(start.path), coco_counts(back.path)
    if kind in ("deeplabcut", "sleap"):  # neither knows hidden points, nor instances without points
        assert sum(second[2:]) == sum(first[2:])
        assert second[2] == 0
        assert bool(first[2]) == any("occluded" in note for note in notes)
        empty = sum(not any(a["keypoints"][2::3]) for a in read(start.path)["annotations"])
        assert second[:2] == (first[0], first[1] - empty)
    else:
        assert second == first
    assert sorted_points(back.path) == pytest.approx(sorted_points(start.path), abs=0.01)


def sorted_points(path: Path) -> list[float]:
    """Return all coordinates of labelled points by image name, keypoint and x, whatever the ids are."""
    content = read(path)
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    keypoints = {category["id"]: category["keypoints"] for category in content["categories"]}
    points = [
        (names[entry["image_id"]], keypoints[entry["category_id"]][k // 3], x, y)
        for entry in content["annotations"]
        for k in range(0, len(entry["keypoints"]), 3)
        for x, y, flag in [entry["keypoints"][k : k + 3]]
        if flag
    ]
    return [value for point in sorted(points) for value in point[2:]]
