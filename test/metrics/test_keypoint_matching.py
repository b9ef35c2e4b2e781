import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.average_precision import average_precision, counted_detections
from reference.keypoint_cases import cases, make_case

from keypoint_detection.metrics import KeypointAveragePrecision, keypoint_average_precision
from keypoint_detection.metrics.keypoint_matching import inside_regions, match_keypoints
from keypoint_detection.metrics.matching_rule import MatchingRule

PIXELS = [1.0, 2.0, 4.5]
OKS = [0.3, 0.5, 0.9]


def outcomes(preds, scores, target, limits, *, ignored=None, regions=None):
    """Match one image and channel given as lists; return a word for each detection and threshold."""
    sides = [torch.tensor(side, dtype=torch.float64)[None, None] for side in (preds, scores, target)]
    matches = match_keypoints(
        MatchingRule.create(1, limits, "distance", 0.1),
        *sides,
        torch.full((1, 1, len(target)), 2),
        ignored=None if ignored is None else torch.tensor(ignored)[None, None],
        regions=None if regions is None else torch.tensor(regions)[None],
    )
    assert not (matches.matched & matches.ignored).any()
    words = {(True, False): "true", (False, False): "false", (False, True): "out"}
    return [
        [words[pair] for pair in zip(*row, strict=True)]
        for row in zip(matches.matched.tolist(), matches.ignored.tolist(), strict=True)
    ], int(matches.num_targets)


def test_an_ignored_target_absorbs_one_detection() -> None:
    found, num_targets = outcomes([[0, 0], [1, 0]], [0.8, 0.9], [[0, 0]], [2], ignored=[True])
    assert found == [["false"], ["out"]]  # the better score first, although the other one is nearer
    assert num_targets == 0


def test_a_real_target_is_preferred_to_a_nearer_ignored_one() -> None:
    # The second detection is left with the ignored target, whatever the first stood nearer to.
    found, num_targets = outcomes(
        [[1, 0], [1, 0]], [0.9, 0.8], [[0, 0], [3, 0]], [0.5, 1.5, 2], ignored=[True, False]
    )
    assert found == [["false", "out", "true"], ["false", "false", "out"]]
    assert num_targets == 1


def test_an_ignored_target_takes_no_detection_from_a_real_one() -> None:
    # The better detection finds only the ignored target; the other one still finds the real one.
    found, _ = outcomes([[0, 0], [4, 0]], [0.9, 0.8], [[1, 0], [5, 0]], [2], ignored=[True, False])
    assert found == [["out"], ["true"]]


def test_a_detection_turns_to_the_next_free_ignored_target() -> None:
    found, _ = outcomes(
        [[0, 0], [0, 0], [0, 0]], [0.9, 0.8, 0.7], [[1, 0], [3, 0]], [2, 3], ignored=[True, True]
    )
    assert found == [["out", "out"], ["false", "out"], ["false", "false"]]


def test_a_region_absorbs_any_number() -> None:
    regions = [[10.0, 10.0, 5.0, 5.0], [torch.nan] * 4]
    preds = [[11, 11], [12, 14], [9.5, 14.5], [9.4, 12], [12, 14.6]]
    found, _ = outcomes(
        preds, [0.9, 0.8, 0.7, 0.6, 0.5], [[11, 12]], [0.5, 1], ignored=[False], regions=regions
    )
    assert found == [["out", "true"], ["out"] * 2, ["out"] * 2, ["false"] * 2, ["false"] * 2]


def test_a_detection_in_a_region_leaves_the_ignored_target_to_another() -> None:
    regions = [[0.0, 0.0, 2.0, 2.0]]
    found, _ = outcomes([[1, 1], [2, 1]], [0.9, 0.8], [[1.5, 1]], [1], ignored=[True], regions=regions)
    assert found == [["out"], ["out"]]


def test_ignored_detections_by_hand_in_the_curve() -> None:
    preds = torch.tensor([[[[0.0, 0.0], [9.0, 9.0], [5.0, 5.0]]]])
    scores, target = (
        torch.tensor([[[0.7, 0.9, 0.8]]]),
        torch.tensor([[[[0.0, 1.0], [9.0, 9.0], [torch.nan] * 2]]]),
    )
    visibility, ignored = torch.tensor([[[2, 1, 0]]]), torch.tensor([[[False, True, True]]])
    options = {"ignored": ignored, "regions": torch.tensor([[[4.0, 4.0, 2.0, 2.0]]])}
    assert keypoint_average_precision(preds, scores, target, visibility, [2])["ap"].tolist() == [
        [(1 + 2 / 3) / 2]
    ]
    assert keypoint_average_precision(preds, scores, target, visibility, [2], **options)["ap"].tolist() == [
        [1.0]
    ]


def test_a_channel_with_ignored_targets_alone_is_nan() -> None:
    point, one = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1)
    ap = keypoint_average_precision(point, one, point, one, [2], ignored=one > 0)
    assert ap["ap"].isnan().all()
    assert ap["map"].isnan()


@pytest.mark.parametrize("interpolation", ["all", "101"])
@pytest.mark.parametrize("similarity", ["distance", "oks"])
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_equals_slow_reference_bit_for_bit(interpolation: str, similarity: str, case) -> None:
    oks = similarity == "oks"
    thresholds, areas = (OKS, case.areas) if oks else (PIXELS, None)
    options = {
        "similarity": similarity,
        "scale": torch.from_numpy(case.areas),
        "interpolation": interpolation,
    }
    sigmas = torch.from_numpy(case.sigmas)
    found = keypoint_average_precision(
        *case.tensors(), thresholds, sigmas=sigmas, **options, **case.ignoring()
    )
    expected = average_precision(
        *case[:4],
        thresholds,
        areas=areas,
        sigma=case.sigmas,
        interpolation=interpolation,
        ignored=case.ignored,
        regions=case.regions,
    )
    np.testing.assert_array_equal(found["ap"].numpy(), expected)


@given(seed=st.integers(0, 10**6), k=st.integers(0, 7), m=st.integers(0, 7), grid=st.sampled_from([0, 3, 9]))
@settings(max_examples=60, deadline=None)
def test_every_group_equals_slow_reference(seed: int, k: int, m: int, grid: int) -> None:
    case = make_case(seed, (3, 2, k, m), grid=grid)
    case.visibility[:] = np.isfinite(case.target).all(-1)
    limits = [0.5, 2.0, 4.0, 100.0]
    matches = match_keypoints(
        MatchingRule.create(2, limits, "distance", 0.1), *case.tensors(), **case.ignoring()
    )
    ends = matches.num_detections.flatten().cumsum(0).reshape(3, 2)
    for image, channel in np.ndindex(3, 2):
        kept = np.isfinite(case.preds[image, channel]).all(-1)
        there = case.visibility[image, channel] > 0
        rows = slice(int(ends[image, channel]) - int(kept.sum()), int(ends[image, channel]))
        for column, limit in enumerate(limits):
            expected = counted_detections(
                case.preds[image, channel][kept].tolist(),
                case.scores[image, channel][kept].tolist(),
                case.target[image, channel][there].tolist(),
                case.ignored[image, channel][there].tolist(),
                -limit,
                boxes=case.regions[image][np.isfinite(case.regions[image]).all(-1)].tolist(),
            )
            parts = (matches.scores, matches.matched[:, column], matches.ignored[:, column])
            triples = zip(*(part[rows].tolist() for part in parts), strict=True)
            assert sorted((score, hit) for score, hit, out in triples if not out) == sorted(expected)


@given(case=cases(), seed=st.integers(0, 999), batch=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_order_and_batches_change_no_bit(case, seed: int, batch: int) -> None:
    assume(len(case.scores) > 0)
    shuffled = case.shuffled(seed)
    for similarity, thresholds in (("distance", PIXELS), ("oks", OKS)):
        metric = KeypointAveragePrecision(case.scores.shape[1], thresholds, similarity)
        metric.update(*case.tensors(), torch.from_numpy(case.areas), **keywords(case))
        together = metric.compute()["ap"]
        metric.reset()
        for start in range(0, len(case.scores), batch):
            part = type(shuffled)(*(array[start : start + batch] for array in shuffled))
            metric.update(*part.tensors(), torch.from_numpy(part.areas), **keywords(part))
        assert torch.equal(metric.compute()["ap"].nan_to_num(-1), together.nan_to_num(-1))


def keywords(case):
    return {**case.ignoring(), "sigmas": torch.from_numpy(case.sigmas)}


@pytest.mark.parametrize("similarity", ["distance", "oks"])
def test_nothing_ignored_changes_nothing(similarity: str) -> None:
    case = make_case(3, (5, 2, 6, 5))
    thresholds = OKS if similarity == "oks" else PIXELS
    rule = MatchingRule.create(2, thresholds, similarity, 0.3)
    scale = torch.from_numpy(case.areas)
    plain = match_keypoints(rule, *case.tensors(), scale=scale)
    empty = {
        "ignored": torch.zeros(case.ignored.shape, dtype=torch.bool),
        "regions": torch.full((5, 2, 4), torch.nan),
        "sigmas": torch.full(case.areas.shape, 0.3, dtype=torch.float64),
    }
    assert not plain.ignored.any()
    for before, after in zip(
        plain, match_keypoints(rule, *case.tensors(), scale=scale, **empty), strict=True
    ):
        assert torch.equal(before, after)


def test_sigmas_of_targets_by_hand() -> None:
    # Area 100: with sigma 0.1 the OKS at 2 px is exp(-4 / 8) = 0.607, with sigma 0.2 exp(-4 / 32) = 0.882.
    preds, target = torch.tensor([[[[2.0, 0.0], [52.0, 0.0]]]]), torch.tensor([[[[0.0, 0.0], [50.0, 0.0]]]])
    scores, visibility = torch.tensor([[[0.9, 0.8]]]), torch.full((1, 1, 2), 2)
    options = {"similarity": "oks", "scale": torch.full((1, 1, 2), 100.0)}
    sigmas = torch.tensor([[[0.1, 0.2]]], dtype=torch.float64)
    ap = keypoint_average_precision(
        preds, scores, target, visibility, [0.6, 0.8, 0.9], sigmas=sigmas, **options
    )
    assert ap["ap"].tolist() == [[1.0, 0.25, 0.0]]


def test_inside_regions_by_hand() -> None:
    points = torch.tensor([[[[-0.5, 3.5], [-0.6, 0.0]]], [[[2.0, 2.0], [torch.nan, torch.nan]]]])
    regions = torch.tensor([[[0.0, 0.0, 8.0, 4.0]], [[3.0, 3.0, 1.0, 1.0]]])
    assert inside_regions(points, regions).tolist() == [[[True, False]], [[False, False]]]
    both = torch.cat([regions, torch.tensor([[[torch.nan] * 4], [[2.5, 0.0, 0.0, 9.0]]])], dim=1)
    assert inside_regions(points, both).tolist() == [[[True, False]], [[True, False]]]
    assert not inside_regions(points, torch.zeros(2, 0, 4)).any()


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        (
            "ignored",
            torch.zeros(1, 1, 3, dtype=torch.bool),
            r"bool \[1, 1, 2\] like .*got torch.bool \[1, 1, 3\]",
        ),
        ("ignored", torch.zeros(1, 1, 2), "got torch.float32"),
        ("regions", torch.zeros(1, 4), r"expected regions \[1, r, 4\].*got \[1, 4\]"),
        ("regions", torch.zeros(2, 3, 4), r"got \[2, 3, 4\]"),
        ("regions", torch.zeros(1, 3, 2), r"got \[1, 3, 2\]"),
    ],
)
def test_keywords_that_do_not_fit(keyword: str, value, message: str) -> None:
    metric = KeypointAveragePrecision(1, [2])
    points, ones = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2)
    with pytest.raises(ValueError, match=message) as error:
        metric.update(points, ones, points, ones, **{keyword: value})
    assert "\n" not in str(error.value)
