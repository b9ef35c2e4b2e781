import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import content_of, write_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.browse import write_page
from keypoint_detection.browse_predictions import FoundPoint, image_error, names_of_channel, read_predictions
from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path)


def predictions_file(folder: Path, entries: Any) -> Path:
    path = folder / "predictions.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_results_are_shown_with_their_error(labels: Path, tmp_path: Path) -> None:
    # nose 5 px off (3, 4), tail missing: score 0
    entries = [{"image_id": 7, "category_id": 1, "keypoints": [13, 14, 0.5, 0, 0, 0], "score": 1, "x": 1}]
    content = content_of(
        write_page(labels, tmp_path / "page.html", predictions=predictions_file(tmp_path, entries))
    )
    first, second = content["images"]
    assert content["channels"] == [{"name": "nose", "keypoint": 0}, {"name": "tail", "keypoint": 1}]
    assert first["predictions"] == [[0, 13, 14, 0.5]]
    assert (first["error"], first["missed"]) == (5, 1)  # the crowd's tail does not count
    assert "error" not in second


def test_flags_of_visibility_are_not_taken_for_scores(labels: Path, tmp_path: Path) -> None:
    entry = {"image_id": 7, "category_id": 1, "keypoints": [13, 14, 1, 0, 0, 0], "score": 0.2}
    path = predictions_file(tmp_path, [{**entry, "keypoint_scores": [0.25, 0.0]}])
    first = content_of(write_page(labels, tmp_path / "page.html", predictions=path))["images"][0]
    assert first["predictions"] == [[0, 13, 14, 0.25]]
    assert (first["error"], first["missed"]) == (5, 1)


def test_channels_win_over_results_and_pool_keypoints(labels: Path, tmp_path: Path) -> None:
    channels = {
        "nose=tail": [
            {"x": 20, "y": 12, "score": 0.9},
            {"x": 10, "y": 10, "score": 0.8},
            {"x": 0, "y": 0, "score": 0.1},
        ],
        "ear": [],
    }
    entries = [{"image_id": 7, "category_id": 1, "keypoints": [0, 0, 1, 0, 0, 1], "channels": channels}]
    content = content_of(
        write_page(labels, tmp_path / "page.html", predictions=predictions_file(tmp_path, entries))
    )
    assert content["channels"] == [{"name": "nose=tail", "keypoint": 0}, {"name": "ear", "keypoint": -1}]
    first = content["images"][0]
    assert len(first["predictions"]) == 3
    assert (first["error"], first["missed"]) == (1, 0)  # (0 + 2) / 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"predictions": []}, "expected a JSON list of entries"),
        ([{"image_id": 8, "keypoints": [1, 1, 1, 1, 1, 1]}], "field 'image_id'"),
        ([{"image_id": 7, "keypoints": [1, 1, 1]}], "expected 6 numbers"),
        ([{"image_id": 7, "keypoints": [1] * 6, "keypoint_scores": [1]}], "expected 2 numbers, one per keyp"),
        ([{"image_id": 7, "category_id": 3, "keypoints": []}], "expected one of 1 "),
        ([{"image_id": 7}], "got neither of the two"),
        ([{"image_id": 7, "channels": {"nose": [{"x": 1, "y": 2}]}}], "field is missing"),
    ],
)
def test_wrong_predictions_are_one_line_and_leave_no_page(
    labels: Path, tmp_path: Path, entries: Any, message: str
) -> None:
    output = tmp_path / "pages/page.html"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        write_page(labels, output, predictions=predictions_file(tmp_path, entries))
    assert "\n" not in str(caught.value)
    assert not output.parent.exists()


def test_names_of_channel() -> None:
    names = ["a", "b", "a=b", "c d"]
    assert names_of_channel("a=b", names) == ["a=b"]
    assert names_of_channel("b = c d= x", names) == ["b", "c d"]
    assert names_of_channel("x", names) == []


point = st.tuples(st.floats(-50, 50), st.floats(-50, 50))


@given(st.lists(point, max_size=4), st.lists(st.tuples(point, st.floats(0.1, 1)), max_size=5))
def test_error_is_the_best_of_all_assignments(
    wanted: list[tuple[float, float]], found: list[tuple[tuple[float, float], float]]
) -> None:
    points = [FoundPoint("a", *xy, score) for xy, score in found]
    error = image_error({"a": wanted}, points, ["a"])
    best = sorted(points, key=lambda one: -one.score)[: len(wanted)]
    assert error.missed == len(wanted) - len(best)
    sums = [
        sum(math.dist(xy, (one.x, one.y)) for xy, one in zip(order, best, strict=True))
        for order in itertools.permutations(wanted, len(best))
    ]
    if best:
        assert error.mean_px == pytest.approx(min(sums) / len(best))
    else:
        assert error.mean_px is None


def test_error_of_absurd_coordinates_is_finite() -> None:
    error = image_error({"a": [(1e308, -1e308)]}, [FoundPoint("a", -1e308, 1e308, 1.0)], ["a"])
    assert error.mean_px is not None
    assert math.isfinite(error.mean_px)


CATEGORY = CocoCategory(id=1, name="mouse", keypoints=["nose"])
TINY = CocoKeypoints(
    images=[CocoImage(id=1, file_name="a.png", width=4, height=4)],
    categories=[CATEGORY],
    annotations=[CocoAnnotation(id=1, image_id=1, category_id=1, keypoints=[1, 1, 2])],
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["image_id", "keypoints", "channels", "x", "y", "score"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_predictions_file_gives_points_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(content)
    message = ""
    try:
        assert set(read_predictions(path, TINY).points) <= {1}
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
