import math

import pytest
import torch
from reference.average_precision import area_under_curve

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


def one_channel(scores, hits, num_targets):
    matched = torch.zeros(len(scores), 1, dtype=torch.bool)
    matched[hits] = True
    counts = torch.tensor([[len(scores)]]), torch.tensor([[num_targets]])
    return Matches(torch.tensor(scores, dtype=torch.float64), matched, *counts)


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
        torch.tensor([[2, 1, 0, 0], [0, 0, 1, 0]]),
        torch.tensor([[1, 2, 0, 0], [0, 0, 0, 3]]),
    )
    table = average_precision_of_matches(matches)
    assert table[:2].tolist() == [[0.5, 1.0], [0.5, 0.5]]
    assert table[2].isnan().all()  # a channel without targets
    assert table[3].tolist() == [0.0, 0.0]  # one without detections


def test_nothing_at_all() -> None:
    zeros = torch.zeros(0, 2, dtype=torch.int64)
    matches = Matches(torch.zeros(0, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.bool), zeros, zeros)
    table = average_precision_of_matches(matches)
    assert table.shape == (2, 3)
    assert all(math.isnan(value) for value in table.flatten().tolist())
