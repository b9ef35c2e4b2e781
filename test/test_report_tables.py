"""The tables of an evaluation against `metrics.json`, and against a slow computation from written points."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference.average_precision import average_precision
from reference.keypoint_errors import rows_of_group

from keypoint_detection.evaluate import EvalOptions, evaluate

CHANNELS = [["corner0", "corner1", "corner2", "corner3"], ["flap_left"], ["flap_right"]]
"""Those of `tiny_checkpoint`."""

NAMES = ["=".join(channel) for channel in CHANNELS]

# What the two runs have in common is tested for both.
RUNS = {
    "all": EvalOptions(n_resamples=60, group_by="file_name", report=False),
    "visible": EvalOptions(
        n_resamples=0, detect_only_visible_keypoints=True, image_size=(48, 80), report=False
    ),
}


@pytest.fixture(scope="module")
def occluded_json(boxes_json: Path) -> Path:
    """Return the drawn boxes with every fourth label occluded, one image unlabelled and a crowd."""
    content = json.loads(boxes_json.read_text())
    flags = 0
    for annotation in content["annotations"]:
        for start in range(2, len(annotation["keypoints"]), 3):
            if annotation["keypoints"][start] == 2:
                flags += 1
                annotation["keypoints"][start] = 1 if flags % 4 == 0 else 2
    last = content["images"][-1]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != last]
    crowd = {"id": 999, "image_id": last, "category_id": 1, "num_keypoints": 0, "iscrowd": 1, "area": 900.0}
    size = len(content["categories"][0]["keypoints"]) * 3
    content["annotations"].append({**crowd, "keypoints": [0] * size, "bbox": [0, 0, 30, 30]})
    path = boxes_json.with_name("occluded.json")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module", params=RUNS)
def folder(
    request: pytest.FixtureRequest,
    tiny_checkpoint: Path,
    occluded_json: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("tables") / request.param
    evaluate(tiny_checkpoint, occluded_json, path, RUNS[request.param])
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def number(text: str) -> float:
    return float(text) if text else math.nan


def test_the_keypoint_table_is_what_metrics_json_has(folder: Path) -> None:
    rows = {row["channel"]: row for row in rows_of(folder / "per_keypoint.csv")}
    assert list(rows) == ["all", *NAMES]
    for name, metric in metrics_of(folder).items():
        numbers = {"all": (metric["value"], metric["interval"])}
        for channel in NAMES:
            interval = metric["per_channel_interval"].get(channel)
            numbers[channel] = (metric["per_channel"].get(channel), interval)
        for channel, (value, interval) in numbers.items():
            low, high = interval or (None, None)
            for column, expected in ((name, value), (f"{name}_low", low), (f"{name}_high", high)):
                found = rows[channel][column]
                assert (float(found) if found else None) == expected, (channel, column)


def test_means_over_the_images_are_the_metrics(folder: Path, occluded_json: Path) -> None:
    rows, metrics = rows_of(folder / "per_image.csv"), metrics_of(folder)
    images = json.loads(occluded_json.read_text())["images"]
    assert [row["file_name"] for row in rows] == [image["file_name"] for image in images]
    assert [int(row["image_id"]) for row in rows] == [image["id"] for image in images]
    assert sum(int(row["missed"]) for row in rows) == metrics["missed"]["value"]
    pairs = [int(row["labels"]) - int(row["missed"]) for row in rows]
    total = sum(n * number(row["mean_error_px"]) for n, row in zip(pairs, rows, strict=True) if n)
    assert total / sum(pairs) == pytest.approx(metrics["mean_error_px"]["value"], rel=1e-9)
    for row, n in zip(rows, pairs, strict=True):
        assert (row["mean_error_px"] == "") == (n == 0)
        if n:
            assert number(row["max_error_px"]) >= number(row["mean_error_px"]) - 1e-12
    for channel in NAMES[1:]:  # one point each: the mean over images is that over points
        errors = [number(row[f"{channel}/mean_error_px"]) for row in rows]
        expected = metrics["mean_error_px"]["per_channel"][channel]
        assert np.nanmean(errors) == pytest.approx(expected, rel=1e-9)


def test_groups_have_a_column_where_there_are_any(folder: Path) -> None:
    rows = rows_of(folder / "per_image.csv")
    if folder.name == "visible":
        assert "group" not in rows[0]
    else:
        assert [row["group"] for row in rows] == [row["file_name"] for row in rows]


def padded(groups: list[list[list[Any]]], width: int) -> np.ndarray:
    """Return lists by image and channel as one array, NaN padded."""
    most = max(1, *(len(group) for row in groups for group in row))
    values = np.full((len(groups), len(groups[0]), most, width), np.nan)
    for i, row in enumerate(groups):
        for j, group in enumerate(row):
            if group:
                values[i, j, : len(group)] = group
    return values


def points_of(folder: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return detections `[n, c, k, (x, y, score)]` and labels `[n, c, m, (x, y, visibility)]`."""
    content = json.loads(labels.read_text())
    names = content["categories"][0]["keypoints"]
    entries = {entry["image_id"]: entry for entry in json.loads((folder / "predictions.json").read_text())}
    found, wanted = [], []
    for image in content["images"]:
        channels = entries[image["id"]]["channels"]
        found.append([[[p["x"], p["y"], p["score"]] for p in channels[name]] for name in NAMES])
        own = [a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        triples = [dict(zip(names, np.reshape(a["keypoints"], (-1, 3)).tolist(), strict=True)) for a in own]
        wanted.append([[t[n] for t in triples for n in channel if t[n][2] > 0] for channel in CHANNELS])
    return padded(found, 3), padded(wanted, 3)


def test_a_slow_computation_from_the_written_points_gives_the_same(folder: Path, occluded_json: Path) -> None:
    found, wanted = points_of(folder, occluded_json)
    ignored = wanted[..., 2] < (2 if folder.name == "visible" else 1)
    metrics, rows = metrics_of(folder), rows_of(folder / "per_image.csv")
    distances: list[float] = []
    for image, row in enumerate(rows):
        own: list[float] = []
        for channel, name in enumerate(NAMES):
            there, target = (
                part[image, channel][~np.isnan(part[image, channel, :, 0])] for part in (found, wanted)
            )
            partners = rows_of_group(
                [tuple(xy) for xy in there[:, :2].tolist()],
                there[:, 2].tolist(),
                [tuple(xy) for xy in target[:, :2].tolist()],
            )
            counted = [d for d, skip in zip(partners, ignored[image, channel], strict=False) if not skip]
            met = [d for d in counted if not math.isnan(d)]
            expected = float(np.mean(met)) if met else math.nan
            given = number(row[f"{name}/mean_error_px"])
            assert given == pytest.approx(expected, abs=1e-4, nan_ok=True)
            own += counted
        assert int(row["labels"]) == len(own)
        assert int(row["missed"]) == sum(map(math.isnan, own))
        assert int(row["detections"]) == np.isfinite(found[image, :, :, 0]).sum()
        if np.isfinite(own).any():
            assert number(row["max_error_px"]) == pytest.approx(np.nanmax(own), abs=1e-4)
        distances += own
    assert np.isnan(distances).sum() == metrics["missed"]["value"]
    assert np.nanmean(distances) == pytest.approx(metrics["mean_error_px"]["value"], abs=1e-4)
    regions = np.full((len(rows), 1, 4), np.nan)
    regions[-1, 0] = [0, 0, 30, 30]
    slow = average_precision(
        found[..., :2],
        found[..., 2],
        wanted[..., :2],
        np.nan_to_num(wanted[..., 2]),
        [2.0, 4.0],
        ignored=ignored,
        regions=regions,
    )
    for column, name in enumerate(("ap@2px", "ap@4px")):
        given = list(metrics[name]["per_channel"].values())
        assert slow[:, column] == pytest.approx(np.array(given, float), abs=1e-9, nan_ok=True)
