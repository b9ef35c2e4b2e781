import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.metrics.oks_sigmas import (
    COCO_SIGMAS,
    OKSSigmas,
    RepeatedDistances,
    estimate_oks_sigmas,
    resolve_oks_sigmas,
)

NAMES = ["nose", "tail"]


def repeated(squared_sum, degrees, names=NAMES, num_labels=(2, 5), without_area=0) -> RepeatedDistances:
    return RepeatedDistances(
        tuple(names),
        np.array(squared_sum, np.float64),
        np.array(degrees, np.int64),
        40,
        num_labels,
        without_area,
    )


def fails(choice, message: str, names=NAMES) -> None:
    with pytest.raises(ValueError, match=message) as error:
        resolve_oks_sigmas(choice, names)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("--oks_sigmas")


def test_coco_has_the_numbers_and_order_of_pycocotools() -> None:
    from pycocotools.cocoeval import Params

    expected = Params(iouType="keypoints").kpt_oks_sigmas
    assert list(COCO_SIGMAS.values()) == pytest.approx(expected.tolist(), rel=1e-15)
    assert list(COCO_SIGMAS)[:4] == ["nose", "left_eye", "right_eye", "left_ear"]
    assert list(COCO_SIGMAS)[-1] == "right_ankle"
    assert len(COCO_SIGMAS) == 17


@pytest.mark.parametrize("choice", [None, "coco", " coco "])
def test_coco_names_match_however_they_are_written(choice) -> None:
    names = ["Nose", "Left Eye", "right-ear", "LEFTSHOULDER", "left__hip", "rightAnkle"]
    sigmas = resolve_oks_sigmas(choice, names)
    assert sigmas == OKSSigmas(tuple(names), (0.026, 0.025, 0.035, 0.079, 0.107, 0.089), "COCO")
    assert sigmas.by_name()["rightAnkle"] == 0.089


def test_one_strange_name_makes_the_default() -> None:
    sigmas = resolve_oks_sigmas(None, ["nose", "snout"])
    assert sigmas.values == (0.067, 0.067)
    assert sigmas.source == "default 0.067 for every keypoint"


def test_coco_names_all_strange_names_at_once() -> None:
    fails("coco", "got 'snout', 'tail'; give numbers.*file instead", ["nose", "snout", "tail"])


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        (0.05, (0.05, 0.05)),
        (1, (1.0, 1.0)),
        ("0.05", (0.05, 0.05)),
        ("5e-2", (0.05, 0.05)),
        ([0.03, 0.05], (0.03, 0.05)),
        ((0.03,), (0.03, 0.03)),
        (np.array([0.03, 0.05]), (0.03, 0.05)),
        ("0.03 0.05", (0.03, 0.05)),
        ("0.03, 0.05", (0.03, 0.05)),
        (" .03;0.05 ", (0.03, 0.05)),
        ({"tail": 0.05, "nose": 0.03}, (0.03, 0.05)),
        ("tail=0.05; nose = 3e-2;", (0.03, 0.05)),
    ],
)
def test_given_numbers(choice, values) -> None:
    assert resolve_oks_sigmas(choice, NAMES) == OKSSigmas(("nose", "tail"), values, "given")


def test_names_may_hold_spaces_and_equal_signs() -> None:
    names = ["eye top", "a=b"]
    assert resolve_oks_sigmas("eye top=0.1; a=b=0.2", names).values == (0.1, 0.2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sigmas.json", '{"nose": 0.03, "tail": 0.05}'),
        ("sigmas.json", "[0.03, 0.05]"),
        ("sigmas.json", '\ufeff[0.03, "0.05"]'),
        ("sigmas.yaml", "nose: 3e-2\ntail: 0.05\n"),
        ("lr=0.1.yml", "- 0.03\n- 0.05\n"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert resolve_oks_sigmas(str(path), NAMES) == OKSSigmas(("nose", "tail"), (0.03, 0.05), name)


def test_yaml_keeps_names_that_look_like_values(tmp_path: Path) -> None:
    path = tmp_path / "sigmas.yaml"
    path.write_text("on: 0.1\n1: 0.2\n")
    assert resolve_oks_sigmas(str(path), ["1", "on"]).values == (0.2, 0.1)


@pytest.mark.parametrize(
    "text", ["{", "0.05", "null", '{"nose": {"a": 1}, "tail": 0.1}', "[true, 0.1]", "[]"]
)
def test_files_that_hold_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sigmas.json"
    path.write_text(text)
    fails(str(path), "expected|cannot read")


def test_a_yaml_file_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "sigmas.yaml"
    path.write_text("a: [1,\nb: }")
    fails(str(path), "cannot read .*sigmas.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.json, found none") as error:
        resolve_oks_sigmas(str(tmp_path / "nothing.json"), NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("cocoo", r"expected coco, estimate, .*got 'cocoo'\. Did you mean 'coco'\?"),
        ("COCO", r"Did you mean 'coco'\?"),
        ("estimated", r"Did you mean 'estimate'\?"),
        ("", "got ''"),
        ("sigmas.txt", "file, got 'sigmas.txt'"),
        ("0.1 0.2 0.3", "each of 2 .*got 3"),
        ([], "got 0"),
        ("0.1 abc", "'tail', got 'abc'"),
        ([0.1, -1.0], "'tail', got -1"),
        ([0.0, 0.1], "'nose', got 0"),
        ("nan 1", "'nose', got nan"),
        (math.inf, "'nose', got inf"),
        ([0.1, None], "'tail', got None"),
        (True, "'nose', got True"),
        ({"nose": 0.1}, "none for tail"),
        ({"nose": 0.1, "tial": 0.2}, r"got 'tial'\. Did you mean 'tail'\?"),
        ("nose=0.1; tail=x", "'tail', got 'x'"),
        ("nose=0.1; nose=0.2", "got 'nose=0.2'"),
        ("nose=0.1; tail", "got 'tail'"),
    ],
)
def test_wrong_choices(choice, message: str) -> None:
    fails(choice, message)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_every_way_to_write_numbers_gives_the_same(values: list[float]) -> None:
    names = [f"point {index}" for index in range(len(values))]
    expected = tuple(values)
    by_name = dict(zip(names, values, strict=True))
    for choice in (
        values,
        by_name,
        " ".join(map(repr, values)),
        "; ".join(f"{name}={value!r}" for name, value in by_name.items()),
        json.loads(json.dumps(by_name)),
    ):
        assert resolve_oks_sigmas(choice, names).values == expected


def test_estimate_by_hand() -> None:
    # two objects with 2 labels and one with 3: 4 degrees of freedom
    sigmas = resolve_oks_sigmas("estimate", NAMES, repeated([0.04, 0.01], [4, 1]))
    assert sigmas.values == pytest.approx((0.1, 0.1))
    assert sigmas.source == "estimated from 40 objects labelled 2 to 5 times"


def test_estimate_of_a_keypoint_that_was_never_repeated() -> None:
    found = repeated([0.04, 0.0, 0.09], [1, 0, 1], ["nose", "tail", "ear"], (3, 3), 2)
    sigmas = estimate_oks_sigmas(["tail", "ear", "nose", "new"], found)
    assert sigmas.values == pytest.approx((0.25, 0.3, 0.2, 0.25))
    assert sigmas.source == (
        "estimated from 40 objects labelled 3 times (2 objects without area left out), "
        "mean of the others for 2 of 4 keypoints"
    )


def test_estimate_of_copies_is_refused() -> None:
    with pytest.raises(ValueError, match="labels of 'tail' that differ"):
        resolve_oks_sigmas("estimate", NAMES, repeated([0.04, 0.0], [4, 3]))


def test_estimate_without_repeated_labels_says_so() -> None:
    sigmas = resolve_oks_sigmas("estimate", NAMES)
    assert sigmas.values == (0.067, 0.067)
    assert sigmas.source == "default 0.067: the file has no repeated labels"
    assert "OKS of 0.76" in sigmas.describe()
    assert "the file has no repeated labels" in sigmas.describe()
    empty = RepeatedDistances(("nose",), np.zeros(1), np.zeros(1, np.int64), 0, (0, 0), 5)
    source = resolve_oks_sigmas("estimate", NAMES, empty).source
    assert source == "default 0.067: the file has no repeated labels (5 objects without area left out)"


def test_description() -> None:
    default = resolve_oks_sigmas(None, ["stem", "leaf"]).describe()
    # d = s / 10, k = 2 x 0.067: exp(-0.01 / (2 x 0.134^2)) = exp(-0.27846) = 0.757
    assert default == (
        "OKS sigmas (default 0.067 for every keypoint): 0.067 for each of 2 keypoints; an error of 10 % of "
        "the object's side (the root of its area) then scores an OKS of 0.76, and numbers under other sigmas "
        "are not comparable; --oks_sigmas sets them"
    )
    assert resolve_oks_sigmas("0.03 0.123456", NAMES).describe() == (
        "OKS sigmas (given): nose 0.03, tail 0.123"
    )
    assert resolve_oks_sigmas(None, ["nose"]).describe() == "OKS sigmas (COCO): nose 0.026"


def test_sigmas_check_themselves() -> None:
    with pytest.raises(ValueError, match="'b', got 0"):
        OKSSigmas(("a", "b"), (1.0, 0.0), "given")
    with pytest.raises(ValueError, match="each of 2"):
        OKSSigmas(("a", "b"), (1.0,), "given")
