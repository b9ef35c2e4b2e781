import math

import pytest
import torch

from keypoint_detection.metrics.matching_rule import DEFAULT_SIGMA, MatchingRule, similarity_of_thresholds

COCO_SIGMAS = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [([2, 4], "distance"), ([1.0], "distance"), ([0.5, 0.95], "oks"), ((0.999,), "oks")],
)
def test_thresholds_say_what_they_are(thresholds, expected: str) -> None:
    assert similarity_of_thresholds(thresholds) == expected


@pytest.mark.parametrize(
    ("thresholds", "named"),
    [
        ([0.5, 2], "0.5, 2"),
        ([0.5, 1], "0.5, 1"),
        ([0], "0"),
        ([-1, 2], "-1, 2"),
        ([], "none"),
        ([math.nan], "nan"),
        ([math.inf], "inf"),
    ],
)
def test_thresholds_that_mean_nothing(thresholds, named: str) -> None:
    with pytest.raises(ValueError, match=f"got {named}") as error:
        similarity_of_thresholds(thresholds)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("thresholds", "similarity", "sigmas", "message"),
    [
        ([2], "iou", 0.1, "distance.*oks"),
        ([2], "oks", 0.1, r"\(0, 1\], got 2"),
        ([0.0], "distance", 0.1, "> 0"),
        ([0.5], "oks", [0.1], "each of 2 channels"),
        ([0.5], "oks", 0.0, "sigma"),
        ([0.5], "oks", [0.1, math.nan], "sigma"),
    ],
)
def test_wrong_rules(thresholds, similarity, sigmas, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatchingRule.create(2, thresholds, similarity, sigmas)


def test_limits_and_variance() -> None:
    rule = MatchingRule.create(2, [0.5, 1.0], "oks", [0.1, 0.25])
    assert rule.limits() == [math.log(2), 0.0]
    variance = rule.variance(torch.tensor([[[100.0], [4.0]]]), torch.ones(1, 2, 1, dtype=torch.bool))
    assert variance is not None
    assert variance.flatten().tolist() == pytest.approx([2 * 100 * 0.2**2, 2 * 4 * 0.5**2])
    pixels = MatchingRule.create(2, [3, 5], "distance", DEFAULT_SIGMA)
    assert pixels.limits() == [3.0, 5.0]
    assert pixels.variance(None, torch.ones(1, 2, 1, dtype=torch.bool)) is None


@pytest.mark.parametrize("area", [0.0, -1.0, math.nan, math.inf])
def test_area_must_be_there_where_the_target_is(area: float) -> None:
    rule = MatchingRule.create(1, [0.5], "oks", 0.1)
    scale = torch.tensor([[[9.0, area]]])
    assert rule.variance(scale, torch.tensor([[[True, False]]])) is not None
    with pytest.raises(ValueError, match="got 1 of 2 zero or missing"):
        rule.variance(scale, torch.tensor([[[True, True]]]))
    with pytest.raises(ValueError, match="no scale"):
        rule.variance(None, torch.tensor([[[True, True]]]))


def test_sigmas_of_targets() -> None:
    rule = MatchingRule.create(2, [0.5], "oks", [0.1, 0.25])
    areas, present = torch.tensor([[[100.0, 4.0], [9.0, 1.0]]]), torch.tensor([[[True, True], [True, False]]])
    own = torch.tensor([[[0.3, 0.5], [0.25, torch.nan]]], dtype=torch.float64)
    variance = rule.variance(areas, present, own)
    assert variance is not None
    assert variance[present].tolist() == pytest.approx([2 * 100 * 0.6**2, 2 * 4, 2 * 9 * 0.5**2])
    plain = rule.variance(areas, present)
    assert plain is not None
    assert plain[0, 1, 0] == variance[0, 1, 0]
    with pytest.raises(ValueError, match=r"expected sigmas \[1, 2, 2\].*got \[2\]"):
        rule.variance(areas, present, torch.tensor([0.1, 0.25]))


@pytest.mark.parametrize("sigma", [0.0, -0.1, math.nan, math.inf])
def test_sigma_must_be_there_where_the_target_is(sigma: float) -> None:
    rule = MatchingRule.create(1, [0.5], "oks", 0.1)
    areas, sigmas = torch.tensor([[[9.0, 9.0]]]), torch.tensor([[[0.1, sigma]]])
    assert rule.variance(areas, torch.tensor([[[True, False]]]), sigmas) is not None
    with pytest.raises(ValueError, match="keypoint constant > 0 for every target, got 1 of 2") as error:
        rule.variance(areas, torch.tensor([[[True, True]]]), sigmas)
    assert "\n" not in str(error.value)


def test_default_sigma_is_the_mean_of_coco() -> None:
    assert pytest.approx(sum(COCO_SIGMAS) / 17 / 1000, abs=1e-3) == DEFAULT_SIGMA
    assert math.exp(-(0.1**2) / (2 * (2 * DEFAULT_SIGMA) ** 2)) == pytest.approx(0.76, abs=0.005)
