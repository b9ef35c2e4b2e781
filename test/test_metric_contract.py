import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.metric_contract import check_same, differences, with_hash

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
CONTRACTS = st.dictionaries(st.text(max_size=3).filter(lambda name: name != "hash"), PLAIN, max_size=4)


def test_the_hash_is_the_start_of_the_sha256_of_the_canonical_json():
    # printf '{"a":[1,0.1],"b":null}' | sha256sum
    assert with_hash({"b": None, "a": (1, 0.1)})["hash"] == "02d52aeff94a"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        ({"thresholds": (2.0, 4.0)}, {"thresholds": [2.0, 4.0]}),
        ({"thresholds": [2.0]}, {"thresholds": [2]}),
        ({"a": 1, "hash": "old"}, {"a": 1}),
    ],
)
def test_equal_definitions_have_equal_hashes(one, other):
    assert with_hash(one)["hash"] == with_hash(other)["hash"]
    assert differences(one, other) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 0.1}, {"a": 0.1 + 2**-56}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": True}, {"a": 1}),
        ({"a": "1"}, {"a": 1}),
        ({"a": None}, {}),
        ({"a": {}}, {"a": None}),
    ],
)
def test_different_definitions_have_different_hashes(one, other):
    assert with_hash(one)["hash"] != with_hash(other)["hash"]
    assert len(differences(one, other)) == 1


@given(CONTRACTS, CONTRACTS)
def test_hashes_differ_just_where_fields_do(one, other):
    a, b = with_hash(one), with_hash(other)
    assert (a["hash"] == b["hash"]) == (differences(a, b) == [])
    assert differences(a, json.loads(json.dumps(a))) == []


def test_the_hash_is_the_same_in_another_process():
    definition = {"b": {"z": 0.1, "y": ["ü", None, True]}, "a": 1e300}
    code = (
        f"from keypoint_detection.metric_contract import with_hash; print(with_hash({definition!r})['hash'])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == with_hash(definition)["hash"]


def test_the_definition_is_kept_beside_its_hash():
    contract = with_hash({"oks": {"area": "box"}, "thresholds": [2]})
    assert {name: value for name, value in contract.items() if name != "hash"} == {
        "oks": {"area": "box"},
        "thresholds": [2],
    }
    assert with_hash(contract) == contract
    assert len(contract["hash"]) == 12


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError):
        with_hash({"threshold": float("nan")})


def test_fields_are_named_by_their_dotted_path():
    one = {"oks": {"sigmas": {"nose": 0.1}, "area": "box"}, "same": 1, "mine": 2, "hash": "x"}
    other = {"oks": {"sigmas": {"nose": 0.2}, "area": "box"}, "same": 1, "yours": None, "hash": "y"}
    assert differences(one, other) == [
        ("mine", 2, "absent"),
        ("oks.sigmas.nose", 0.1, 0.2),
        ("yours", "absent", None),
    ]


def test_two_definitions_are_refused_with_every_field_and_both_values():
    one = {"oks_sigmas": "COCO", "thresholds": [2.0], "pck": {"alpha": 0.1}, "images": 3}
    other = {"oks_sigmas": "default 0.067", "thresholds": [4.0], "pck": {"alpha": 0.2}, "extra": None}
    with pytest.raises(ValueError) as caught:
        check_same(with_hash(one), with_hash(other), "runs/a", "runs/b")
    assert str(caught.value) == (
        "runs/a and runs/b are scored by different definitions: extra absent / null, images 3 / absent, "
        'oks_sigmas "COCO" / "default 0.067", pck.alpha 0.1 / 0.2, thresholds [2.0] / [4.0]; '
        "score both with the same flags of keypoint-detection eval"
    )
    check_same(with_hash(one), {**one, "hash": "of an older version"}, "a", "b")


def test_long_values_are_cut_around_their_first_difference():
    sigmas = [round(0.01 * i, 2) for i in range(40)]
    with pytest.raises(ValueError) as caught:
        check_same({"sigmas": sigmas}, {"sigmas": [*sigmas[:30], 7.5, *sigmas[31:]]}, "a", "b")
    message = str(caught.value)
    one, other = message.partition("sigmas ")[2].partition(";")[0].split(" / ")
    assert max(len(one), len(other)) <= 66
    assert one.startswith("...")
    assert other.endswith("...")
    assert "0.3," in one
    assert "7.5," in other
    assert "\n" not in message
