import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.keypoint_cases import cases, make_case
from reference.keypoint_errors import correct_share, error_rows, image_rmse, mean_of, pck_area

from keypoint_detection.metrics.error_statistics import error_statistics
from keypoint_detection.metrics.keypoint_errors import (
    OWN_IMAGE,
    KeypointErrors,
    KeypointErrorTable,
    closeness,
    keypoint_errors,
)
from keypoint_detection.metrics.rmse import keypoint_rmse

NAN = torch.nan
NAMES = ["mean_error_px", "rmse_px", "image_rmse_px", "missed", "nme", "pck@0.5", "pck@1", "pck_auc@1"]


def example():
    """Two images, two channels: 5 px and a miss, then 2 px of an undefined length and an absent target."""
    preds = torch.tensor([[[[3.0, 4.0]], [[NAN, NAN]]], [[[0.0, 2.0]], [[7.0, 7.0]]]])
    visibility = torch.tensor([[[2], [1]], [[2], [0]]])
    length = torch.tensor([[[8.0], [8.0]], [[0.0], [8.0]]])
    return (preds, torch.full((2, 2, 1), 0.5), torch.zeros(2, 2, 1, 2), visibility), length


def drawn(case, seed: int):
    """Return random ignored flags and lengths, some of them undefined, for a case."""
    rng = np.random.default_rng(seed)
    ignored = rng.random(case.visibility.shape) < 0.3
    lengths = rng.choice([np.nan, 0.0, np.inf, 2.0, 3.0, 5.5], case.visibility.shape)
    return ignored, lengths


def numbers(errors: KeypointErrors, alphas=(0.5, 1.0)) -> dict[str, list[float]]:
    """Return the value of every statistic by the name of its first column."""
    names = [f"channel {index}" for index in range(errors.num_targets.shape[1])]
    return {s.columns[0]: s.value().tolist() for s in error_statistics(errors, names, alphas)}


def test_by_hand() -> None:
    arguments, length = example()
    errors = keypoint_errors(*arguments, length=length)
    assert errors.distance.nan_to_num(-1).tolist() == [5.0, -1.0, 2.0]
    assert errors.length.nan_to_num(-1).tolist() == [8.0, 8.0, -1.0]
    assert errors.num_targets.tolist() == [[1, 1], [1, 0]]
    assert errors.distance.dtype == errors.length.dtype == torch.float64
    assert keypoint_errors(*arguments).length.tolist() == [1.0, 1.0, 1.0]
    per_image = keypoint_errors(*arguments, length=torch.tensor([4.0, 6.0]))
    assert per_image.length.tolist() == [4.0, 4.0, 6.0]


def test_statistics_by_hand() -> None:
    arguments, length = example()
    values = numbers(keypoint_errors(*arguments, length=length))
    assert list(values) == NAMES
    assert values["mean_error_px"][:2] == [3.5, 3.5]
    assert math.isnan(values["mean_error_px"][2])
    assert values["rmse_px"][0] == math.sqrt((25 + 4) / 2)
    assert values["image_rmse_px"][:2] == [3.5, 3.5]
    assert values["missed"] == [1.0, 0.0, 1.0]
    assert values["nme"][:2] == [5 / 8, 5 / 8]
    assert values["pck@0.5"] == [0.0, 0.0, 0.0]
    assert values["pck@1"] == [0.5, 1.0, 0.0]  # the miss is wrong, the undefined one left out
    assert values["pck_auc@1"] == [0.1875, 0.375, 0.0]


def test_columns_are_named_after_channels_and_shapes_fit() -> None:
    arguments, length = example()
    statistics = error_statistics(keypoint_errors(*arguments, length=length), ["eye", "lip"], [0.05])
    assert statistics[0].columns == ("mean_error_px", "eye/mean_error_px", "lip/mean_error_px")
    assert [s.columns[0] for s in statistics][-2:] == ["pck@0.05", "pck_auc@0.05"]
    assert {s.numerator.shape for s in statistics} == {(2, 3)}
    weights = torch.tensor([[1, 1], [0, 3]])
    for statistic in statistics:
        weighted = statistic(weights)
        torch.testing.assert_close(weighted[0], statistic.value(), equal_nan=True)
        assert bool(statistic.numerator.isfinite().all())
    assert statistics[0](weights)[1, 0] == 2.0  # the second image alone


def test_without_alphas_there_is_no_relative_number() -> None:
    arguments, _ = example()
    assert list(numbers(keypoint_errors(*arguments), alphas=())) == NAMES[:4]
    with pytest.raises(ValueError, match="one name for each of 2 channels, got 1"):
        error_statistics(keypoint_errors(*arguments), ["eye"], [])


def test_ignored_targets_take_their_detection_and_do_not_count() -> None:
    # The better detection is on the excluded point; without it the target would get that one, 9 px off.
    preds, scores = torch.tensor([[[[9.0, 0.0], [1.0, 0.0]]]]), torch.tensor([[[0.9, 0.8]]])
    target, visibility = torch.tensor([[[[0.0, 0.0], [9.0, 0.0]]]]), torch.tensor([[[2, 1]]])
    ignored = torch.tensor([[[False, True]]])
    errors = keypoint_errors(preds, scores, target, visibility, ignored=ignored)
    assert (errors.distance.tolist(), errors.num_targets.tolist()) == ([1.0], [[1]])
    assert keypoint_errors(preds, scores, target[:, :, :1], visibility[:, :, :1]).distance.tolist() == [9.0]
    alone = keypoint_errors(preds[:, :, 1:] * NAN, scores[:, :, 1:], target, visibility, ignored=ignored)
    assert alone.distance.isnan().tolist() == [True]  # one miss: that of the ignored one is not counted


@given(case=cases(grid=0, score_levels=0), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_equals_slow_reference(case, seed: int) -> None:
    ignored, lengths = drawn(case, seed)
    tensors, extra = case.tensors(), (torch.from_numpy(ignored), torch.from_numpy(lengths))
    errors = keypoint_errors(*tensors, ignored=extra[0], length=extra[1])
    rows = error_rows(*case[:4], ignored=ignored, length=lengths)
    assert errors.distance.tolist() == pytest.approx([row[2] for row in rows], abs=1e-12, nan_ok=True)
    assert errors.length.tolist() == pytest.approx([row[3] for row in rows], nan_ok=True)
    counts = np.zeros(case.scores.shape[:2], dtype=int)
    for image, channel, *_ in rows:
        counts[image, channel] += 1
    assert errors.num_targets.tolist() == counts.tolist()
    values = numbers(errors)
    for column in range(1 + counts.shape[1]):
        some = [row for row in rows if column in (0, row[1] + 1)]
        found = [row[2] for row in some if not math.isnan(row[2])]
        expected = {
            "mean_error_px": mean_of(found),
            "rmse_px": math.sqrt(mean_of(d * d for d in found)) if found else math.nan,
            "image_rmse_px": image_rmse(some),
            "missed": len(some) - len(found),
            "nme": mean_of(row[2] / row[3] for row in some if not math.isnan(row[2] / row[3])),
            "pck@0.5": correct_share(some, 0.5),
            "pck@1": correct_share(some, 1.0),
        }
        for name, value in expected.items():
            assert values[name][column] == pytest.approx(value, rel=1e-11, abs=1e-11, nan_ok=True), name


def test_area_is_that_below_the_curve() -> None:
    case = make_case(5, (5, 2, 3, 3), grid=0)
    _, lengths = drawn(case, 5)
    errors = keypoint_errors(*case.tensors(), length=torch.from_numpy(lengths))
    area = numbers(errors, [1.0, 2.0])["pck_auc@2"][0]
    assert area == pytest.approx(pck_area(error_rows(*case[:4], length=lengths), 2.0), abs=1e-4)
    assert 0.1 < area < 0.9


@given(case=cases(), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_order_changes_no_bit(case, seed: int) -> None:
    # Points of a small grid: targets as far from a detection as others, of which only some are ignored.
    ignored, lengths = drawn(case, seed)
    marked = case._replace(areas=np.where(ignored, -1, 1) * (np.nan_to_num(lengths, posinf=0.0) + 1))
    shuffled = marked.shuffled(seed)
    values = []
    for one in (marked, shuffled):
        extra = {"ignored": one.areas < 0, "length": np.abs(one.areas) - 1}
        tensors = {name: torch.from_numpy(array) for name, array in extra.items()}
        values.append(repr(numbers(keypoint_errors(*one.tensors(), **tensors))))
    assert values[0] == values[1]


@given(case=cases(), batch=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_table_of_batches_is_the_table_of_all(case, batch: int) -> None:
    table = KeypointErrorTable(case.scores.shape[1])
    for part in zip(*(tensor.split(batch) for tensor in case.tensors()), strict=True):
        table.update(*part)
    together = keypoint_errors(*case.tensors())
    for found in (table.errors(), table.compute()):
        assert found.image is not None
        assert found.image.tolist() == [OWN_IMAGE] * len(case.scores)
        for ours, theirs in zip(found[:3], together[:3], strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            assert torch.equal(ours.nan_to_num(-1), theirs.nan_to_num(-1))


def test_one_target_keeps_its_axes_and_a_table_without_images_is_empty() -> None:
    table = KeypointErrorTable(1)
    one = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1), torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1)
    table.update(*one)
    assert [list(part.shape) for part in table.compute()[:3]] == [[1], [1], [1, 1]]
    table.reset()
    assert [list(part.shape) for part in table.compute()[:3]] == [[0], [0], [0, 1]]
    assert math.isnan(numbers(table.errors())["pck@1"][0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_input_is_computed_in_float64(dtype: torch.dtype) -> None:
    (preds, scores, target, visibility), length = example()
    arguments = preds.to(dtype), scores.to(dtype), target.to(dtype), visibility
    errors = keypoint_errors(*arguments, length=length.to(dtype))
    assert errors.distance.dtype == errors.length.dtype == torch.float64
    assert errors.distance.nan_to_num(-1).tolist() == [5.0, -1.0, 2.0]


def test_image_rmse_is_that_of_the_metric() -> None:
    case = make_case(2, (6, 2, 4, 3), grid=0)
    values, rmse = numbers(keypoint_errors(*case.tensors()), ()), keypoint_rmse(*case.tensors())
    assert values["image_rmse_px"][0] == pytest.approx(float(rmse["image_value"]), rel=1e-12)
    assert values["rmse_px"] == pytest.approx(
        [float(rmse["value"]), *rmse["per_channel"].tolist()], rel=1e-12
    )


def test_closeness_by_hand() -> None:
    distance, length = (
        torch.tensor([0.0, 1.0, 4.0, 9.0, NAN, 1.0]),
        torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, NAN]),
    )
    assert closeness(distance, length, 2.0).tolist() == [1.0, 0.75, 0.0, 0.0, 0.0, 0.0]


def test_wrong_arguments() -> None:
    arguments, length = example()
    with pytest.raises(ValueError, match=r"per image \[2\] or per target \[2, 2, 1\], got \[2, 2\]"):
        keypoint_errors(*arguments, length=length[..., 0])
    with pytest.raises(ValueError, match=r"ignored to be bool and shaped as visibility \[2, 2, 1\], got"):
        keypoint_errors(*arguments, ignored=torch.zeros(2, 2, 1))
    with pytest.raises(ValueError, match=r"ignored to be bool and shaped as visibility \[2, 2, 1\], got"):
        keypoint_errors(*arguments, ignored=torch.zeros(2, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected preds \[n, 3, k, 2\], got \[2, 2, 1, 2\]"):
        KeypointErrorTable(3).update(*arguments)
    with pytest.raises(ValueError, match="num_channels >= 1"):
        KeypointErrorTable(0)
    tiny = keypoint_errors(*arguments, length=length * 1e-20)
    with pytest.raises(ValueError, match=r"below 2\^40 lengths, got 5 px and a length of 8e-20 px"):
        numbers(tiny)


def test_an_image_of_several_samples_is_one_image() -> None:
    # Three crops: distances 3 and 4 in image 7, 5 in image 2; the third crop of image 7 has no pair.
    preds = torch.tensor([3.0, 5.0, 4.0, NAN])[:, None, None, None] * torch.tensor([1.0, 0.0])
    table = KeypointErrorTable(1)
    points = (preds, torch.ones(4, 1, 1), torch.zeros(4, 1, 1, 2), torch.full((4, 1, 1), 2))
    table.update(*points, image=torch.tensor([7, 2, 7, 7]))
    (rmse,) = [s for s in error_statistics(table.compute(), ["eye"], []) if "image_rmse_px" in s.columns]
    of_seven = math.sqrt((9 + 16) / 2)
    assert rmse.value().tolist() == pytest.approx([(of_seven + 5) / 2] * 2)
    weighted = rmse(torch.tensor([[3, 1, 3, 3]]))  # image 7 drawn three times
    assert weighted[0].tolist() == pytest.approx([(3 * of_seven + 5) / 4] * 2)
    apart = KeypointErrorTable(1)
    apart.update(*points)
    assert numbers(apart.compute(), ())["image_rmse_px"][0] == pytest.approx(4.0)
    with pytest.raises(ValueError, match="an image id for each of 4 samples"):
        table.update(*points, image=torch.tensor([7, 2]))
