import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.models.schedules import (
    DECAYS,
    Phase,
    Plateau,
    check_one_warmup,
    constant,
    cosine,
    default_warmup,
    linear,
    lr_factor,
    one_cycle_momentum,
    one_cycle_rise,
    phase,
    warmup_ramp,
)

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
        ("plateau", [0.01, 1.0, 1.0, 1.0]),
        ("onecycle", [0.04, 1.0, 0.5, 0.0]),
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
    if progress >= warmup and decay_type not in ("constant", "plateau"):
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
    half_way = 0.52 if decay_type == "onecycle" else 0.505
    assert lr_factor(0.5, decay_type, warmup=1.0) == pytest.approx(half_way)
    assert lr_factor(1.0, decay_type, warmup=1.0) == 1.0


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown decay_type 'cosin'; known: .*Did you mean 'cosine'\?"):
        lr_factor(0.5, "cosin")
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"warmup needs to be a share in \[0, 1\]"):
            lr_factor(0.5, "cosine", wrong)
        with pytest.raises(ValueError, match=r"floor needs to be a share in \[0, 1\]"):
            lr_factor(0.5, "cosine", 0.1, wrong)


def test_one_cycle_by_hand() -> None:
    assert [one_cycle_rise(share, 0.4) for share in (0.0, 0.2, 0.4)] == pytest.approx([0.04, 0.52, 1.0])
    assert lr_factor(0.65, "onecycle", None) == pytest.approx(0.5)  # 0.3 is the top, 0.65 half-way down
    assert lr_factor(1.0, "onecycle", None, floor=0.1) == pytest.approx(0.1)
    moments = [one_cycle_momentum(phase(share, 0.3)) for share in (0.0, 0.15, 0.3, 0.65, 1.0)]
    assert moments == pytest.approx([0.95, 0.90, 0.85, 0.90, 0.95])
    assert (default_warmup("onecycle"), default_warmup("cosine")) == (0.3, 0.05)


@given(progress=SHARES, warmup=st.floats(0.05, 0.95))
def test_momentum_of_one_cycle_mirrors_the_rate(progress: float, warmup: float) -> None:
    rate = lr_factor(progress, "onecycle", warmup)
    momentum = one_cycle_momentum(phase(progress, warmup))
    lowest = 0.04 if progress < warmup else 0.0
    assert (momentum - 0.95) / (0.85 - 0.95) == pytest.approx((rate - lowest) / (1 - lowest), abs=1e-6)


@pytest.mark.parametrize("decay_type", DECAYS.names())
@given(total=st.integers(2, 500), data=st.data())
def test_a_warmup_in_steps_is_the_same_share_of_a_run_of_known_length(
    decay_type: str, total: int, data: st.DataObject
) -> None:
    steps, step = data.draw(st.integers(0, total - 1)), data.draw(st.integers(0, total))
    by_share = lr_factor(step / total, decay_type, steps / total, 0.1)
    by_steps = lr_factor(step / total, decay_type, None, 0.1, step=step, warmup_steps=steps)
    assert by_steps == pytest.approx(by_share, abs=1e-9)


def test_a_warmup_in_steps_under_a_clock() -> None:
    # 10 steps of warm-up, and the clock says 40 % after 20 steps: the warm-up took 20 % of the run
    assert lr_factor(0.3, "linear", None, step=5, warmup_steps=10) == pytest.approx(0.505)
    assert phase(0.3, 0.0, 5, 10) == Phase(True, 0.5)
    assert phase(0.4, 0.0, 20, 10).position == pytest.approx(0.25)
    assert lr_factor(0.4, "linear", None, step=20, warmup_steps=10) == pytest.approx(0.75)
    # a warm-up that is longer than the run never gets to the top
    assert lr_factor(1.0, "linear", None, step=5, warmup_steps=10) == pytest.approx(0.505)


def test_two_warmups_exclude_each_other() -> None:
    check_one_warmup(0.1, None)
    check_one_warmup(None, 0)
    with pytest.raises(ValueError, match=r"^--warmup 0.1 and --warmup_steps 5 exclude each other; give one$"):
        check_one_warmup(0.1, 5)


def test_plateau_by_hand() -> None:
    state, seen = Plateau(), []
    for value in (3.0, 2.0, 2.0, math.nan, 2.5, 1.0, 1.5, 1.5):
        state = state.after(value, patience=2)
        seen.append(tuple(state))
    assert seen == [
        (3.0, 0, 0),
        (2.0, 0, 0),
        (2.0, 1, 0),
        (2.0, 0, 1),  # the second validation without a gain: reduced, and the count begins anew
        (2.0, 1, 1),
        (1.0, 0, 1),
        (1.0, 1, 1),
        (1.0, 0, 2),
    ]
