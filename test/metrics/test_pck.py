import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.keypoint_cases import cases, make_case
from reference.keypoint_errors import correct_share, error_rows, pck_area
from torchmetrics import MetricCollection

from keypoint_detection.metrics.pck import (
    PercentageOfCorrectKeypoints,
    box_diagonal,
    percentage_of_correct_keypoints,
)

NAN = torch.nan


def face():
    """Two faces of four points: 3, 0, 1, 4 px and 0, 2, 1, 6 px off; the first two 10 and 20 px apart."""
    target = torch.tensor(
        [
            [[[0.0, 0.0]], [[6.0, 8.0]], [[50.0, 0.0]], [[0.0, 50.0]]],
            [[[0.0, 0.0]], [[20.0, 0.0]], [[50.0, 0.0]], [[0.0, 50.0]]],
        ]
    )
    off = torch.tensor([[3.0, 0.0, 1.0, 4.0], [0.0, 2.0, 1.0, 6.0]])
    preds = target.clone()
    preds[..., 0, 0] += off
    return preds, torch.full((2, 4, 1), 0.5), target, torch.full((2, 4, 1), 2)


def plain(values: dict) -> dict[str, list]:
    return {key: torch.as_tensor(value).nan_to_num(-1).tolist() for key, value in values.items()}


def test_distance_of_two_reference_points_by_hand() -> None:
    # Below 0.2 x 10 px: 0 and 1 of (3, 0, 1, 4). Below 0.2 x 20 px: 0, 2 and 1 of (0, 2, 1, 6).
    pck = percentage_of_correct_keypoints(*face(), 0.2, normalizer=(0, 1))
    assert pck["pck"].tolist() == [5 / 8]
    assert pck["per_channel"].tolist() == [[0.5], [1.0], [1.0], [0.0]]
    assert (pck["count"], pck["missed"], pck["undefined"]) == (8, 0, 0)
    per_image = [
        float(percentage_of_correct_keypoints(*(t[i : i + 1] for t in face()), 0.2, normalizer=(0, 1))["pck"])
        for i in range(2)
    ]
    assert per_image == [0.5, 0.75]
    assert sum(per_image) / 2 == 5 / 8  # the mean over images is the pooled share where all have all points


def test_limit_itself_is_wrong() -> None:
    # 4 px at a limit of 0.25 x 16 px: strictly below is correct.
    preds, scores, target, visibility = (part[:1, 3:] for part in face())
    for alpha, expected in ((0.25, 0.0), (0.2500001, 1.0)):
        pck = percentage_of_correct_keypoints(
            preds, scores, target, visibility, alpha, scale=torch.tensor([16.0])
        )
        assert pck["pck"].tolist() == [expected]
    pixels = percentage_of_correct_keypoints(*face(), [1, 4, 6.5], normalizer="pixels")
    assert pixels["pck"].tolist() == [2 / 8, 6 / 8, 1.0]


def test_area_by_hand() -> None:
    pck = percentage_of_correct_keypoints(*face(), [2, 4], normalizer="pixels")
    # 1 - d / 4 of (3, 0, 1, 4) and (0, 2, 1, 6)
    assert float(pck["auc"]) == (0.25 + 1 + 0.75 + 0 + 1 + 0.5 + 0.75 + 0) / 8
    assert pck["auc_per_channel"].tolist() == [0.625, 0.75, 0.75, 0.0]


def test_missing_detections_are_wrong_and_missing_lengths_left_out() -> None:
    preds, scores, target, visibility = face()
    preds[0, 2:] = NAN
    visibility[1, 1] = 0
    pck = percentage_of_correct_keypoints(preds, scores, target, visibility, 0.2, normalizer=(0, 1))
    assert (pck["count"], pck["missed"], pck["undefined"]) == (2, 2, 3)
    assert pck["pck"].tolist() == [0.25]
    assert pck["per_channel"].tolist() == [[0.0], [1.0], [0.0], [0.0]]
    lengths = torch.tensor([0.0, NAN])
    nothing = percentage_of_correct_keypoints(preds, scores, target, visibility, [0.2, 1], scale=lengths)
    assert plain(nothing)["pck"] == [-1.0, -1.0]
    assert (nothing["count"], nothing["missed"], nothing["undefined"]) == (0, 0, 7)
    assert math.isnan(nothing["auc"])


def test_visible_only_ignores_the_others() -> None:
    preds, scores, target, visibility = face()
    visibility[:, 0], visibility[1, 3] = 1, 1
    pck = percentage_of_correct_keypoints(
        preds, scores, target, visibility, 0.2, normalizer=(0, 1), visible_only=True
    )
    # Occluded points still tell the length.
    assert (pck["count"], pck["undefined"]) == (5, 0)
    assert pck["pck"].tolist() == [4 / 5]
    assert bool(pck["per_channel"][0].isnan())
    ignored = torch.zeros_like(visibility, dtype=torch.bool)
    ignored[0, 3] = True
    both = percentage_of_correct_keypoints(
        preds, scores, target, visibility, 0.2, normalizer=(0, 1), visible_only=True, ignored=ignored
    )
    assert (both["count"], both["pck"].tolist()) == (4, [1.0])


def test_ignored_target_takes_its_detection_in_a_channel_of_several() -> None:
    preds, scores = torch.tensor([[[[9.0, 0.0], [1.0, 0.0]]]]), torch.tensor([[[0.9, 0.8]]])
    target, visibility = torch.tensor([[[[0.0, 0.0], [9.0, 0.0]]]]), torch.tensor([[[2, 1]]])
    arguments = preds, scores, target, visibility, 2.0
    visible = percentage_of_correct_keypoints(*arguments, normalizer="pixels", visible_only=True)
    assert (visible["count"], visible["pck"].tolist()) == (1, [1.0])
    marked = percentage_of_correct_keypoints(*arguments, normalizer="pixels", ignored=visibility == 1)
    assert plain(marked) == plain(visible)


def drawn(case, seed: int):
    rng = np.random.default_rng(seed)
    return (
        rng.random(case.visibility.shape) < 0.3,
        rng.choice([np.nan, 0.0, 2.0, 3.0, 5.5], case.visibility.shape),
    )


@given(case=cases(grid=0, score_levels=0), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_equals_slow_reference(case, seed: int) -> None:
    ignored, lengths = drawn(case, seed)
    alphas = [0.5, 1.0, 4.0]
    pck = percentage_of_correct_keypoints(
        *case.tensors(), alphas, scale=torch.from_numpy(lengths), ignored=torch.from_numpy(ignored)
    )
    rows = error_rows(*case[:4], ignored=ignored, length=lengths)
    shares = [pck["pck"].tolist(), *pck["per_channel"].tolist()]
    for column, found in enumerate(shares):
        some = [row for row in rows if column in (0, row[1] + 1)]
        assert found == pytest.approx([correct_share(some, alpha) for alpha in alphas], nan_ok=True)
    with_length = [row for row in rows if not math.isnan(row[3])]
    missed = sum(math.isnan(row[2]) for row in with_length)
    assert (pck["count"], pck["missed"]) == (len(with_length) - missed, missed)
    assert pck["undefined"] == len(rows) - len(with_length)


def test_area_is_that_below_the_curve() -> None:
    case = make_case(5, (5, 2, 3, 3), grid=0)
    _, lengths = drawn(case, 5)
    pck = percentage_of_correct_keypoints(*case.tensors(), [2.0, 1.0], scale=torch.from_numpy(lengths))
    rows = error_rows(*case[:4], length=lengths)
    assert float(pck["auc"]) == pytest.approx(pck_area(rows, 2.0), abs=1e-4)
    for channel, area in enumerate(pck["auc_per_channel"].tolist()):
        assert area == pytest.approx(pck_area([row for row in rows if row[1] == channel], 2.0), abs=1e-4)


@given(case=cases(), seed=st.integers(0, 999), batch=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_batches_and_order_change_no_bit(case, seed: int, batch: int) -> None:
    assume(len(case.scores) > 0)
    ignored, lengths = drawn(case, seed)
    marked = case._replace(areas=np.where(ignored, -1, 1) * (np.nan_to_num(lengths) + 1))
    shuffled = marked.shuffled(seed)
    metric = PercentageOfCorrectKeypoints([0.5, 1, 2])
    areas = torch.from_numpy(shuffled.areas)
    for *part, area in zip(*(tensor.split(batch) for tensor in (*shuffled.tensors(), areas)), strict=True):
        metric.update(*part, area.abs() - 1, ignored=area < 0)
    scale = torch.from_numpy(np.nan_to_num(lengths))
    together = percentage_of_correct_keypoints(
        *case.tensors(), [0.5, 1, 2], scale=scale, ignored=torch.from_numpy(ignored)
    )
    assert plain(metric.compute()) == plain(together)


@given(case=cases(), alpha=st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_grows_with_alpha_and_area_is_no_greater_than_the_last(case, alpha: float) -> None:
    values = percentage_of_correct_keypoints(*case.tensors(), [alpha / 2, alpha], normalizer="pixels")
    if values["count"] + values["missed"] == 0:
        assert bool(values["pck"].isnan().all())
        return
    low, high = values["pck"].tolist()
    assert 0 <= low <= high <= 1
    assert float(values["auc"]) <= high + 1e-12


def test_named_lengths_are_what_the_update_brings() -> None:
    boxes = torch.tensor([[0.0, 0.0, 6.0, 8.0], [5.0, 5.0, 12.0, 16.0]])
    expected = percentage_of_correct_keypoints(*face(), 0.2, normalizer=(0, 1))
    for name in ("scale", "box_diagonal", "head_size", "box_side", "image_diagonal"):
        metric = PercentageOfCorrectKeypoints(0.2, name)
        metric.update(*face(), box_diagonal(boxes))
        assert plain(metric.compute()) == plain(expected)


def test_an_image_without_labels_needs_no_reference_points() -> None:
    preds, scores, target, visibility = face()
    empty = target[:, :, :0], visibility[:, :, :0]
    pck = percentage_of_correct_keypoints(preds, scores, *empty, 0.2, normalizer=(0, 1))
    assert (pck["count"], pck["missed"], pck["undefined"]) == (0, 0, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_input_is_computed_in_float64(dtype: torch.dtype) -> None:
    preds, scores, target, visibility = face()
    metric = PercentageOfCorrectKeypoints([0.2, 0.5], (0, 1))
    torch.nn.ModuleDict({"metric": metric}).half()
    metric.update(preds.to(dtype), scores.to(dtype), target.to(dtype), visibility)
    assert metric.compute()["pck"].dtype == torch.float64
    expected = percentage_of_correct_keypoints(*face(), [0.2, 0.5], normalizer=(0, 1))
    assert plain(metric.compute()) == plain(expected)


def test_tables_of_one_entry_keep_their_axes() -> None:
    metric = PercentageOfCorrectKeypoints(2.0, "pixels")
    one = [part[:, 1:2] for part in face()]
    metric.update(*one)
    values = metric.compute()
    assert (values["pck"].shape, values["per_channel"].shape) == ((1,), (1, 1))
    assert (values["auc_per_channel"].shape, values["auc"].shape) == ((1,), ())


def test_before_the_first_update_everything_is_undefined() -> None:
    values = PercentageOfCorrectKeypoints([1, 2], "pixels").compute()
    assert plain(values)["pck"] == [-1.0, -1.0]
    assert (values["per_channel"].shape, values["count"]) == ((0, 2), 0)


def test_pickle_reset_and_forward() -> None:
    expected = plain(percentage_of_correct_keypoints(*face(), 0.2, normalizer=(0, 1)))
    halves = [[part[rows] for part in face()] for rows in (slice(0, 1), slice(1, 2))]
    metric = PercentageOfCorrectKeypoints(0.2, (0, 1))
    with torch.inference_mode():
        metric.update(*halves[1])
    metric.reset()
    assert metric(*halves[0])["pck"].tolist() == [0.5]
    copy = pickle.loads(pickle.dumps(metric))
    assert copy(*halves[1])["pck"].tolist() == [0.75]
    assert plain(copy.compute()) == expected
    assert metric.compute()["pck"].tolist() == [0.5]


def test_collection_shares_no_state_between_different_definitions() -> None:
    metrics = {
        "near": PercentageOfCorrectKeypoints(1.5, "pixels"),
        "far": PercentageOfCorrectKeypoints(3.5, "pixels"),
        "eyes": PercentageOfCorrectKeypoints(1.5, (0, 1)),
        "mouth": PercentageOfCorrectKeypoints(1.5, (2, 3)),
    }
    collection = MetricCollection(metrics)
    collection.update(*(part[:0] for part in face()))
    collection.update(*face())
    assert len(collection.compute_groups) == 4
    values = collection.compute()
    found = [float(values[f"{name}_pck"]) for name in metrics]
    assert found == [4 / 8, 6 / 8, 1.0, 1.0]


def test_wrong_definitions() -> None:
    for alpha in (0, -1.0, math.inf, math.nan, [], [0.1, 0]):
        with pytest.raises(ValueError, match="at least one finite alpha > 0"):
            PercentageOfCorrectKeypoints(alpha)
    for normalizer in ("head", (0, 0), (0, 1, 2), (-1, 0), ("eye", "lip"), None):
        with pytest.raises(ValueError, match="expected a normalizer of pixels, scale, head_size"):
            PercentageOfCorrectKeypoints(0.1, normalizer)


def test_wrong_updates() -> None:
    with pytest.raises(ValueError, match=r"'box_side' needs scale, the length in pixels per image \[2\]"):
        PercentageOfCorrectKeypoints(0.1, "box_side").update(*face())
    with pytest.raises(ValueError, match=r"reference channels below 4, got \(0, 4\)"):
        PercentageOfCorrectKeypoints(0.1, (0, 4)).update(*face())
    with pytest.raises(ValueError, match=r"ignored to be bool and shaped as visibility \[2, 4, 1\]"):
        PercentageOfCorrectKeypoints(0.1, "pixels", visible_only=True).update(
            *face(), ignored=torch.zeros(1, dtype=torch.bool)
        )
    preds, scores, target, visibility = face()
    two = target.repeat(1, 1, 2, 1), visibility.repeat(1, 1, 2)
    with pytest.raises(ValueError, match=r"one labelled point per image in the reference channels \(0, 1\)"):
        PercentageOfCorrectKeypoints(0.1, (0, 1)).update(preds, scores, *two)
    metric = PercentageOfCorrectKeypoints(0.1, "pixels")
    metric.update(*face())
    metric.update(*(part[:, :3] for part in face()))
    with pytest.raises(ValueError, match=r"same number of channels in every update, got \[3, 4\]"):
        metric.compute()
