"""What the page is given: the numbers of `metrics.json`, and curves and images that agree with them."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluation_run import checkpoint, faces_json

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.report_content import report_content
from keypoint_detection.report_images import image_severity, pick_images
from keypoint_detection.report_metrics import headline
from keypoint_detection.report_samples import Evaluated, read_evaluated
from keypoint_detection.utils.colours import palette

__all__ = ["checkpoint", "faces_json"]  # fixtures

QUICK = EvalOptions(n_resamples=60, report=False)


def content_of(folder: Path, labels: Path, run: Path | None = None) -> tuple[dict[str, Any], Evaluated]:
    evaluated = read_evaluated(folder, read_table(labels))
    content = report_content(evaluated, run)
    return json.loads(json.dumps(content, allow_nan=False)), evaluated


@pytest.fixture(scope="module")
def boxes(tiny_checkpoint: Path, boxes_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxes") / "eval"
    evaluate(tiny_checkpoint, boxes_json, folder, replace(QUICK, scoring={"pck_alpha": [0.07, 0.3]}))
    return folder


@pytest.fixture(scope="module")
def faces(faces_json: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "eval"
    evaluate(checkpoint, faces_json, folder, replace(QUICK, group_by="video"))
    return folder


@pytest.fixture(params=["boxes", "faces"])
def scored(request: pytest.FixtureRequest, boxes_json: Path, faces_json: Path) -> tuple[Path, Path]:
    """Return the folder of an evaluation, of whole images and of crops, and its COCO file."""
    return request.getfixturevalue(request.param), {"boxes": boxes_json, "faces": faces_json}[request.param]


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def test_the_headline_has_every_metric_with_a_meaning(scored: tuple[Path, Path]) -> None:
    content, _ = content_of(*scored)
    metrics = metrics_of(scored[0])
    assert {row["name"] for row in content["headline"]} == set(metrics)
    assert content["headline"][0]["name"] == "map"
    for row in content["headline"]:
        metric = metrics[row["name"]]
        assert (row["value"], row["interval"]) == (metric["value"], metric["interval"])
        assert row["label"]
        assert row["meaning"].endswith(".")
        assert "{" not in row["meaning"] + row["label"]
    report = json.loads((scored[0] / "metrics.json").read_text())
    assert content["hash"] == report["contract"]["hash"]
    assert content["intervals"]["resamples"] == 60
    assert f"metric contract {content['hash']}" in content["notes"]
    assert all(isinstance(text, str) for row in content["contract"] + content["environment"] for text in row)


def test_the_table_has_the_numbers_of_every_channel(scored: tuple[Path, Path]) -> None:
    content, _ = content_of(*scored)
    metrics, table = metrics_of(scored[0]), content["perKeypoint"]
    names = [column["name"] for column in table["columns"]]
    assert set(names) == {name for name, metric in metrics.items() if metric["per_channel"]}
    colours = palette(len(table["rows"]))
    for row, colour, channel in zip(table["rows"], colours, content["channels"], strict=True):
        assert (row["channel"], row["colour"]) == (channel["name"], channel["colour"])
        assert row["colour"] == colour
        for name, cell in zip(names, row["cells"], strict=True):
            assert cell["value"] == metrics[name]["per_channel"][row["channel"]]
            assert cell["interval"] == metrics[name]["per_channel_interval"][row["channel"]]
    better = {column["name"]: column["better"] for column in table["columns"]}
    assert (better["map"], better["missed"], better["mean_error_px"]) == ("high", "low", "low")


def test_histogram_and_missed_add_up_to_the_labels(scored: tuple[Path, Path]) -> None:
    content, evaluated = content_of(*scored)
    errors = content["charts"]["errors"]
    for counts in errors["channels"].values():
        assert len(counts) == len(errors["edges"]) - 1
    inside = sum(sum(counts) for counts in errors["channels"].values())
    labels = sum(row["labels"] for row in content["perKeypoint"]["rows"])
    assert inside + errors["beyond"] + errors["missed"] == labels == evaluated.pairs.counted.sum()
    assert (
        labels == {"boxes": 36, "faces": 24}[evaluated.table.json_path.stem.replace("annotations", "boxes")]
    )
    assert errors["missed"] == metrics_of(scored[0])["missed"]["value"]


def test_pck_goes_through_the_numbers_of_the_contract(scored: tuple[Path, Path]) -> None:
    content, _ = content_of(*scored)
    metrics, pck = metrics_of(scored[0]), content["charts"]["pck"]
    asked = [name for name in metrics if name.startswith("pck@")]
    assert len(asked) >= 2
    for curve in pck["curves"]:
        values = dict(zip(pck["alphas"], curve["values"], strict=True))
        assert sorted(values.values()) == list(values.values())
        for name in asked:
            metric = metrics[name]
            expected = (
                metric["value"] if curve["channel"] == "all" else metric["per_channel"][curve["channel"]]
            )
            assert values[float(name[4:])] == pytest.approx(expected, abs=1e-12)
    assert (pck["alphas"][0], pck["alphas"][-1]) == (0.0, 0.5)
    assert pck["curves"][0]["channel"] == "all"


def test_every_curve_has_its_average_precision_below_it(scored: tuple[Path, Path]) -> None:
    content, _ = content_of(*scored)
    metrics, curves = metrics_of(scored[0]), content["charts"]["precisionRecall"]
    thresholds = [name for name in metrics if name.startswith("ap@")]
    assert len(curves) == len(thresholds) * len(content["channels"])
    for curve in curves:
        expected = metrics[f"ap@{curve['threshold']}"]["per_channel"][curve["channel"]]
        assert curve["ap"] == expected
        area = np.trapezoid(curve["precision"], curve["recall"]) if curve["recall"] else 0.0
        assert area == pytest.approx(expected, abs=1e-12)


def test_images_show_labels_detections_and_lines_that_give_their_error(scored: tuple[Path, Path]) -> None:
    content, _ = content_of(*scored)
    metrics, total, pairs = metrics_of(scored[0]), 0.0, 0
    for image in content["images"]:
        lengths = []
        for label, prediction in image["lines"]:
            (channel, x, y, flag), (other, *xy, score) = (
                image["labels"][label],
                image["predictions"][prediction],
            )
            assert channel == other
            assert flag in (1, 2)
            assert 0 <= score <= 1
            lengths.append(math.dist((x, y), xy))
        assert len({label for label, _ in image["lines"]}) == len(lengths)
        assert len({prediction for _, prediction in image["lines"]}) == len(lengths)
        assert image["missed"] == len(image["labels"]) - len(lengths)
        assert (image["error"] is None) == (not lengths)
        if lengths:
            assert image["error"] == pytest.approx(np.mean(lengths), abs=2e-3)
            assert image["worst"] == pytest.approx(max(lengths), abs=2e-3)
        total, pairs = total + sum(lengths), pairs + len(lengths)
    assert pairs > 10
    assert total / pairs == pytest.approx(metrics["mean_error_px"]["value"], abs=2e-3)
    assert sum(image["missed"] for image in content["images"]) == metrics["missed"]["value"]


def test_crops_of_an_image_are_one_image_with_boxes(faces: Path, faces_json: Path) -> None:
    content, _ = content_of(faces, faces_json)
    labels = json.loads(faces_json.read_text())
    assert [image["id"] for image in content["images"]] == ["7", "3", "9", "4"]
    for image in content["images"]:
        boxes = [a["bbox"] for a in labels["annotations"][:8] if str(a["image_id"]) == image["id"]]
        assert image["boxes"] == [pytest.approx(box, abs=0.01) for box in boxes]
        assert len(image["labels"]) == 6
        assert image["group"] == str(int(image["id"]) > 5)
        assert (image["w"], image["h"]) == (96, 64)
    rows = (faces / "per_image.csv").read_text().splitlines()
    assert rows[0].startswith("image_id,file_name,annotation_id,group,labels")
    assert [row.split(",")[2] for row in rows[1:]] == [str(number) for number in range(1, 9)]


def test_detected_boxes_have_no_errors(faces_json: Path, checkpoint: Path, tmp_path: Path) -> None:
    labels = json.loads(faces_json.read_text())["annotations"][:7]
    found = [{**{k: one[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5} for one in labels]
    (tmp_path / "boxes.json").write_text(json.dumps(found))
    options = EvalOptions(n_resamples=0, detections=tmp_path / "boxes.json", report=True)
    evaluate(checkpoint, faces_json, tmp_path / "eval", options)
    assert (tmp_path / "eval" / "report.html").is_file()
    content, _ = content_of(tmp_path / "eval", faces_json)
    assert content["charts"]["pck"] is None
    assert content["charts"]["precisionRecall"] == []
    assert content["perKeypoint"]["rows"] == []
    assert {image["error"] for image in content["images"]} == {None}
    assert {image["missed"] for image in content["images"]} == {None}
    assert sum(len(image["boxes"]) for image in content["images"]) == 7
    assert sum(len(image["predictions"]) for image in content["images"]) == 21
    rows = (tmp_path / "eval" / "per_image.csv").read_text().splitlines()
    assert len(rows) == 8
    assert rows[1].split(",")[2:] == ["", "3", "", "", "", "", "", ""]
    (tmp_path / "boxes.json").write_text("[]")
    evaluate(checkpoint, faces_json, tmp_path / "none", options)
    assert (tmp_path / "none" / "report.html").is_file()


def test_a_model_that_finds_nothing_misses_everything(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keypoint_detection.models.inference.DETECTION_THRESHOLD", 1.0)
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "eval", EvalOptions(n_resamples=0))
    assert (tmp_path / "eval" / "report.html").is_file()
    content, _ = content_of(tmp_path / "eval", boxes_json)
    assert content["charts"]["errors"]["missed"] == 36
    assert sum(sum(counts) for counts in content["charts"]["errors"]["channels"].values()) == 0
    assert all(value == 0 for curve in content["charts"]["pck"]["curves"] for value in curve["values"])
    assert all((c["recall"], c["ap"]) == ([], 0.0) for c in content["charts"]["precisionRecall"])
    assert [(i["error"], i["missed"], i["predictions"]) for i in content["images"]] == [(None, 6, [])] * 6
    values = {
        row["name"]: row["value"]
        for row in headline({"contract": {}, "metrics": metrics_of(tmp_path / "eval")})
    }
    assert (values["mean_error_px"], values["missed"]) == (None, 36)


def test_lines_of_the_skeleton_join_channels(faces: Path, faces_json: Path, tmp_path: Path) -> None:
    content, _ = content_of(faces, faces_json)
    assert content["skeleton"] == []
    lined = json.loads(faces_json.read_text())
    lined["categories"][0]["skeleton"] = [[1, 3], [2, 3]]
    path = faces_json.with_name("lined.json")
    path.write_text(json.dumps(lined))
    assert content_of(faces, path)[0]["skeleton"] == [[0, 2], [1, 2]]


def test_the_training_gives_curves_and_configuration(
    boxes: Path, boxes_json: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run = tiny_checkpoint.parents[1]
    content, _ = content_of(boxes, boxes_json, run)
    assert content["config"] == (run / "config.yaml").read_text()
    assert content["title"] == "Evaluation of tiny"
    loss = content["charts"]["training"][0]
    assert (loss["title"], loss["log"]) == ("loss", True)
    series = {one["name"]: one for one in loss["series"]}
    assert series["train"]["x"] == [0, 1]
    assert all(len(one["x"]) == len(one["y"]) for c in content["charts"]["training"] for one in c["series"])
    (tmp_path / "run").mkdir()
    shutil.copy(run / "config.yaml", tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").write_bytes(b"\xff\x00epoch\nnothing,here")
    content, _ = content_of(boxes, boxes_json, tmp_path / "run")
    assert content["charts"]["training"] == []


def test_a_missed_label_is_worse_than_any_error(boxes: Path, boxes_json: Path) -> None:
    _, evaluated = content_of(boxes, boxes_json)
    count = len(evaluated.pairs.distance)
    distance, missed = np.full(count, 1.0), np.zeros(count, bool)
    first = {row: np.flatnonzero(evaluated.labels.sample == row)[0] for row in range(3)}
    distance[first[0]], missed[first[1]] = 80.0, True
    distance[first[1]] = np.nan
    changed = replace(evaluated, pairs=replace(evaluated.pairs, distance=distance, missed=missed))
    diagonal = math.hypot(64, 64)
    expected = [85 / 6, (5 + diagonal) / 6, 1, 1, 1, 1]
    assert image_severity(changed) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 1, 0)), (6, (3, 2, 1)), (12, (6, 3, 3)), (101, (6, 3, 3))],
)
def test_picks_are_the_ends_and_the_middle(count: int, expected: tuple[int, int, int]) -> None:
    severity = np.append(np.arange(count, dtype=float), np.nan)[::-1]  # row 0 has no labels, row 1 is worst
    picks = pick_images(severity)
    kinds = list(picks.values())
    assert (kinds.count("worst"), kinds.count("median"), kinds.count("best")) == expected
    assert 0 not in picks
    assert [row for row, kind in picks.items() if kind == "worst"] == list(range(1, expected[0] + 1))
    assert [r for r, kind in picks.items() if kind == "best"] == list(
        range(count + 1 - expected[2], count + 1)
    )
    if count == 101:
        assert [row for row, kind in picks.items() if kind == "median"] == [50, 51, 52]


def test_a_count_has_no_decimals_and_without_resamples_there_is_no_interval(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    evaluate(tiny_checkpoint, boxes_json, tmp_path, replace(QUICK, n_resamples=0))
    content, _ = content_of(tmp_path, boxes_json)
    digits = {row["name"]: row.get("digits") for row in content["headline"]}
    assert digits["missed"] == 0
    assert {name for name, one in digits.items() if one is not None} == {"missed"}
    assert content["intervals"] == {}
