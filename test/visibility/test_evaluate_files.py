import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.metrics.binary_classification import binary_scores
from keypoint_detection.metrics.binary_classification_statistic import binary_intervals
from keypoint_detection.visibility.evaluate_files import points_hash, read_evaluation, write_evaluation
from keypoint_detection.visibility.points import PointTable

QUICK = Resampling(n_resamples=100)


def points(seed: int = 0) -> tuple[PointTable, np.ndarray]:
    """Return points of two views with three images each, and logits that tell something of them."""
    rng, image = np.random.default_rng(seed), np.repeat(np.arange(6), 8)
    label = (rng.random(48) < 0.5).astype(np.uint8)
    table = PointTable(
        image_names=tuple(f"images/{name}, {index}.png" for name in "ab" for index in range(3)),
        views=("a",) * 3 + ("b",) * 3,
        image_hw=np.tile(np.array([[60, 80]], np.int64), (6, 1)),
        image=image.astype(np.int64),
        xy=rng.uniform(0, 59, (48, 2)),
        depth_m=np.where(rng.random(48) < 0.3, np.nan, rng.uniform(1, 1e4, 48)),
        label=label,
    )
    return table, rng.normal(2.0 * label - 1.0, 1.5)


def test_files_hold_every_point_and_number(tmp_path: Path) -> None:
    table, logits = points()
    content = write_evaluation(tmp_path, table, logits, resampling=QUICK, about={"checkpoint": "a.ckpt"})
    assert json.loads((tmp_path / "metrics.json").read_text()) == content
    values = {name: number["value"] for name, number in content["metrics"].items()}
    assert values == pytest.approx(binary_scores(logits, table.label))
    intervals = binary_intervals(logits, table.label, table.image, n_resamples=100)
    assert content["metrics"]["auroc"]["interval"] == [intervals["auroc"].low, intervals["auroc"].high]
    assert content["intervals"]["units"] == 6
    assert content["about"] == {"checkpoint": "a.ckpt"}
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert [float(row["logit"]) for row in rows] == logits.tolist()
    assert [float(row["p_visible"]) for row in rows] == expit(logits).tolist()
    assert [row["image"] for row in rows] == [table.image_names[index] for index in table.image]


def test_views_are_scored_by_themselves(tmp_path: Path) -> None:
    table, logits = points()
    content = write_evaluation(tmp_path, table, logits, resampling=QUICK)
    assert list(content["views"]) == ["a", "b"]
    for view, part in content["views"].items():
        there = table.point_views == view
        expected = binary_scores(logits[there], table.label[there])
        assert part["metrics"]["loss"]["value"] == pytest.approx(expected["loss"])
        assert (part["points"], part["images"]) == (24, 3)
    counts = np.array([part["confusion"]["counts"] for part in content["views"].values()])
    assert counts.sum(0).tolist() == content["confusion"]["counts"]
    assert counts.sum() == 48


def test_round_trip(tmp_path: Path) -> None:
    table, logits = points()
    write_evaluation(tmp_path, table, logits, resampling=QUICK)
    found = read_evaluation(tmp_path)
    assert found.logits.tolist() == logits.tolist()
    assert found.table.image_names == table.image_names
    assert found.table.xy.tolist() == table.xy.tolist()
    np.testing.assert_array_equal(found.table.depth_m, table.depth_m)
    assert found.contract["points"] == points_hash(table)


def test_images_without_points_are_left_out(tmp_path: Path) -> None:
    table, logits = points()
    there = table.image >= 3
    content = write_evaluation(tmp_path, table.select(there), logits[there], resampling=QUICK)
    assert content["images"] == 3
    assert list(content["views"]) == ["b"]
    assert read_evaluation(tmp_path).table.image_names == table.image_names[3:]


def test_one_image_of_one_class_has_no_interval(tmp_path: Path) -> None:
    table, logits = points()
    there = (table.image == 0) & (table.label == 1)
    content = write_evaluation(tmp_path, table.select(there), logits[there], resampling=QUICK)
    assert content["metrics"]["auroc"] == {"value": None, "interval": None}
    assert content["metrics"]["accuracy"]["interval"] is None
    assert read_evaluation(tmp_path).contract["n_images"] == 1


def test_hash_stands_for_points_views_and_labels_in_any_order() -> None:
    table, _ = points()
    order = np.random.default_rng(0).permutation(48)
    assert points_hash(table.select(order)) == points_hash(table)
    without_depth = replace(table, depth_m=np.full(48, np.nan))
    assert points_hash(without_depth) == points_hash(table)
    for changed in (
        replace(table, xy=table.xy + np.eye(48, 2) * 1e-9),
        replace(table, label=table.label ^ (np.arange(48) == 7).astype(np.uint8)),
        replace(table, views=("c", *table.views[1:])),
        replace(table, image_names=("images/z.png", *table.image_names[1:])),
        table.select(np.arange(47)),
    ):
        assert points_hash(changed) != points_hash(table)


def test_files_of_two_evaluations_are_refused(tmp_path: Path) -> None:
    table, logits = points()
    write_evaluation(tmp_path / "a", table, logits, resampling=QUICK)
    write_evaluation(tmp_path / "b", table, logits + 0.1, resampling=QUICK)
    write_evaluation(tmp_path / "c", table.select(np.arange(40)), logits[:40], resampling=QUICK)
    for other in "bc":
        (tmp_path / "a" / "predictions.csv").write_bytes((tmp_path / other / "predictions.csv").read_bytes())
        with pytest.raises(
            ValueError, match=r"are of two evaluations: the points are [0-9a-f]{12} with loss"
        ):
            read_evaluation(tmp_path / "a")


@pytest.mark.parametrize("missing", ["metrics.json", "predictions.csv"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_evaluation(tmp_path, *points(), resampling=QUICK)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"found no {missing}; make them with"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"contract": {"hash": 1}, "metrics": {}}'])
def test_a_broken_metrics_file_is_named(tmp_path: Path, text: str) -> None:
    write_evaluation(tmp_path, *points(), resampling=QUICK)
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics.json: expected the numbers of an evaluation") as error:
        read_evaluation(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("logit", ["", "many", "nan", "inf"])
def test_a_broken_logit_is_named_with_its_line(tmp_path: Path, logit: str) -> None:
    table, logits = points()
    write_evaluation(tmp_path, table, logits, resampling=QUICK)
    file = tmp_path / "predictions.csv"
    file.write_text(file.read_text().replace(repr(float(logits[2])), logit))
    with pytest.raises(ValueError, match=r"predictions.csv, line 4: expected the finite logit of a point"):
        read_evaluation(tmp_path)


def test_predictions_without_logits_are_refused(tmp_path: Path) -> None:
    write_evaluation(tmp_path, *points(), resampling=QUICK)
    file = tmp_path / "predictions.csv"
    file.write_text(file.read_text().replace("logit", "score"))
    with pytest.raises(ValueError, match="line 2: expected the finite logit"):
        read_evaluation(tmp_path)


def test_nothing_is_written_of_what_cannot_be_scored(tmp_path: Path) -> None:
    table, logits = points()
    for refused, numbers in (
        (table, logits[:-1]),
        (table, logits * math.nan),
        (table.select([]), logits[:0]),
    ):
        with pytest.raises(ValueError, match="expected"):
            write_evaluation(tmp_path / "new", refused, numbers)
    assert not (tmp_path / "new").exists()
