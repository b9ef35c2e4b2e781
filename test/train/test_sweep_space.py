import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.train.sweep_space import READERS, Parameter, read_parameter


def test_ranges_without_a_distribution_are_those_of_wandb() -> None:
    assert read_parameter("a", {"min": 1, "max": 5}) == Parameter("a", "int", low=1, high=5)
    assert read_parameter("a", {"min": 1, "max": 5.0}) == Parameter("a", "float", low=1.0, high=5.0)
    assert read_parameter("a", {"value": [2, 4]}) == Parameter("a", "constant", ([2, 4],))
    assert read_parameter("a", {"values": [True, None, "x"]}).choices == (True, None, "x")


def test_yaml_reads_1e_3_as_text_and_a_range_takes_it() -> None:
    found = read_parameter("lr", {"distribution": "log_uniform_values", "min": "1e-4", "max": "1e-2"})
    assert (found.kind, found.low, found.high) == ("log", 1e-4, 1e-2)


def test_log_uniform_has_exponents_of_e() -> None:
    found = read_parameter("lr", {"distribution": "log_uniform", "min": -2, "max": 0})
    assert (found.low, found.high) == (pytest.approx(math.exp(-2)), 1.0)


def test_steps_are_the_multiples_inside_the_range() -> None:
    found = read_parameter("s", {"distribution": "q_uniform", "min": 0.25, "max": 1.0, "q": 0.1})
    assert found.bounds == (3, 10)
    assert [found.value(k) for k in (3, 7, 10)] == [0.3, 0.7, 1.0]
    whole = read_parameter("s", {"distribution": "q_uniform", "min": 0, "max": 25, "q": 10})
    assert [whole.value(drawn) for drawn in whole.grid()] == [0, 10, 20]
    assert isinstance(whole.value(1), int)


def test_a_normal_value_is_its_quantile() -> None:
    found = read_parameter("n", {"distribution": "normal", "mu": 3, "sigma": 2})
    assert found.value(0.5) == 3.0
    assert found.value(0.8413447) == pytest.approx(5.0, abs=1e-4)
    assert found.samples() == [3]


def test_choices_come_back_as_they_were() -> None:
    choices = [[2, 4], True, None, 0.5, "0.5 0.6", {"a": 1}]
    found = read_parameter("c", {"values": choices})
    assert [found.value(text) for text in found.grid()] == choices
    assert found.samples() == choices


@given(st.floats(0.01, 50), st.floats(0.01, 50), st.floats(0.05, 3))
def test_every_multiple_lies_in_its_range(one: float, other: float, quantum: float) -> None:
    low, high = sorted((one, other))
    parameter = Parameter("s", "step", low=low, high=high, quantum=quantum)
    first, last = parameter.bounds
    for multiple in range(int(first), int(last) + 1):
        assert low - 1e-6 <= parameter.value(multiple) <= high + 1e-6


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "parameters.lr: expected a mapping"),
        ({}, "expected value, values, or min and max; got nothing"),
        ({"min": 1}, "expected value, values, or min and max; got min"),
        ({"distribution": "log_uniform_value", "min": 1, "max": 2}, "Did you mean 'log_uniform_values'"),
        ({"distribution": "beta", "min": 1, "max": 2}, "unknown distribution 'beta'; known: constant"),
        ({"distribution": "uniform", "min": 3, "max": 2}, "expected min below max, got min 3 and max 2"),
        ({"distribution": "uniform", "min": "low", "max": 2}, "min: expected a number, got 'low'"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, "expected whole numbers"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 2}, "min: expected a number above 0"),
        ({"distribution": "log_uniform", "min": 1, "max": 1000}, "exponents of e"),
        ({"distribution": "q_uniform", "min": 1, "max": 2, "q": 5}, "there is none"),
        ({"distribution": "normal", "sigma": 0}, "sigma: expected a number above 0"),
        ({"values": []}, "values: expected a list"),
        ({"values": [1, 2, 1]}, "values: 1 is given twice"),
        (
            {"values": [date(2026, 1, 2)]},
            "values: expected numbers, texts, booleans, lists or null, got date",
        ),
        ({"value": {1, 2}}, "value: expected numbers, texts, .* a text needs quotes"),
        ({"distribution": ["uniform"], "min": 1, "max": 2}, r"unknown distribution \['uniform'\]"),
        ({"values": [1], "probabilities": [1]}, "categorical takes values; got 'probabilities'"),
        ({"parameters": {"a": {"value": 1}}}, "nested parameters are not supported"),
    ],
)
def test_a_wrong_entry_is_one_line_that_names_the_parameter(entry: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_parameter("lr", entry)
    assert str(caught.value).startswith("parameters.lr: ")
    assert "\n" not in str(caught.value)


def test_a_grid_needs_an_end() -> None:
    assert read_parameter("a", {"min": 2, "max": 4}).grid() == [2, 3, 4]
    with pytest.raises(ValueError, match="method grid needs values"):
        read_parameter("a", {"min": 0.0, "max": 1.0}).grid()


def test_every_distribution_of_the_older_sweeps_is_there() -> None:
    assert set(READERS) >= {"uniform", "int_uniform", "q_uniform", "log_uniform_values", "categorical"}
