import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.oks_cases import evaluate_case, make_oks_case

from keypoint_detection.metrics import instance_matching
from keypoint_detection.metrics.instance_batch import InstanceBatch
from keypoint_detection.metrics.instance_matching import (
    instance_similarities,
    match_instances,
    object_similarity,
    spanned_area,
)

ALL, MEDIUM, LARGE = range(3)
AT_50, AT_75 = 0, 5


def batch_of(case):
    return InstanceBatch.of_records(case.preds, case.target, len(case.sigmas), torch.device("cpu"))


def match_points(detections, targets, *, areas=2500.0, crowds=0, labelled=2, scores=None):
    """Match points on a line, the instances of one image with one keypoint; 2 sigma is 0.1."""
    count = len(targets)
    columns = {"area": areas, "iscrowd": crowds, "visibility": labelled}
    columns = {key: np.resize(np.asarray(value), count) for key, value in columns.items()}
    columns["visibility"] = columns["visibility"].reshape(count, 1)
    points = [np.array([[[x, 0.0]] for x in side]).reshape(-1, 1, 2) for side in (detections, targets)]
    scores = np.arange(len(detections), 0, -1) / 100 if scores is None else np.array(scores)
    boxes = np.column_stack([points[1][:, 0] - 1, np.full((count, 2), 2.0)])
    preds, target = {"keypoints": points[0], "scores": scores}, {"keypoints": points[1], "boxes": boxes}
    batch = InstanceBatch.of_records([preds], [{**target, **columns}], 1, torch.device("cpu"))
    return match_instances(batch, [0.05])


def test_similarity_by_hand() -> None:
    # One keypoint at 5 px, one exact, one not found: (exp(-25 / (2 * 0.01 * 2500)) + 1 + 0) / 3.
    x, y = np.array([[3.0, 0.0, np.nan]]), np.array([[4.0, 0.0, 1.0]])
    oks = object_similarity(x, y, np.full(3, 0.01), np.array([2500.0]))
    assert oks.tolist() == pytest.approx([(np.exp(-0.5) + 1) / 3], abs=1e-15)


@pytest.mark.parametrize(("sigma", "oks"), [(0.062, 0.72), (0.025, 0.14), (0.1, 0.88), (0.25, 0.98)])
def test_published_similarity_of_a_tenth_of_the_side(sigma: float, oks: float) -> None:
    area = 300.0**2
    found = object_similarity(
        np.full((1, 17), 30.0), np.zeros((1, 17)), np.full(17, (2 * sigma) ** 2), np.array([area])
    )
    assert round(float(found[0]), 2) == oks


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 133), st.booleans())
def test_similarities_have_the_bits_of_pycocotools(seed: int, k: int, grid: bool) -> None:
    case = make_oks_case(seed, 3, k, grid=grid)
    batch, evaluation = batch_of(case), evaluate_case(case)
    starts = [(counts.cumsum(0) - counts).numpy() for counts in (batch.num_detections, batch.num_targets)]
    for image, (found, labels) in enumerate(zip(case.preds, case.target, strict=True)):
        d, g = len(found["scores"]), len(labels["area"])
        if d * g == 0:
            continue
        order = np.argsort(-found["scores"], kind="stable")
        detection, target = np.meshgrid(
            starts[0][image] + order, starts[1][image] + np.arange(g), indexing="ij"
        )
        oks = instance_similarities(batch, case.sigmas, detection.ravel(), target.ravel())
        assert oks.reshape(d, g).tolist() == evaluation.ious[image + 1, 1].tolist()


def test_extent_leaves_missing_keypoints_out() -> None:
    points = np.array([[[1.0, 2.0], [4.0, 6.0], [np.nan, 50.0]], [[np.nan, np.nan]] * 3, [[5.0, 5.0]] * 3])
    assert spanned_area(points).tolist() == [12.0, 0.0, 0.0]


def test_the_most_similar_free_target_by_score() -> None:
    # OKS = exp(-d^2 / 50). The better detection takes the target at 0, 2 px off (0.923, not enough for 0.95),
    # so that the other, 1 px off (0.980), is left with the one at 5 (0.726) but for 0.95.
    matches = match_points([2.0, 1.0], [0.0, 5.0])
    assert matches.scores.tolist() == [0.02, 0.01]
    assert matches.matched[:, ALL].tolist() == [[True] * 9 + [False], [True] * 5 + [False] * 4 + [True]]
    assert matches.num_targets.tolist() == [[2, 2, 0]]
    # Where it finds none the second detection is wrong; it spans nothing, so only among all objects.
    assert not matches.ignored[:, ALL].any()
    assert matches.ignored[1, MEDIUM].tolist() == [False] * 5 + [True] * 4 + [False]
    assert matches.ignored[:, LARGE].all()


def test_detections_go_by_score_and_equal_ones_as_they_came() -> None:
    matches = match_points([3.0, 0.0, 1.0], [0.0], scores=[0.5, 0.5, 0.4])
    assert matches.matched[:, ALL, AT_50].tolist() == [True, False, False]
    matches = match_points([3.0, 0.0, 1.0], [0.0], scores=[0.5, 0.6, 0.6])
    assert matches.scores.tolist() == [0.6, 0.6, 0.5]
    assert matches.matched[:, ALL, -1].tolist() == [True, False, False]


def test_only_twenty_detections() -> None:
    matches = match_points([90.0] * 20 + [0.0] * 3, [0.0])
    assert len(matches.image) == 20
    assert not matches.matched.any()


def test_of_equal_targets_the_last() -> None:
    # Both are exact; the second is large, and taking it leaves the first, medium one to the second detection.
    matches = match_points([0.0, 0.0], [0.0, 0.0], areas=[2500.0, 10_000.0])
    assert matches.ignored[:, LARGE, AT_50].tolist() == [False, True]
    assert matches.matched[:, LARGE, AT_50].tolist() == [True, True]
    assert matches.ignored[:, MEDIUM, AT_50].tolist() == [False, True]
    first_free = match_points([0.0, 6.0], [0.0, 0.0], areas=[2500.0, 10_000.0])
    assert first_free.matched[1, ALL].sum() == 0  # exp(-36 / 50) = 0.487, what the large one leaves over
    assert match_points([0.0, 6.0], [0.0, 0.0], areas=[10_000.0, 2500.0]).matched[1, ALL].sum() == 7


def test_targets_that_count_come_before_ignored_ones() -> None:
    # The crowd is exact and the counted one 4 px off (0.726): it is taken all the same up to 0.70.
    matches = match_points([0.0], [0.0, 4.0], crowds=[1, 0])
    assert matches.matched[0, ALL].all()
    assert matches.ignored[0, ALL].tolist() == [False] * 5 + [True] * 5
    assert matches.num_targets.tolist() == [[1, 1, 0]]


def test_a_crowd_is_never_used_up() -> None:
    matches = match_points([0.0, 1.0, 2.0], [0.0], crowds=1)
    assert matches.ignored[:, ALL, AT_75].all()
    assert matches.matched[:, ALL, AT_75].all()
    once = match_points([0.0, 1.0, 2.0], [0.0], labelled=0)
    assert once.matched[:, ALL, AT_75].tolist() == [True, False, False]
    assert once.ignored[:, ALL, AT_75].tolist() == [True, False, False]
    assert once.num_targets.tolist() == [[0, 0, 0]]


def test_area_ranges_include_their_limits() -> None:
    areas = [32.0**2, 96.0**2, 1023.9, 1e10, 1e10 + 1e4]
    assert match_points([], [0.0] * 5, areas=areas).num_targets.tolist() == [[4, 2, 2]]


def test_an_exact_hit_is_enough_for_any_threshold() -> None:
    matches = match_points([0.0], [0.0], areas=0.0)
    assert matches.matched[0, ALL].all()
    assert not match_points([1e-6], [0.0], areas=0.0).matched.any()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_oks_case(2, 40, 6, most=7)
    whole = match_instances(batch_of(case), case.sigmas)
    monkeypatch.setattr(instance_matching, "PAIRS_AT_ONCE", 5)
    monkeypatch.setattr(instance_matching, "NUMBERS_AT_ONCE", 50)
    for part, expected in zip(match_instances(batch_of(case), case.sigmas), whole, strict=True):
        assert torch.equal(part, expected)


def test_no_images_and_no_instances() -> None:
    empty = match_instances(InstanceBatch.empty(3, torch.device("cpu")), [0.1] * 3)
    assert [tuple(part.shape) for part in empty] == [(0,), (0,), (0, 3, 10), (0, 3, 10), (0, 3)]
    assert match_points([], []).num_targets.tolist() == [[0, 0, 0]]
