import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import bootstrap as reference

from keypoint_detection.metrics.resampling import (
    CHUNK_ROWS,
    CHUNK_WEIGHTS,
    jackknife_weights,
    resample_weights,
)


@pytest.mark.parametrize("seed", [0, 9])
def test_weights_equal_the_slow_draw(seed: int) -> None:
    weights = resample_weights(11, 40, seed=seed)
    assert weights.dtype == torch.int64
    assert weights.tolist() == reference.draw(11, 40, seed)


def test_groups_are_drawn_whole() -> None:
    labels = ["b", "a", "b", "c", "a", "b"]
    weights = resample_weights(6, 50, groups=labels, seed=3)
    drawn = torch.tensor(reference.draw(3, 50, 3))
    assert torch.equal(weights, drawn[:, [1, 0, 1, 2, 0, 1]])
    assert torch.equal(weights, resample_weights(6, 50, groups=torch.tensor([5, 2, 5, 8, 2, 5]), seed=3))


def test_counts_are_multinomial() -> None:
    weights = resample_weights(10, 20_000, seed=1)
    assert (weights.sum(1) == 10).all()
    shares = torch.bincount(weights[:, 4], minlength=11)[:6] / 20_000
    expected = scipy.stats.binom.pmf(range(6), 10, 0.1)
    assert shares.tolist() == pytest.approx(expected, abs=0.015)  # four standard errors
    covariance = np.cov(weights.numpy()[:, :2].T)
    assert covariance.flatten().tolist() == pytest.approx([0.9, -0.1, -0.1, 0.9], abs=0.05)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    n = CHUNK_WEIGHTS // 20  # a chunk holds 20 of the rows
    assert resample_weights(n, 45, seed=2).tolist() == resample_weights(n, 90, seed=2)[:45].tolist()
    small = resample_weights(7, 100, seed=2), jackknife_weights(50, seed=2)
    monkeypatch.setattr("keypoint_detection.metrics.resampling.CHUNK_WEIGHTS", 1)
    assert 100 % CHUNK_ROWS != 0
    assert torch.equal(small[0], resample_weights(7, 100, seed=2))
    assert torch.equal(small[1], jackknife_weights(50, seed=2))


def test_jackknife_leaves_out_each_unit_once() -> None:
    assert torch.equal(jackknife_weights(5, seed=0), 1 - torch.eye(5, dtype=torch.int64))
    grouped = jackknife_weights(5, groups=[4, 4, 1, 4, 2], seed=0)
    assert grouped.tolist() == [[1, 1, 0, 1, 1], [1, 1, 1, 1, 0], [0, 0, 1, 0, 1]]


@given(units=st.integers(1, 60), blocks=st.integers(2, 12), seed=st.integers(0, 5))
def test_jackknife_blocks_deal_out_the_units(units: int, blocks: int, seed: int) -> None:
    labels = torch.arange(units).repeat_interleave(torch.arange(units) % 3 + 1)
    out = 1 - jackknife_weights(len(labels), groups=labels, max_blocks=blocks, seed=seed)
    assert len(out) == min(units, blocks)
    assert (out.sum(0) == 1).all()
    units_out = torch.stack([out[:, labels == unit][:, 0] for unit in range(units)], dim=1)
    assert torch.equal(units_out[:, labels], out)
    assert units_out.sum(1).max() - units_out.sum(1).min() <= 1


def test_blocks_are_dealt_at_random() -> None:
    out = jackknife_weights(1000, max_blocks=10, seed=0) == 0
    centres = torch.stack([row.nonzero().double().mean() for row in out])
    assert ((centres - 499.5).abs() < 4.5 * 289 / 10).all()  # blocks in a row would centre on 50, 150, ...
    assert not torch.equal(out, jackknife_weights(1000, max_blocks=10, seed=1) == 0)


def test_no_images() -> None:
    assert resample_weights(0, 3, seed=0).shape == (3, 0)
    assert jackknife_weights(0, seed=0).shape == (0, 0)


@pytest.mark.parametrize("weights", [resample_weights, jackknife_weights])
def test_errors(weights) -> None:
    rows = (2, 1) if weights is resample_weights else (2,)
    with pytest.raises(ValueError, match="each of the 2 images"):
        weights(*rows, groups=[1], seed=0)
    with pytest.raises(ValueError, match="seed needs"):
        weights(1000, *rows[1:], seed=-1)
