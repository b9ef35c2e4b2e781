import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from keypoint_detection.metrics import gaze_auc as module
from keypoint_detection.metrics.gaze_auc import GazeAUC, gaze_auc

NAN = math.nan


def resized(one_map: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Return a map at the size of a picture, by torch."""
    return torch.nn.functional.interpolate(
        one_map[None, None].double(), image_hw, mode="bilinear", align_corners=False
    )[0, 0]


def positive_pixels(gaze: Tensor, image_hw: tuple[int, int]) -> np.ndarray:
    """Return which pixels hold an annotator, one after another."""
    labels = np.zeros(image_hw, np.int64)
    for x, y in gaze.tolist():
        if math.isfinite(x):
            row = min(max(math.floor(y + 0.5), 0), image_hw[0] - 1)
            labels[row, min(max(math.floor(x + 0.5), 0), image_hw[1] - 1)] = 1
    return labels


def slow_auc(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the area by average ranks (Mann and Whitney)."""
    ranks, positive = rankdata(values.ravel()), labels.ravel() == 1
    count = positive.sum()
    wins = ranks[positive].sum() - count * (count + 1) / 2
    return float(wins / (count * (labels.size - count)))


def people(n: int = 6, seed: int = 0) -> tuple[Tensor, ...]:
    """Return maps that are partly flat, annotators, sizes of pictures, and who is inside."""
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(n, 16, 16, generator=generator) - 0.4).clamp(0, 0.5)
    size = torch.tensor([[40, 60], [37, 23], [64, 48], [40, 60], [5, 9], [16, 16]])[:n]
    gaze = torch.rand(n, 4, 2, generator=generator) * size.flip(1)[:, None] - 0.5
    gaze[1, 2:], gaze[2, 0] = NAN, NAN
    return maps, gaze, size, torch.ones(n)


def test_equals_the_slow_reference_and_torchmetrics() -> None:
    maps, gaze, size, inside = people()
    found = gaze_auc(maps, gaze, size, inside)
    for person, area in enumerate(found.tolist()):
        image_hw = (int(size[person, 0]), int(size[person, 1]))
        full, labels = resized(maps[person], image_hw), positive_pixels(gaze[person], image_hw)
        rounded = (full * 2**40).round()  # torch's weights break ties of equal pixels by their rounding
        assert area == pytest.approx(slow_auc(rounded.numpy(), labels), abs=1e-9)
        referee = binary_auroc(full.flatten().round(decimals=12), torch.from_numpy(labels).flatten())
        assert area == pytest.approx(float(referee), abs=1e-5)  # it counts in float32


def test_equals_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    maps, gaze, size, inside = people()
    for person, area in enumerate(gaze_auc(maps, gaze, size, inside).tolist()):
        image_hw = (int(size[person, 0]), int(size[person, 1]))
        values = (resized(maps[person], image_hw) * 2**40).round().flatten().numpy()
        labels = positive_pixels(gaze[person], image_hw).ravel()
        assert area == pytest.approx(metrics.roc_auc_score(labels, values), abs=1e-9)


def exact_map(small: list[list[int]], image_hw: tuple[int, int]) -> list[list[Fraction]]:
    """Return a map resized with fractions, without any rounding."""

    def place(pixel: int, size: int, count: int) -> tuple[int, int, Fraction]:
        at = Fraction((2 * pixel + 1) * count, 2 * size) - Fraction(1, 2)
        at = min(max(at, Fraction(0)), Fraction(count - 1))
        before = min(math.floor(at), max(count - 2, 0))
        return before, min(before + 1, count - 1), at - before

    rows = []
    for y in range(image_hw[0]):
        top, bottom, down = place(y, image_hw[0], len(small))
        row = []
        for x in range(image_hw[1]):
            left, right, along = place(x, image_hw[1], len(small[0]))
            one = small[top][left] * (1 - down) + small[bottom][left] * down
            other = small[top][right] * (1 - down) + small[bottom][right] * down
            row.append(one * (1 - along) + other * along)
        rows.append(row)
    return rows


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_ties_are_exact(data: st.DataObject) -> None:
    map_h, map_w = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    image_hw = (map_h * data.draw(st.sampled_from([1, 2, 4])), map_w * data.draw(st.sampled_from([1, 2, 4])))
    row = st.lists(st.integers(0, 2), min_size=map_w, max_size=map_w)
    small = data.draw(st.lists(row, min_size=map_h, max_size=map_h))
    points = data.draw(
        st.lists(
            st.tuples(st.integers(0, image_hw[1] - 1), st.integers(0, image_hw[0] - 1)),
            min_size=1,
            max_size=4,
        )
    )
    found = float(
        gaze_auc(
            torch.tensor([small]).float(),
            torch.tensor([points]).float(),
            torch.tensor([image_hw]),
            torch.ones(1),
        )
    )
    full = exact_map(small, image_hw)
    chosen = {(x, y) for x, y in points}
    others = [full[y][x] for y in range(image_hw[0]) for x in range(image_hw[1]) if (x, y) not in chosen]
    wins = sum(2 * (full[y][x] > other) + (full[y][x] == other) for x, y in chosen for other in others)
    if not others:
        assert math.isnan(found)
    else:
        assert found == wins / (2 * len(chosen) * len(others))


def test_a_flat_map_is_chance_at_any_size() -> None:
    gaze = torch.tensor([[[3.0, 4.0], [10.0, 2.0]]])
    for value in (0.0, 0.1, 0.7):
        for image_hw in ((7, 13), (300, 17), (64, 640)):
            maps = torch.full((1, 64, 64), value)
            assert float(gaze_auc(maps, gaze, torch.tensor([image_hw]), torch.ones(1))) == 0.5


def test_the_best_and_the_worst_pixel() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[0, 2, 5], maps[1] = 1, 1
    maps[1, 2, 5] = 0
    gaze, size = torch.tensor([[[5.0, 2.0]]]).expand(2, 1, 2), torch.tensor([[8, 8], [8, 8]])
    assert gaze_auc(maps, gaze, size, torch.ones(2)).tolist() == [1.0, 0.0]


def test_annotators_in_one_pixel_count_once_and_those_beyond_the_border_at_it() -> None:
    maps, inside = people()[0][:1], torch.ones(1)
    size = torch.tensor([[20, 30]])
    once = gaze_auc(maps, torch.tensor([[[4.0, 6.0], [29.0, 19.0]]]), size, inside)
    points = torch.tensor([[[3.6, 6.4], [4.4, 5.6], [29.5, 19.5], [40.0, 90.0], [NAN, NAN]]])
    assert torch.equal(gaze_auc(maps, points, size, inside), once)


def test_who_does_not_count_is_nan() -> None:
    maps, gaze, size, _ = people()
    in_frame = torch.tensor([1.0, 0.0, NAN, -1.0, 1.0, 1.0])
    gaze[4] = NAN
    maps[1] = NAN  # outside: nobody looks at it
    found = gaze_auc(maps, gaze, size, in_frame)
    assert found.isnan().tolist() == [False, True, True, True, True, False]
    assert gaze_auc(maps[:0], gaze[:0], size[:0], in_frame[:0]).shape == (0,)
    assert gaze_auc(maps[:1], gaze[:1, :0], size[:1], in_frame[:1]).isnan().all()
    alone = gaze_auc(maps[:1], torch.zeros(1, 1, 2), torch.tensor([[1, 1]]), torch.ones(1))
    assert alone.isnan().all()  # no negative


@pytest.mark.parametrize("at_once", [1, 70, 1000])
def test_memory_is_bounded_and_changes_no_bit(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = people()
    expected, seen = gaze_auc(*parts), []
    plain = module._resized_rows

    def recorded(lines: Tensor, width: int) -> Tensor:
        pixels = plain(lines, width)
        seen.append(pixels.numel() / max(at_once, width))
        return pixels

    monkeypatch.setattr(module, "PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(module, "_resized_rows", recorded)
    assert torch.equal(gaze_auc(*parts), expected)
    assert len(seen) > 0
    assert max(seen) <= 1


def test_rows_that_are_skipped_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = people()
    expected = gaze_auc(*parts)
    monkeypatch.setattr(module, "SLACK", 1e9)  # every row that is not flat is looked at
    assert torch.equal(gaze_auc(*parts), expected)


def test_a_person_has_the_same_bits_alone() -> None:
    parts = people()
    together = gaze_auc(*parts)
    for person in range(len(together)):
        assert torch.equal(gaze_auc(*(part[person : person + 1] for part in parts)), together[person, None])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    maps, *others = people()
    low = maps.to(dtype)
    assert torch.equal(gaze_auc(low, *others), gaze_auc(low.double(), *others))


def test_metric_is_the_mean_over_people() -> None:
    parts, metric = people(), GazeAUC()
    for rows in (slice(0, 2), slice(2, 6)):
        metric.update(*(part[rows] for part in parts), torch.arange(6)[rows])
    found = metric.compute()
    assert float(found["auc"]) == pytest.approx(float(gaze_auc(*parts).mean()))
    assert found["auc_people"] == 6
    assert torch.equal(metric.scores().values[:, 0], gaze_auc(*parts))
    metric.reset()
    assert math.isnan(metric.compute()["auc"])


def test_wrong_arguments_are_refused() -> None:
    maps, gaze, size, inside = people()
    with pytest.raises(ValueError, match=r"expected floating-point maps \[6, h, w\], got torch.uint8"):
        gaze_auc(maps.byte(), gaze, size, inside)
    with pytest.raises(ValueError, match=r"expected image_hw \[6, 2\], got \[2\]"):
        gaze_auc(maps, gaze, size[0], inside)
    with pytest.raises(ValueError, match=r"expected gaze \[n, a, 2\] and in_frame \[n\]"):
        gaze_auc(maps, gaze[:, 0], size, inside)
    maps[3, 0, 0] = NAN
    with pytest.raises(ValueError, match="expected finite maps"):
        gaze_auc(maps, gaze, size, inside)
    with pytest.raises(ValueError, match="expected an integer id for each of 6 people"):
        GazeAUC().update(*people(), torch.zeros(6))
