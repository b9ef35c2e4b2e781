import numpy as np
import pytest
import torch
from judged import NAN, people

from keypoint_detection.gaze.evaluate import map_auc
from keypoint_detection.gaze.evaluate_scores import POINT_SCORES, point_scores
from keypoint_detection.gaze.gaze_baselines import CentreBias, centre_bias_of, centre_scores, chance_scores


def test_chance_is_the_mean_over_draws_of_a_point() -> None:
    table, rng = people(), np.random.default_rng(0)
    found = chance_scores(table)
    draws = [point_scores(table, rng.random((4, 2)) * [200, 100] - 0.5) for _ in range(3000)]
    for name in POINT_SCORES:
        expected = np.mean([draw[name][:2] for draw in draws], axis=0)
        np.testing.assert_allclose(found[name][:2], expected, rtol=0.04)
        assert np.isnan(found[name][2:]).all()
    np.testing.assert_array_equal(found["auc"], [0.5, 0.5, NAN, NAN])


def test_chance_against_the_middle_is_a_known_integral() -> None:
    # mean distance to the centre of the unit square, (sqrt 2 + ln(1 + sqrt 2)) / 6
    found = chance_scores(people())["avg_distance"][1]
    assert found == pytest.approx((np.sqrt(2) + np.log(1 + np.sqrt(2))) / 6, rel=2e-3)


def test_nobody_who_counts_scores_nothing() -> None:
    for scores in (
        chance_scores(people().select([2, 3])),
        centre_scores(people(), CentreBias((0, 0), (1, 1))),
    ):
        assert np.isnan(scores["auc"][-2:]).all()


def test_the_usual_place_is_the_mean_of_the_people_of_the_training() -> None:
    # ann looks at (0.25, 0.5), bob's annotators at (0.5, 0.3) and (0.5, 0.7) together at (0.5, 0.5)
    bias = centre_bias_of(people())
    np.testing.assert_allclose(bias.mean, [0.375, 0.5])
    np.testing.assert_allclose(bias.std, [0.125, 0.05])  # the least that it may be
    for training in (None, people().select([2, 3])):
        assert centre_bias_of(training).mean == (0.5, 0.5)


def test_numbers_of_the_usual_place_by_hand() -> None:
    scores = centre_scores(people(), CentreBias((0.5, 0.5), (0.25, 0.25)))
    np.testing.assert_allclose(scores["min_distance"][:2], [0.25, 0.2])
    np.testing.assert_allclose(scores["avg_distance"][:2], [0.25, 0.0], atol=1e-12)
    # nearer to the middle is higher: the pixels outside of the ellipse through ann's point are lower
    assert scores["auc"][0] == pytest.approx(1 - np.pi * 0.25**2, abs=0.01)


def test_the_area_of_the_usual_place_is_that_of_its_map() -> None:
    table = people()
    place = (torch.arange(64).double() + 0.5) / 64
    heat = torch.exp(-0.5 * (((place[:, None] - 0.4) / 0.1) ** 2 + ((place - 0.3) / 0.2) ** 2))
    expected = map_auc(table, heat.expand(4, 64, 64))
    found = centre_scores(table, CentreBias((0.3, 0.4), (0.2, 0.1)))["auc"]
    np.testing.assert_allclose(found, expected, atol=0.008)  # the area of the map rounds points to pixels
