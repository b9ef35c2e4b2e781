import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypoint_detection.visibility.pyramid_layout import (
    MANIFEST,
    PyramidLayout,
    read_manifest,
    write_manifest,
)

LAYOUT = PyramidLayout(
    factors=(2, 4),
    image_names=("a", "b"),
    image_hw=np.array([[5, 6], [8, 9]]),
    depth_of_image=np.array([-1, 0]),
    depth_hw=np.array([[8, 9]]),
    has_depth=True,
    source_key="key",
)


def write_whole(folder: Path) -> None:
    for level in range(2):
        LAYOUT.level_path(folder, level).write_bytes(bytes(LAYOUT.n_bytes(level)))
    write_manifest(folder, LAYOUT)


def test_places_follow_from_sizes() -> None:
    assert LAYOUT.level_hw(0).tolist() == [[3, 3], [4, 5]]
    assert LAYOUT.places(0).tolist() == [0, 27, 87, 107]
    assert LAYOUT.places(1).tolist() == [0, 12, 30, 36]
    assert LAYOUT.n_bytes(1) == 36


def test_the_manifest_comes_back(tmp_path: Path) -> None:
    write_whole(tmp_path)
    found = read_manifest(tmp_path)
    assert (found.factors, found.image_names, found.has_depth) == ((2, 4), ("a", "b"), True)
    assert found.source_key == "key"
    for name in ("image_hw", "depth_of_image", "depth_hw"):
        ours, theirs = getattr(LAYOUT, name), getattr(found, name)
        assert np.array_equal(ours, theirs)
        assert theirs.dtype == np.int64


def test_sizes_of_no_depth_map_are_an_empty_table(tmp_path: Path) -> None:
    layout = PyramidLayout(
        (1,), ("a",), np.array([[2, 2]]), np.array([-1]), np.empty((0, 2), np.int64), False, "k"
    )
    layout.level_path(tmp_path, 0).write_bytes(bytes(12))
    write_manifest(tmp_path, layout)
    assert read_manifest(tmp_path).places(0).tolist() == [0, 12]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "pyramid.json: expected JSON, got Expecting"),
        ("[]", "expected format 'keypoint-detection pyramid 1', got 'list'; build the pyramid again"),
        ('{"format": "other"}', "got 'other'; build the pyramid again"),
        (
            '{"format": "keypoint-detection pyramid 1"}',
            "expected a manifest of a pyramid, got KeyError('images')",
        ),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_manifest(tmp_path)


def test_a_file_that_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    write_whole(tmp_path)
    LAYOUT.level_path(tmp_path, 1).unlink()
    with pytest.raises(ValueError, match=r"pyramid-key-x4.bin: expected 36 bytes, got no such file; build"):
        read_manifest(tmp_path)
    LAYOUT.level_path(tmp_path, 1).write_bytes(bytes(35))
    with pytest.raises(ValueError, match=r"pyramid-key-x4.bin: expected 36 bytes, got 35 bytes; build"):
        read_manifest(tmp_path)


def test_a_manifest_is_strict_json(tmp_path: Path) -> None:
    write_whole(tmp_path)
    content: dict[str, Any] = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert content["images"][1] == {"name": "b", "height": 8, "width": 9, "depth_map": 0}
