import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.metrics.bootstrap import bootstrap_statistics
from keypoint_detection.metrics.visibility_scores import VisibilityPairs
from keypoint_detection.metrics.visibility_statistics import (
    VisibilityStatistic,
    balanced_accuracy,
    visibility_statistics,
)


def draw_pairs(seed: int, n: int = 6, c: int = 2) -> VisibilityPairs:
    """Return pairs with ties in the scores, some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    num_pairs = torch.randint(0, 4, (n, c), generator=generator)
    p = int(num_pairs.sum())
    scores = torch.randint(-4, 5, (p,), generator=generator).double() / 4
    return VisibilityPairs(scores, torch.rand(p, generator=generator) < 0.5, num_pairs)


def slow_numbers(points: list[tuple[float, bool]]) -> list[float]:
    """Return balanced accuracy and AUROC of `(signed score, is visible)`, by counting all pairs."""
    seen, occluded = ([score for score, flag in points if flag == wanted] for wanted in (True, False))
    if not seen or not occluded:
        return [math.nan, math.nan]
    right = sum(s >= 0 for s in seen) / len(seen), sum(s < 0 for s in occluded) / len(occluded)
    wins = sum((one > other) + 0.5 * (one == other) for one in seen for other in occluded)
    return [sum(right) / 2, wins / len(seen) / len(occluded)]


def slow_table(pairs: VisibilityPairs, weights: list[int]) -> list[float]:
    points: list[list[tuple[float, bool]]] = [[], [], []]
    row = 0
    for image, counts in enumerate(pairs.num_pairs.tolist()):
        for channel, count in enumerate(counts):
            for place in range(row, row + count):
                point = (float(pairs.scores[place]), bool(pairs.visible[place]))
                for group in (0, channel + 1):
                    points[group] += [point] * weights[image]
            row += count
    return [number for group in points for number in slow_numbers(group)]


def test_by_hand() -> None:
    scores = torch.tensor([0.9, 0.6, -0.1, -0.8, 0.7]).double()
    visible = torch.tensor([True, True, True, False, False])
    (statistic,) = visibility_statistics(VisibilityPairs(scores, visible, torch.tensor([[3], [2]])), ["eye"])
    values = dict(zip(statistic.columns, statistic.value().tolist(), strict=True))
    # two of three visible, one of two occluded; of six pairs 0.9 wins both, 0.6 and -0.1 one each
    assert values["visibility_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["visibility_auroc"] == pytest.approx(4 / 6)
    assert values["eye/visibility_auroc"] == values["visibility_auroc"]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_weights_count_images_as_often(seed: int) -> None:
    pairs = draw_pairs(seed)
    statistic = VisibilityStatistic(*pairs, ("a", "b"))
    weights = torch.randint(0, 4, (5, 6), generator=torch.Generator().manual_seed(seed))
    expected = torch.tensor([slow_table(pairs, row) for row in weights.tolist()], dtype=torch.float64)
    torch.testing.assert_close(statistic(weights), expected, equal_nan=True)
    once = torch.tensor(slow_table(pairs, [1] * 6), dtype=torch.float64)
    torch.testing.assert_close(statistic.value(), once, equal_nan=True)


def test_the_order_of_images_changes_no_bit() -> None:
    pairs = draw_pairs(3, n=30, c=1)
    parts = [part.split(pairs.num_pairs[:, 0].tolist()) for part in pairs[:2]]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).tolist()
    scores, visible = (torch.cat([part[row] for row in order]) for part in parts)
    shuffled = VisibilityStatistic(scores, visible, pairs.num_pairs[order], ("a",))
    assert torch.equal(VisibilityStatistic(*pairs, ("a",)).value(), shuffled.value())


def test_one_class_alone_has_no_number_and_no_interval() -> None:
    statistic = VisibilityStatistic(
        torch.tensor([0.5, -0.5]).double(), torch.tensor([True, True]), torch.tensor([[1], [1]]), ("a",)
    )
    assert statistic.value().isnan().all()
    assert statistic(torch.zeros(2, 2, dtype=torch.int64)).isnan().all()
    assert math.isnan(balanced_accuracy(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])).item())


def test_intervals_hold_the_number() -> None:
    generator = torch.Generator().manual_seed(0)
    visible = torch.rand(200, generator=generator) < 0.6
    scores = (visible.double() * 2 - 1) * 0.4 + 0.5 * torch.randn(200, generator=generator).double()
    statistic = VisibilityStatistic(scores, visible, torch.full((50, 1), 4), ("a",))
    found = bootstrap_statistics([statistic], n_images=50, n_resamples=200)
    for name in ("visibility_accuracy", "visibility_auroc"):
        value, low, high = found[name]
        assert 0.5 < low < value < high < 1
        assert high - low < 0.25


def test_a_name_for_every_channel_is_needed() -> None:
    with pytest.raises(ValueError, match="expected one name for each of 2 channels, got 1"):
        VisibilityStatistic(*draw_pairs(0), ("a",))
