import math

import numpy as np
import pytest
import torch
from scored_folds import error_sheet

from keypoint_detection.fold_scores import (
    Resampling,
    columns_of_folds,
    mean_over_folds,
    resamples_of_folds,
    summarise_folds,
    unit_of_folds,
)
from keypoint_detection.metrics.bootstrap import bootstrap_interval

NAN = math.nan


def test_mean_spread_and_ends_by_hand() -> None:
    folds = {
        "one": error_sheet([1, 2], [1.0, 3.0]),  # 2
        "two": error_sheet([3, 4, 5], [6.0, 6.0, 9.0]),  # 7
        "three": error_sheet([6, 7], [2.0, 4.0]),  # 3
    }
    scores = summarise_folds(folds)
    assert list(scores.metrics) == ["mean_error_px", "stem/mean_error_px"]
    found = scores.metrics["mean_error_px"]
    assert found.values == {"one": 2.0, "two": 7.0, "three": 3.0}
    assert found.mean == pytest.approx(4.0)  # every fold counts the same, not every image
    assert found.spread == pytest.approx(math.sqrt((4 + 9 + 1) / 2))
    assert (found.lowest, found.highest) == ("one", "two")
    assert found.low < 4.0 < found.high
    assert (scores.unit, scores.n_units) == ("image", 7)


def slow_means(folds, weights_of_folds):
    """Return the mean over folds of the weighted mean of each one, one resample at a time."""
    found = []
    for weights in zip(*weights_of_folds, strict=True):
        means = []
        for values, counts in zip(folds, weights, strict=True):
            total = sum(float(c) * v for c, v in zip(counts, values, strict=True))
            means.append(total / float(sum(counts)))
        found.append(sum(means) / len(means))
    return found


def indicator_sheet(values, groups=None):
    """Return a sheet whose further numbers are how often each image was drawn, over the number of images."""
    n = len(values)
    images = {f"image{i}": [float(i == j) for j in range(n)] for i in range(n)}
    return error_sheet(range(n), values, groups, **images)


@pytest.mark.parametrize("groups", [None, [("u", "u", "v"), ("w", "x", "y", "x")]])
def test_resamples_equal_a_slow_loop(groups) -> None:
    folds = [[1.0, 5.0, 2.5], [4.0, 8.0, 3.0, 0.5]]
    resampling = Resampling(40, seed=3)
    sheets = [indicator_sheet(f, g) for f, g in zip(folds, groups or [None, None], strict=True)]
    unit = unit_of_folds(sheets)
    assert unit == ("image" if groups is None else "group")
    columns = columns_of_folds(sheets)
    parts = resamples_of_folds(sheets, columns, unit, resampling)
    # Shares of the images in each resample, times anything, are the weights that were used.
    weights = [
        part.values[:, [columns.index(f"image{i}") for i in range(len(values))]]
        for part, values in zip(parts, folds, strict=True)
    ]
    assert all(part.sum(1).tolist() == pytest.approx([1.0] * 40) for part in weights)
    assert len({tuple(row) for row in weights[0].tolist()}) > 2
    if groups is not None:  # u, u together
        assert torch.equal(weights[0][:, 0], weights[0][:, 1])
        assert torch.equal(weights[1][:, 1], weights[1][:, 3])
    mean = mean_over_folds(parts, columns, unit, resampling)
    expected = slow_means(folds, [part.tolist() for part in weights])
    assert mean.values[:, 0].tolist() == pytest.approx(expected)
    assert mean.estimate[0].item() == pytest.approx((8.5 / 3 + 15.5 / 4) / 2)


def test_folds_of_equal_size_are_drawn_apart() -> None:
    sheets = [indicator_sheet([1.0, 2.0, 3.0]) for _ in range(2)]
    one, other = resamples_of_folds(sheets, columns_of_folds(sheets), "image", Resampling(50))
    assert not torch.equal(one.values, other.values)


def test_leaving_out_a_unit_moves_its_fold_only() -> None:
    sheets = [error_sheet([1, 2], [1.0, 3.0]), error_sheet([3, 4], [10.0, 20.0])]
    columns = columns_of_folds(sheets)
    mean = mean_over_folds(
        resamples_of_folds(sheets, columns, "image", Resampling(5)), columns, "image", Resampling(5)
    )
    # (2 + 15) / 2; without image 1 the first fold is 3, 1 more: half of that in the mean.
    assert mean.jackknife[:, 0].tolist() == [9.0, 8.0, 11.0, 6.0]


def test_one_group_per_fold_draws_the_folds_themselves() -> None:
    folds = {
        name: error_sheet([2 * k, 2 * k + 1], [error, error + 1], (name, name))
        for k, (name, error) in enumerate((("a", 1.0), ("b", 5.0), ("c", 2.0), ("d", 9.0)))
    }
    scores = summarise_folds(folds, Resampling(300, 0.9, seed=4))
    found = scores.metrics["mean_error_px"]
    expected = bootstrap_interval([1.5, 5.5, 2.5, 9.5], level=0.9, n_resamples=300, seed=4)
    assert (scores.unit, scores.n_units) == ("fold", 4)
    assert (found.mean, found.low, found.high) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([None, None], "image"),
        ([("u", "v"), ("w", "x")], "group"),
        ([("u", "v"), ("w", "w")], "fold"),
    ],
)
def test_the_unit_is_the_largest_that_varies_in_every_fold(groups, expected) -> None:
    sheets = [error_sheet([2 * k, 2 * k + 1], [1.0, 2.0], group) for k, group in enumerate(groups)]
    assert unit_of_folds(sheets) == expected
    assert unit_of_folds([*sheets, error_sheet([9], [1.0], None)]) == "fold"


def test_a_number_that_a_fold_lacks_is_averaged_over_the_others() -> None:
    folds = {
        "one": error_sheet([1, 2, 3], [1.0, 2.0, 3.0], oks_ap=[0.25, 0.5, 0.75]),
        "two": error_sheet([4, 5], [4.0, 4.0], oks_ap=[NAN, NAN]),
        "three": error_sheet([6, 7], [6.0, 8.0]),
        "four": error_sheet([8, 9], [6.0, 8.0], oks_ap=[1.0, 0.5]),
    }
    found = summarise_folds(folds).metrics["oks_ap"]
    assert found.mean == pytest.approx((0.5 + 0.75) / 2)
    assert found.spread == pytest.approx(0.25 / math.sqrt(2))
    assert found.low < found.mean < found.high
    assert math.isnan(found.values["two"])
    assert math.isnan(found.values["three"])
    only = summarise_folds({name: folds[name] for name in ("one", "two")}).metrics["oks_ap"]
    assert only.mean == 0.5
    assert math.isnan(only.spread)
    none = summarise_folds({"two": folds["two"]}).metrics["oks_ap"]
    assert np.isnan(none[:4]).all()
    assert (none.lowest, none.highest) == (None, None)


def test_no_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one fold"):
        summarise_folds({})


@pytest.mark.slow
def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    # Folds of different difficulty: their difference is no part of the chance of the images.
    generator = np.random.default_rng(0)
    held, runs = 0, 300
    for _ in range(runs):
        folds = {
            name: error_sheet(range(30), (centre + generator.normal(size=30)).tolist())
            for name, centre in (("a", 1.0), ("b", 4.0), ("c", 10.0))
        }
        found = summarise_folds(folds, Resampling(400)).metrics["mean_error_px"]
        held += found.low <= 5.0 <= found.high
    assert 0.91 <= held / runs <= 0.98  # 0.95 with a standard error of 0.013
