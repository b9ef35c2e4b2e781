import math
from pathlib import Path
from typing import Any

import pytest
from point_data import FACTORS, make_points

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility import report
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.distance import UNKNOWN, DistanceEstimate
from keypoint_detection.visibility.evaluate_run import (
    close_text,
    distance_content,
    evaluate_to_folder,
    read_distances,
    scores_text,
    share_of_close,
)
from keypoint_detection.visibility.train_data import open_dataset


def estimate(value_m: float, true_m: float, kind: str = "estimate") -> dict[str, Any]:
    return {"visibility_m": value_m, "interval_m": [1.0, None], "kind": kind, "true_m": true_m}


def test_only_estimates_near_the_truth_count() -> None:
    distances = {
        "exact": estimate(1000, 1000),
        "on the edge": estimate(1150, 1000),
        "below": estimate(850, 1000),
        "too far": estimate(1151, 1000),
        "open": estimate(1000, 1000, "at least"),
        "nothing known": {"visibility_m": 5.0, "interval_m": None, "kind": "estimate"},
    }
    assert share_of_close(distances) == pytest.approx(3 / 5)
    assert close_text(distances) == ("visibility distance within 15 % of the truth in 3 of 5 images (60 %)")
    assert math.isnan(share_of_close({}))
    assert close_text({}) == ""


def test_distances_as_json() -> None:
    found = DistanceEstimate(900.0, 800.0, math.inf, False, False)
    assert distance_content(found, 1000.0) == {
        "visibility_m": 900.0,
        "interval_m": [800.0, None],
        "kind": "estimate",
        "true_m": 1000.0,
    }
    assert distance_content(DistanceEstimate(9.0, 8.0, math.inf, True, False))["kind"] == "at least"
    assert distance_content(DistanceEstimate(9.0, 0.0, 9.5, False, True))["kind"] == "at most"
    nothing = {"visibility_m": None, "interval_m": None, "kind": "unknown"}
    assert distance_content(UNKNOWN) == nothing
    assert distance_content(None) == nothing


def test_scores_as_lines() -> None:
    metrics = {
        "metrics": {
            "auroc": {"value": 0.987654, "interval": [0.9, 1.0]},
            "f1": {"value": None, "interval": None},
        },
        "points": 7,
        "images": 2,
    }
    assert scores_text(metrics, ("auroc", "f1")).split() == (
        ["auroc", "0.9877", "(0.9000", "to", "1.0000)", "f1", "-", "7", "points", "of", "2", "images"]
    )


def test_distances_are_estimated_once_and_are_those_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset(make_points(tmp_path))
    found, estimate_of = [], report.visibility_distance

    def counted(*args: Any, **options: Any) -> DistanceEstimate:
        found.append(estimate_of(*args, **options))
        return found[-1]

    monkeypatch.setattr(report, "visibility_distance", counted)
    monkeypatch.setattr(report, "_drawn", lambda draw: (b"light", b"dark"))  # figures take seconds
    folder = tmp_path / "run" / "eval"
    classifier = VisibilityClassifier(FACTORS, data.pyramid.n_channels, patch_px=8, size_hidden=4)
    evaluate_to_folder(classifier, data, data.table, folder, resampling=Resampling(n_resamples=20))
    assert len(found) == 8
    assert read_distances(folder) == {
        name: distance_content(one, data.true_m[name])
        for name, one in zip(data.table.image_names, found, strict=True)
    }
    again = report.write_report(
        folder, tmp_path / "again.html", images=data.images, true_m=data.true_m, title="Visibility: run"
    )
    assert len(found) == 16
    assert again.read_bytes() == (folder / "report.html").read_bytes()
