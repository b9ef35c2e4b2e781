import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import binary_classification as reference
from scipy.special import expit, logit

from keypoint_detection.metrics.binary_classification import (
    SCORES,
    binary_loss,
    binary_scores,
    calibration_bins,
    confusion_counts,
)

POINTS = st.lists(
    st.tuples(st.sampled_from([-7.5, -1.0, -0.25, 0.0, 0.5, 0.5000001, 3.0, 40.0]), st.booleans())
)


def drawn(n: int, seed: int = 0, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return logits with many ties, and labels that they tell something of."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(np.uint8)
    return np.round(rng.normal(1.5 * labels - 0.7, 1.5), digits), labels


def test_hand_worked_numbers() -> None:
    # P(visible) 0.8, 0.4, 0.6, 0.1 of labels 1, 1, 0, 0.
    scores = binary_scores(logit([0.8, 0.4, 0.6, 0.1]), [1, 1, 0, 0])
    assert scores == pytest.approx(
        {
            "loss": -(math.log(0.8) + math.log(0.4) + math.log(0.4) + math.log(0.9)) / 4,
            "accuracy": 0.5,
            "balanced_accuracy": 0.5,
            "f1": 0.5,
            "f1_visible": 0.5,
            "auroc": 0.75,  # of the pairs .8>.6, .8>.1, .4<.6, .4>.1
            "brier": (0.04 + 0.36 + 0.36 + 0.01) / 4,
            "ece": (0.2 + 0.6 + 0.6 + 0.1) / 4,  # each alone in its bin
            "ece_equal_mass": (0.2 + 0.6 + 0.6 + 0.1) / 4,
        }
    )
    assert list(scores) == list(SCORES)


def test_unequal_classes_by_hand() -> None:
    """Of 4 visible points 3 are found, of 2 others 1 is."""
    scores = binary_scores([1, 1, 1, -1, 1, -1], [1, 1, 1, 1, 0, 0])
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert scores["f1_visible"] == pytest.approx(6 / 8)
    assert scores["f1"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert confusion_counts([1, 1, 1, -1, 1, -1], [1, 1, 1, 1, 0, 0]).tolist() == [[1, 1], [1, 3]]


def test_loss_is_of_logits_and_can_come_near_zero() -> None:
    """With probabilities in place of logits it could not fall below ln(1 + exp(-1)) = 0.313."""
    assert binary_scores([20.0, -20.0], [1, 0])["loss"] == pytest.approx(math.exp(-20), rel=1e-6)
    far = binary_loss(np.array([1000.0, -1000.0, -1000.0]), np.array([1, 1, 0], np.uint8))
    assert far.tolist() == [0.0, 1000.0, 0.0]


def test_loss_against_torch() -> None:
    logits, labels = drawn(500, digits=9)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(labels).double()
    )
    assert binary_scores(logits, labels)["loss"] == pytest.approx(float(expected), rel=1e-12)


@given(POINTS)
def test_against_slow_reference(points: list[tuple[float, bool]]) -> None:
    logits, labels = [z for z, _ in points], [int(y) for _, y in points]
    assert binary_scores(logits, labels) == pytest.approx(
        reference.scores(logits, labels), rel=1e-12, abs=1e-15, nan_ok=True
    )


@pytest.mark.parametrize("seed", range(3))
def test_drawn_points_against_slow_reference(seed: int) -> None:
    logits, labels = drawn(311, seed)
    assert binary_scores(logits, labels) == pytest.approx(reference.scores(logits, labels), rel=1e-12)


def test_against_torchmetrics() -> None:
    from torchmetrics.functional import classification as referee

    logits, labels = drawn(800)
    p, y = torch.from_numpy(expit(logits)), torch.from_numpy(labels).long()
    scores = binary_scores(logits, labels)
    expected = {
        "accuracy": referee.binary_accuracy(p, y),
        "f1_visible": referee.binary_f1_score(p, y),
        "auroc": referee.binary_auroc(p, y),
        "ece": referee.binary_calibration_error(p, y, n_bins=15, norm="l1"),
    }
    assert (logits == 0).any()  # where P(visible) is 1/2 the prediction is "not visible" on both sides
    predicted = (p > 0.5).long()
    expected["f1"] = referee.multiclass_f1_score(predicted, y, 2, average="macro")
    expected["balanced_accuracy"] = referee.multiclass_accuracy(predicted, y, 2, average="macro")
    for name, number in expected.items():
        assert scores[name] == pytest.approx(float(number), rel=2e-5), name
    assert referee.binary_confusion_matrix(p, y).tolist() == confusion_counts(logits, labels).tolist()


def test_against_scikit_learn() -> None:
    referee = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn(800)
    scores, predicted, p = binary_scores(logits, labels), logits > 0, expit(logits)
    assert scores["loss"] == pytest.approx(referee.log_loss(labels, p))
    assert scores["balanced_accuracy"] == pytest.approx(referee.balanced_accuracy_score(labels, predicted))
    assert scores["f1"] == pytest.approx(referee.f1_score(labels, predicted, average="macro"))
    assert scores["auroc"] == pytest.approx(referee.roc_auc_score(labels, logits))
    assert scores["brier"] == pytest.approx(referee.brier_score_loss(labels, p))


def test_one_class_leaves_the_numbers_of_both_undefined() -> None:
    scores = binary_scores([1.0, 2.0, -1.0], [1, 1, 1])
    assert math.isnan(scores["auroc"])
    assert math.isnan(scores["balanced_accuracy"])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["f1_visible"] == pytest.approx(4 / 5)
    assert scores["f1"] == pytest.approx((4 / 5 + 0) / 2)  # the other class is predicted, so its F1 is 0
    assert math.isnan(binary_scores([1.0, 2.0], [1, 1])["f1"])


def test_calibration_bins_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.5, 0.9, 1.0 - 1e-12])
    bins = calibration_bins(logit(p), [0, 1, 0, 1, 1, 1], 4)
    assert bins.edges.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert bins.count.tolist() == [2, 1, 1, 2]  # 0.5 belongs to the bin that starts there
    assert bins.p_visible == pytest.approx([0.15, 0.3, 0.5, 0.95])
    assert bins.share_visible == pytest.approx([0.5, 0.0, 1.0, 1.0])


def test_certain_points_are_in_the_last_bin_and_empty_bins_are_undefined() -> None:
    bins = calibration_bins([50.0, -50.0], [1, 0], 3)
    assert bins.count.tolist() == [1, 0, 1]
    assert bins.p_visible[2] == 1.0
    assert math.isnan(bins.share_visible[1])


@given(n=st.integers(1, 60), n_bins=st.integers(1, 12))
def test_bins_of_equal_mass_hold_as_many_points(n: int, n_bins: int) -> None:
    logits = np.random.default_rng(n).permutation(np.linspace(-2, 2, n))
    bins = calibration_bins(logits, np.zeros(n), n_bins, "equal_mass")
    assert bins.count.sum() == n
    if n >= n_bins:
        assert bins.count.max() - bins.count.min() <= 1


def test_points_of_one_probability_share_a_bin() -> None:
    bins = calibration_bins([0.0] * 8 + [1.0, 2.0], [0] * 10, 5, "equal_mass")
    assert sorted(bins.count.tolist()) == [0, 0, 0, 2, 8]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([1.0, 2.0], [1], r"got shapes \[2\] and \[1\]"),
        ([[1.0]], [[1]], r"got shapes \[1, 1\]"),
        ([1.0, math.nan], [1, 0], "finite logits, got nan for point 1"),
        ([1.0, math.inf], [1, 0], "finite logits, got inf for point 1"),
        ([1.0, 2.0], [1, 2], "got 2 for point 1"),
    ],
)
def test_refuses_other_points(logits: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        binary_scores(logits, labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("n_bins", "binning"), [(0, "equal_width"), (3, "quantile")])
def test_refuses_other_bins(n_bins: int, binning: str) -> None:
    with pytest.raises(ValueError, match=r"(n_bins|binning) needs"):
        calibration_bins([1.0], [1], n_bins, binning)  # pyright: ignore[reportArgumentType]
