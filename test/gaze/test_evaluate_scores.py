from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged import ANSWERS, NAN, QUICK, judged, people

from keypoint_detection.gaze.evaluate_scores import (
    SCORES,
    counts,
    eyes,
    person_scores,
    point_scores,
    scores_with_intervals,
)


def test_numbers_of_a_point_by_hand() -> None:
    table = people()
    point = np.array([[49.5, 79.5], [139.5, 49.5], [0, 0], [0, 0]])
    found = point_scores(table, point)
    # ann: 30 px of 100 below her target. bob: 40 px of 200 beside the mean, and 20 px of 100 from both.
    np.testing.assert_allclose(found["min_distance"], [0.3, np.hypot(0.2, 0.2), NAN, NAN])
    np.testing.assert_allclose(found["avg_distance"], [0.3, 0.2, NAN, NAN])
    # ann's eye is 100 px to the right of her target; bob's is the centre of his head, (149.5, 49.5)
    ann, bob = np.degrees([np.arctan2(30, 100), np.arctan2(20, 50)])
    np.testing.assert_allclose(found["min_angle_deg"], [ann, bob, NAN, NAN])
    np.testing.assert_allclose(found["avg_angle_deg"], [ann, 0, NAN, NAN], atol=1e-9)


def test_the_eye_is_the_centre_of_the_head_where_it_is_unknown() -> None:
    assert eyes(people()).tolist() == [[149.5, 49.5]] * 4


def test_only_people_inside_at_a_known_place_count() -> None:
    assert counts(people()).tolist() == [True, True, False, False]


def test_numbers_of_several_maps_by_hand(tmp_path: Path) -> None:
    part, found = judged(tmp_path)
    scores = person_scores(part.table, found)
    # ann: three maps at her target and one half a width away; her best candidate is right
    assert scores["sample_distance"][0] == pytest.approx(0.125, abs=2e-3)
    assert scores["best_mode_distance"][0] == pytest.approx(0, abs=2e-3)
    assert scores["sample_spread"][0] == pytest.approx(np.sqrt(3 / 64), abs=2e-3)
    # bob: all maps in the middle, between both annotators
    assert scores["sample_distance"][1] == pytest.approx(0.2, abs=2e-3)
    assert scores["best_mode_distance"][1] == pytest.approx(0.2, abs=2e-3)
    assert scores["avg_distance"][1] == pytest.approx(0, abs=2e-3)
    for column in scores.values():
        assert np.isnan(column).tolist() == [False, False, True, True]


def test_means_are_over_who_counts(tmp_path: Path) -> None:
    part, found = judged(tmp_path)
    scores = person_scores(part.table, found)
    p_in = np.array([0.9, 0.8, 0.85, 0.99])  # cat, who is outside, between ann and bob; dan is unknown
    numbers = scores_with_intervals(part.table, scores, p_in, QUICK)
    assert list(numbers) == list(SCORES)
    for name, column in scores.items():
        assert numbers[name]["value"] == pytest.approx(np.nanmean(column))
    assert numbers["in_out_ap"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert all("reason" not in number for number in numbers.values())


def test_one_class_gives_no_precision_but_a_reason(tmp_path: Path) -> None:
    part, found = judged(tmp_path, people(outside=False))
    numbers = scores_with_intervals(part.table, person_scores(part.table, found), found.p_in, QUICK)
    ap = numbers["in_out_ap"]
    assert (ap["value"], ap["interval"]) == (None, None)
    assert "got 2 inside and 0 outside" in ap["reason"]
    assert numbers["auc"]["value"] > 0.7


def test_nobody_inside_gives_reasons_and_no_number(tmp_path: Path) -> None:
    part, found = judged(tmp_path, people().select([2, 3]))
    numbers = scores_with_intervals(part.table, person_scores(part.table, found), found.p_in, QUICK)
    assert all(number["value"] is None for number in numbers.values())
    assert numbers["auc"]["reason"].endswith("at a known place, got 0 of 2")
    assert "got 0 inside and 1 outside" in numbers["in_out_ap"]["reason"]


def test_one_map_has_no_spread(tmp_path: Path) -> None:
    part, found = judged(tmp_path, places={name: places[:1] for name, places in ANSWERS.items()})
    numbers = scores_with_intervals(part.table, person_scores(part.table, found), found.p_in, QUICK)
    assert numbers["sample_spread"] == {
        "value": None,
        "interval": None,
        "reason": "needs several maps of each person, got one",
    }
    assert numbers["sample_distance"]["value"] == pytest.approx(numbers["min_distance"]["value"])


def many(rng: np.random.Generator, n: int = 30) -> tuple:
    """Return ann and bob many times over under other names, and numbers for them."""
    table = people().select([0, 1, 2] * (n // 3))
    table = replace(
        table,
        person=tuple(f"person {index}" for index in range(n)),
        group=tuple(f"clip {index // 6}" for index in range(n)),
    )
    return table, {"auc": rng.random(n)}, rng.random(n)


def test_the_order_of_people_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    table, columns, p_in = many(rng)
    expected = scores_with_intervals(table, columns, p_in, QUICK)
    for by_group in (False, True):
        expected = scores_with_intervals(table, columns, p_in, QUICK, by_group=by_group)
        order = rng.permutation(len(table))
        shuffled = {name: column[order] for name, column in columns.items()}
        found = scores_with_intervals(table.select(order), shuffled, p_in[order], QUICK, by_group=by_group)
        assert found == expected


def test_whole_groups_give_wider_intervals_where_groups_differ() -> None:
    table, columns, p_in = many(np.random.default_rng(0))
    columns = {"auc": np.repeat(np.arange(5) / 4, 6)}  # equal within a clip
    widths = []
    for by_group in (False, True):
        low, high = scores_with_intervals(table, columns, p_in, QUICK, by_group=by_group)["auc"]["interval"]
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_one_person_has_a_value_without_an_interval() -> None:
    table = people().select([0])
    numbers = scores_with_intervals(table, {"auc": np.array([0.75])}, np.array([0.5]), QUICK)
    assert numbers["auc"] == {"value": 0.75, "interval": None}
