import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.average_precision import area_under_curve

from keypoint_detection.metrics import precision_recall
from keypoint_detection.metrics.precision_recall import Matches, average_precision_of_matches

# The example of 24 detections and 15 objects in rafaelpadilla/Object-Detection-Metrics: AP 24.56 %.
PUBLISHED_SCORES = [
    95,
    95,
    91,
    88,
    84,
    80,
    78,
    74,
    71,
    70,
    67,
    62,
    54,
    48,
    45,
    45,
    44,
    44,
    43,
    38,
    35,
    23,
    18,
    14,
]
PUBLISHED_HITS = [0, 2, 9, 11, 12, 13, 22]


def one_channel(scores, hits, num_targets, ignored=()):
    matched = torch.zeros(len(scores), 1, dtype=torch.bool)
    matched[hits] = True
    left_out = torch.zeros_like(matched)
    left_out[list(ignored)] = True
    counts = torch.tensor([[len(scores)]]), torch.tensor([[num_targets]])
    return Matches(torch.tensor(scores, dtype=torch.float64), matched, left_out, *counts)


def test_published_example() -> None:
    scores = [float(score) for score in PUBLISHED_SCORES]
    scores[0] += 0.5  # the example lists the true positive first of the two with 95 %
    ap = average_precision_of_matches(one_channel(scores, PUBLISHED_HITS, 15))
    assert float(ap) == pytest.approx(0.2456, abs=1e-4)
    assert float(ap) == pytest.approx((1 + 2 / 3 + 4 * 3 / 7 + 7 / 23) / 15, abs=1e-15)


def test_equal_scores_enter_together() -> None:
    ap = average_precision_of_matches(one_channel([float(s) for s in PUBLISHED_SCORES], PUBLISHED_HITS, 15))
    assert float(ap) == pytest.approx((2 * 2 / 3 + 4 * 3 / 7 + 7 / 23) / 15, abs=1e-15)


def test_101_points_by_hand() -> None:
    # Precision 1 up to recall 1/4 (26 levels: 0 ... .25), 2/3 up to recall 1/2 (25 more), then 0.
    ap = average_precision_of_matches(one_channel([0.9, 0.8, 0.7], [0, 2], 4), "101")
    assert float(ap) == pytest.approx((26 + 25 * 2 / 3) / 101, abs=1e-15)
    assert float(average_precision_of_matches(one_channel([0.9], [0], 1), "101")) == 1.0


@pytest.mark.parametrize("interpolation", ["all", "101"])
@pytest.mark.parametrize("num_targets", [7, 29, 100])
def test_equals_slow_reference(interpolation: str, num_targets: int) -> None:
    generator = torch.Generator().manual_seed(num_targets)
    scores = torch.randint(0, 60, (100,), generator=generator).double()
    hits = torch.randperm(100, generator=generator)[:num_targets].tolist()
    ap = average_precision_of_matches(one_channel(scores.tolist(), hits, num_targets), interpolation)
    expected = area_under_curve(
        [(s, i in hits) for i, s in enumerate(scores.tolist())], num_targets, interpolation
    )
    assert float(ap) == expected


def test_channels_and_thresholds_are_separate() -> None:
    # Image 0 has detections 0, 1 in channel 0 and 2 in channel 1; image 1 has 3 in channel 2.
    matches = Matches(
        torch.tensor([0.9, 0.8, 0.7, 0.6], dtype=torch.float64),
        torch.tensor([[False, True], [True, False], [True, True], [False, False]]),
        torch.zeros(4, 2, dtype=torch.bool),
        torch.tensor([[2, 1, 0, 0], [0, 0, 1, 0]]),
        torch.tensor([[1, 2, 0, 0], [0, 0, 0, 3]]),
    )
    table = average_precision_of_matches(matches)
    assert table[:2].tolist() == [[0.5, 1.0], [0.5, 0.5]]
    assert table[2].isnan().all()  # a channel without targets
    assert table[3].tolist() == [0.0, 0.0]  # one without detections


def test_nothing_at_all() -> None:
    matches = Matches.without_images(2, 3)
    table = average_precision_of_matches(matches)
    assert table.shape == (2, 3)
    assert all(math.isnan(value) for value in table.flatten().tolist())
    weighted = average_precision_of_matches(matches, weights=torch.zeros(4, 0, dtype=torch.int64))
    assert weighted.shape == (4, 2, 3)
    assert weighted.isnan().all()


def test_left_out_detections_count_nowhere() -> None:
    # Without the one at 0.9 the curve is 1/1, 1/2, 2/3.
    ap = average_precision_of_matches(one_channel([0.9, 0.8, 0.7, 0.6], [1, 3], 2, ignored=[0]))
    assert ap.tolist() == [[(1 + 2 / 3) / 2]]
    # Left out among equal scores: one of two at 0.8 is true, then nothing else is false.
    ap = average_precision_of_matches(one_channel([0.8, 0.8, 0.7], [0, 2], 2, ignored=[1]))
    assert ap.tolist() == [[1.0]]
    assert average_precision_of_matches(one_channel([0.8, 0.7], [], 2, ignored=[0, 1])).tolist() == [[0.0]]


def test_each_threshold_leaves_out_its_own() -> None:
    matches = one_channel([0.9, 0.8], [1], 1)
    matches = matches._replace(
        matched=matches.matched.expand(-1, 2), ignored=torch.tensor([[True, False], [False, False]])
    )
    assert average_precision_of_matches(matches).tolist() == [[1.0, 0.5]]
    one = torch.ones(1, 1, dtype=torch.int64)
    assert average_precision_of_matches(matches, weights=one).tolist() == [[[1.0, 0.5]]]


def test_weights_by_hand() -> None:
    # Image 0 has a false detection at 0.9 and one target, image 1 a true one at 0.8 and two targets.
    matches = Matches(
        torch.tensor([0.9, 0.8], dtype=torch.float64),
        torch.tensor([[False], [True]]),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.tensor([[1], [1]]),
        torch.tensor([[1], [2]]),
    )
    weights = torch.tensor([[1, 1], [0, 1], [3, 2], [1, 0], [0, 0]])
    table = average_precision_of_matches(matches, weights=weights).flatten().tolist()
    assert table[:4] == [0.5 / 3, 0.5, 2 * 0.4 / 7, 0.0]
    assert math.isnan(table[4])


def random_matches(seed: int) -> Matches:
    rng = torch.Generator().manual_seed(seed)
    num_detections = torch.randint(0, 5, (5, 2), generator=rng)
    num_targets = torch.randint(0, 4, (5, 2), generator=rng)
    total = int(num_detections.sum())
    scores = torch.randint(0, 6, (total,), generator=rng).double()
    # A true positive needs a target of its own.
    room = torch.minimum(num_detections, num_targets).flatten().tolist()
    firsts = [torch.arange(d) < r for d, r in zip(num_detections.flatten().tolist(), room, strict=True)]
    matched = torch.cat(firsts)[:, None] & (torch.rand(total, 3, generator=rng) < 0.7)
    ignored = ~matched & (torch.rand(total, 3, generator=rng) < 0.3)
    return Matches(scores, matched, ignored, num_detections, num_targets)


def slow_weighted(matches: Matches, counts: list[int], interpolation: str) -> torch.Tensor:
    """Return the reference's AP `[c, t]` of the images, each repeated as often as it counts."""
    c = matches.num_detections.shape[1]
    starts = [0, *matches.num_detections.flatten().cumsum(0).tolist()]
    table = torch.full((c, matches.matched.shape[1]), torch.nan, dtype=torch.float64)
    for channel in range(c):
        for column in range(table.shape[1]):
            found, num_targets = [], 0
            for image in (i for i, count in enumerate(counts) for _ in range(count)):
                group = image * c + channel
                num_targets += int(matches.num_targets[image, channel])
                found += [
                    (float(matches.scores[i]), bool(matches.matched[i, column]))
                    for i in range(starts[group], starts[group + 1])
                    if not matches.ignored[i, column]
                ]
            table[channel, column] = area_under_curve(found, num_targets, interpolation)
    return table


@pytest.mark.parametrize("interpolation", ["all", "101"])
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4),
    at_once=st.sampled_from([1, 20, 2**15]),
)
@settings(max_examples=60, deadline=None)
def test_weights_equal_repeated_images_bit_for_bit(interpolation, seed, counts, at_once) -> None:
    matches = random_matches(seed)
    weights = torch.tensor([*counts, [1] * 5])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision_recall, "WEIGHTED_AT_ONCE", at_once)
        tables = average_precision_of_matches(matches, interpolation, weights)
    for row, table in zip(weights.tolist(), tables, strict=True):
        np.testing.assert_array_equal(table, slow_weighted(matches, row, interpolation))
    np.testing.assert_array_equal(tables[-1], average_precision_of_matches(matches, interpolation))


def test_weights_beyond_32_bits() -> None:
    matches = one_channel([0.9, 0.8, 0.7], [0, 2], 2)
    table = average_precision_of_matches(matches, weights=torch.tensor([[1], [2**31]]))
    assert table[1].tolist() == table[0].tolist()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            torch.ones(2, dtype=torch.int64),
            r"expected weights \[b, 1\] of whole numbers, got torch.int64 \[2\]",
        ),
        (torch.ones(2, 3, dtype=torch.int64), r"got torch.int64 \[2, 3\]"),
        (torch.ones(2, 1), r"got torch.float32 \[2, 1\]"),
        (torch.tensor([[1], [-2]]), "expected weights >= 0, got -2"),
    ],
)
def test_weights_that_are_wrong(weights, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision_of_matches(one_channel([0.9], [0], 1), weights=weights)
