import math
from dataclasses import replace

import pytest
import torch
from scored_folds import CONTRACT, error_sheet, write_cross_validation, write_evaluation

from keypoint_detection.compare import compare_runs, read_scores
from keypoint_detection.compare_figure import fold_strips
from keypoint_detection.fold_scores import Resampling, summarise_folds
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.metrics.paired_bootstrap import compare_statistics

N = 30


def noise(seed: int) -> torch.Tensor:
    return torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sheets(shift: float, seed: int = 0, groups: bool = False) -> dict:
    """Return two folds of very different difficulty, whose errors are smaller by the shift, with noise."""
    found = {}
    for fold, centre in enumerate((5.0, 20.0)):
        errors = (centre + noise(fold) + 0.1 * noise(50 + 2 * seed + fold) - shift).tolist()
        ids = [fold * N + row for row in range(N)]
        found[f"fold{fold + 1}"] = error_sheet(ids, errors, (f"g{fold}",) * N if groups else None)
    return found


def failure(a, b) -> str:
    with pytest.raises(ValueError) as caught:
        compare_runs(a, b)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_shift_is_found_although_the_folds_differ_far_more(tmp_path) -> None:
    a = write_cross_validation(tmp_path / "a", sheets(0.0))
    b = write_cross_validation(tmp_path / "b", sheets(0.5, seed=1))
    found = compare_runs(a, b, n_resamples=300)
    difference = found.differences["mean_error_px"]
    means = [
        sum(sheet.values()["mean_error_px"] for sheet in one.values()) / 2
        for one in (sheets(0.0), sheets(0.5, seed=1))
    ]
    assert (difference.value_a, difference.value_b) == pytest.approx(tuple(means))
    assert difference.difference == pytest.approx(means[1] - means[0])
    assert -0.6 < difference.low < difference.difference < difference.high < -0.4
    # The noise of the difference is 0.1 * sqrt(2) px per image, of 60 images; 2.80 errors can be resolved.
    assert difference.resolvable == pytest.approx(2.80 * 0.1 * math.sqrt(2 / (2 * N)), rel=0.4)
    assert (found.n_images, found.n_folds, found.unit, found.n_groups) == (2 * N, 2, "image", None)


def test_a_cross_validation_does_not_differ_from_itself(tmp_path) -> None:
    for groups in (False, True):
        a = write_cross_validation(tmp_path / f"a{groups}", sheets(0.0, groups=groups))
        b = write_cross_validation(tmp_path / f"b{groups}", sheets(0.0, groups=groups))
        found = compare_runs(a, b, n_resamples=100)
        assert found.unit == ("fold" if groups else "image")
        for difference in found.differences.values():
            assert difference.difference == 0.0
            assert difference.p_value == 1.0


def test_folds_of_one_group_are_drawn_as_pairs(tmp_path) -> None:
    errors = {"a": (1.0, 2.0), "b": (5.0, 5.5), "c": (2.0, 2.0), "d": (7.0, 9.0), "e": (3.0, 4.5)}
    sides = [
        {
            name: error_sheet([2 * k, 2 * k + 1], [pair[side], pair[side]], (name, name))
            for k, (name, pair) in enumerate(errors.items())
        }
        for side in (0, 1)
    ]
    paths = [write_cross_validation(tmp_path / str(k), side) for k, side in enumerate(sides)]
    found = compare_runs(*paths, n_resamples=200, seed=3).differences["mean_error_px"]
    plain = [error_sheet(range(5), [pair[side] for pair in errors.values()]) for side in (0, 1)]
    expected = compare_statistics(
        plain[0].statistics, plain[1].statistics, n_images=5, n_resamples=200, seed=3
    )["mean_error_px"]
    assert tuple(found) == pytest.approx(tuple(expected))


def test_other_folds_are_refused(tmp_path) -> None:
    one = sheets(0.0)
    a = write_cross_validation(tmp_path / "a", one)
    swapped = {"fold1": one["fold2"], "fold2": one["fold1"]}
    b = write_cross_validation(tmp_path / "b", swapped)
    message = failure(a, b)
    assert message.startswith(f"the folds of {a} and {b} are not the same: fold1 holds {N} images")
    assert "--seed_of_folds" in message
    c = write_cross_validation(tmp_path / "c", {"fold1": one["fold1"]})
    assert failure(a, c).startswith(f"{a} has 2 folds and {c} has 1; compare needs the same data")


def test_other_definitions_and_single_runs_are_refused(tmp_path) -> None:
    a = write_cross_validation(tmp_path / "a", sheets(0.0))
    b = write_cross_validation(tmp_path / "b", sheets(0.0), {"thresholds": [4.0], "images": 4})
    assert "thresholds [2.0] / [4.0]" in failure(a, b)
    single = write_evaluation(tmp_path / "single", sheets(0.0)["fold1"])
    for pair in ((a, single), (single, a)):
        assert failure(*pair).startswith(f"{a} is a cross-validation and {single} is scored on one set")


def test_only_numbers_of_both_are_compared_where_one_tells_occluded_keypoints(tmp_path, caplog) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    told = {
        name: replace(
            sheet,
            statistics=(
                *sheet.statistics,
                RatioStatistic(("visibility_accuracy",), torch.ones(N, 1), torch.ones(N, 1)),
            ),
        )
        for name, sheet in sheets(0.5, seed=1).items()
    }
    a = write_cross_validation(tmp_path / "a", sheets(0.0))
    b = write_cross_validation(tmp_path / "b", told, {**CONTRACT, "visibility_scores": "by the sign"})
    c = write_cross_validation(tmp_path / "c", sheets(0.5, seed=1))
    found = compare_runs(a, b, n_resamples=50)
    assert found.differences == compare_runs(a, c, n_resamples=50).differences
    assert [record.message for record in caplog.records] == [
        f"only {b} tells occluded keypoints: visibility_accuracy and visibility_auroc are not compared"
    ]


def test_a_row_has_a_dot_per_fold_that_has_the_number(tmp_path) -> None:
    folds = {
        "one": error_sheet([1, 2], [1.0, 3.0], oks_ap=[math.nan, math.nan]),
        "two": error_sheet([3, 4], [4.0, 6.0], oks_ap=[0.5, 1.0]),
    }
    path = write_cross_validation(tmp_path / "cv", folds)
    scores = summarise_folds(read_scores(path).sheets, Resampling(50))
    strips = fold_strips("cv", scores)
    assert list(strips) == ["mean_error_px", "oks_ap"]
    error = strips["mean_error_px"]
    assert (error.label, error.values, error.names, error.centre) == ("cv", [2.0, 5.0], ["one", "two"], 3.5)
    assert error.interval == scores.metrics["mean_error_px"][2:4]
    assert (strips["oks_ap"].values, strips["oks_ap"].names) == ([0.75], ["two"])
