import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.models.schedules import DECAYS, constant, cosine, linear, lr_factor, warmup_ramp

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.25, 0.8535534), (0.5, 0.5), (0.75, 0.1464466), (1.0, 0.0)]
)
def test_cosine_by_hand(progress: float, expected: float) -> None:
    assert cosine(progress) == pytest.approx(expected, abs=1e-6)
    assert cosine(progress, 0.2) == pytest.approx(0.2 + 0.8 * expected, abs=1e-6)


def test_linear_and_constant_by_hand() -> None:
    assert [linear(share) for share in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert linear(0.5, 0.2) == pytest.approx(0.6)
    assert [constant(share, 0.2) for share in (0.0, 1.0)] == [1.0, 1.0]


def test_warmup_by_hand() -> None:
    assert warmup_ramp(0.0, 0.1) == pytest.approx(0.01)
    assert warmup_ramp(0.05, 0.1) == pytest.approx(0.505)
    assert warmup_ramp(0.1, 0.1) == 1.0
    assert warmup_ramp(0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("decay_type", "expected"),
    [
        ("cosine", [0.01, 1.0, 0.5, 0.0]),
        ("linear", [0.01, 1.0, 0.5, 0.0]),
        ("constant", [0.01, 1.0, 1.0, 1.0]),
    ],
)
def test_warmup_then_decay(decay_type: str, expected: list[float]) -> None:
    factors = [lr_factor(progress, decay_type, 0.2) for progress in (0.0, 0.2, 0.6, 1.0)]
    assert factors == pytest.approx(expected, abs=1e-9)


def test_ends_at_the_floor() -> None:
    assert lr_factor(1.0, "cosine", 0.1, floor=0.05) == pytest.approx(0.05)
    assert lr_factor(1.0, "linear", 0.1, floor=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("decay_type", DECAYS.names())
@given(progress=st.floats(-1, 2), warmup=SHARES, floor=SHARES)
def test_stays_between_0_and_1_without_jumps(
    decay_type: str, progress: float, warmup: float, floor: float
) -> None:
    factor = lr_factor(progress, decay_type, warmup, floor)
    assert 0.0 <= factor <= 1.0 + 1e-12
    assert factor == lr_factor(min(max(progress, 0.0), 1.0), decay_type, warmup, floor)
    if progress >= warmup and decay_type != "constant":
        assert factor >= floor - 1e-12


@pytest.mark.parametrize("decay_type", DECAYS.names())
@given(first=SHARES, second=SHARES)
def test_rises_during_the_warmup_and_falls_after_it(decay_type: str, first: float, second: float) -> None:
    first, second = sorted((first, second))
    before, after = lr_factor(first, decay_type, 0.3), lr_factor(second, decay_type, 0.3)
    if second < 0.3:
        assert before <= after
    if first >= 0.3:
        assert before >= after


@pytest.mark.parametrize("decay_type", DECAYS.names())
def test_a_run_that_is_all_warmup(decay_type: str) -> None:
    assert lr_factor(0.5, decay_type, warmup=1.0) == pytest.approx(0.505)
    assert lr_factor(1.0, decay_type, warmup=1.0) == 1.0


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown decay_type 'cosin'; known: .*Did you mean 'cosine'\?"):
        lr_factor(0.5, "cosin")
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"warmup needs to be a share in \[0, 1\]"):
            lr_factor(0.5, "cosine", wrong)
        with pytest.raises(ValueError, match=r"floor needs to be a share in \[0, 1\]"):
            lr_factor(0.5, "cosine", 0.1, wrong)
