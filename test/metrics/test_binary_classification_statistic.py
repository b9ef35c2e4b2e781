import math

import numpy as np
import pytest
import torch
from reference import binary_classification as slow
from reference import bootstrap as slow_bootstrap

from keypoint_detection.metrics.binary_classification import SCORES, binary_scores
from keypoint_detection.metrics.binary_classification_statistic import binary_intervals, binary_statistic
from keypoint_detection.metrics.bootstrap import Interval, bootstrap_interval, bootstrap_statistics
from keypoint_detection.metrics.paired_bootstrap import compare_statistics
from keypoint_detection.metrics.resampling import resample_weights

FIXED_BINS = [name for name in SCORES if name != "ece_equal_mass"]


def images_of_points(n_images: int = 12, per_image: int = 9, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return logits, labels and images of points whose images differ in how hard they are."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), per_image)
    labels = (rng.random(len(image)) < 0.5).astype(np.uint8)
    ease = rng.normal(1.5, 1.5, n_images)[image]
    return np.round(rng.normal((2 * labels - 1.0) * ease, 1.0), 1), labels, image


def test_numbers_of_all_images() -> None:
    logits, labels, image = images_of_points()
    statistic = binary_statistic(logits, labels, image, 12)
    found = dict(zip(statistic.columns, statistic.value().tolist(), strict=True))
    assert found == pytest.approx(binary_scores(logits, labels), rel=1e-12)


def test_weights_are_repeated_images() -> None:
    logits, labels, image = images_of_points()
    weights = resample_weights(12, 20, seed=3)
    found = binary_statistic(logits, labels, image, 12)(weights)
    for row, numbers in zip(weights.numpy(), found.tolist(), strict=True):
        times = row[image]
        expected = slow.scores(np.repeat(logits, times).tolist(), np.repeat(labels, times).tolist())
        values = dict(zip(SCORES, numbers, strict=True))
        for name in FIXED_BINS:  # bins of equal mass are kept from all points
            assert values[name] == pytest.approx(expected[name], rel=1e-12), name


def test_bins_of_equal_mass_stay_those_of_all_points() -> None:
    logits, labels, image = images_of_points()
    edges = slow.equal_mass_edges(logits.tolist(), 15)
    weights = resample_weights(12, 5, seed=3)
    found = binary_statistic(logits, labels, image, 12)(weights)[:, SCORES.index("ece_equal_mass")]
    for row, number in zip(weights.numpy(), found.tolist(), strict=True):
        times = row[image]
        expected = slow.ece(np.repeat(logits, times).tolist(), np.repeat(labels, times).tolist(), edges)
        assert number == pytest.approx(expected, rel=1e-12)


def test_order_of_images_changes_no_bit() -> None:
    logits, labels, image = images_of_points()
    one = binary_statistic(logits, labels, image, 12).value()
    other = binary_statistic(logits, labels, 11 - image, 12).value()
    assert one.tolist() == other.tolist()


def test_undefined_weightings_are_nan() -> None:
    statistic = binary_statistic([1.0, 2.0, -1.0], [1, 1, 0], [0, 0, 1], 3)
    found = dict(zip(SCORES, statistic(torch.tensor([[0, 0, 5], [1, 0, 1]])).T.tolist(), strict=True))
    assert all(math.isnan(numbers[0]) for numbers in found.values())
    assert math.isnan(found["auroc"][1])
    assert found["accuracy"][1] == 1.0


def test_intervals_against_slow_bootstrap() -> None:
    """Draw, score and read off the interval one number at a time."""
    logits, labels, image = images_of_points(8, 6)
    intervals = binary_intervals(logits, labels, image, n_resamples=120, seed=4, level=0.9)
    rows = slow_bootstrap.draw(8, 120, 4)
    left_out = [[int(unit != out) for unit in range(8)] for out in range(8)]

    def numbers(weights: list[list[int]], name: str) -> list[float]:
        found = []
        for row in weights:
            times = np.array(row)[image]
            found.append(slow.scores(np.repeat(logits, times), np.repeat(labels, times))[name])
        return found

    for name in ("loss", "accuracy", "auroc", "brier"):
        estimate = slow.scores(logits, labels)[name]
        ends = slow_bootstrap.interval(numbers(rows, name), estimate, numbers(left_out, name), 0.9, "bca")
        assert intervals[name] == pytest.approx((estimate, *ends), rel=1e-9), name
        assert isinstance(intervals[name], Interval)


def test_points_by_themselves_are_the_bootstrap_of_their_mean() -> None:
    logits, labels, _ = images_of_points()
    found = binary_intervals(logits, labels, seed=2)["accuracy"]
    assert found == pytest.approx(bootstrap_interval(((logits > 0) == labels).astype(float), seed=2))


def test_drawing_images_gives_wider_intervals_than_drawing_points() -> None:
    logits, labels, image = images_of_points(20, 40)
    widths = [
        interval.high - interval.low
        for interval in (binary_intervals(logits, labels, groups)["accuracy"] for groups in (image, None))
    ]
    assert widths[0] > 2 * widths[1]


def test_groups_may_be_names_in_any_order() -> None:
    logits, labels, image = images_of_points()
    names = np.array([f"image {index:02d}" for index in image])
    order = np.random.default_rng(0).permutation(len(image))
    one = binary_intervals(logits, labels, image)
    other = binary_intervals(logits[order], labels[order], names[order])
    for name in SCORES:
        assert one[name] == pytest.approx(other[name], rel=1e-9)


def test_one_group_has_no_interval() -> None:
    interval = binary_intervals([1.0, -1.0], [1, 1], ["a", "a"])["accuracy"]
    assert interval.value == 0.5
    assert math.isnan(interval.low)


def test_interval_holds_the_true_accuracy_in_95_percent() -> None:
    """Images are drawn from a population whose mean accuracy is known: 0.75."""
    rng, inside = np.random.default_rng(1), 0
    for trial in range(200):
        right = rng.random((40, 10)) < rng.uniform(0.5, 1.0, (40, 1))
        logits, labels = np.where(right, 1.0, -1.0).ravel(), np.ones(400)
        interval = binary_intervals(
            logits, labels, np.repeat(np.arange(40), 10), n_resamples=300, seed=trial
        )["accuracy"]
        inside += interval.low <= 0.75 <= interval.high
    assert 0.90 <= inside / 200 <= 0.99


def test_paired_comparison_takes_the_statistic() -> None:
    logits, labels, image = images_of_points()
    better = logits + 0.5 * (2.0 * labels - 1)
    a, b = (binary_statistic(side, labels, image, 12) for side in (logits, better))
    found = compare_statistics([a], [b], n_images=12)
    assert found["loss"].high < 0 < found["auroc"].low
    assert found["loss"].difference == pytest.approx(slow.loss(better, labels) - slow.loss(logits, labels))


def test_images_without_points_may_be_drawn() -> None:
    logits, labels, image = images_of_points(6)
    statistic = binary_statistic(logits, labels, image + 1, 8)
    assert bootstrap_statistics([statistic], n_images=8)["loss"].value == pytest.approx(
        binary_scores(logits, labels)["loss"]
    )


def test_refuses_images_out_of_range() -> None:
    with pytest.raises(ValueError, match="image needs a number below 2 for each of 2 points"):
        binary_statistic([1.0, 2.0], [1, 0], [0, 2], 2)
