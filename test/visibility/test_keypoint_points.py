import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.visibility.keypoint_points import points_of_coco

CATEGORIES = [
    {"id": 1, "name": "mouse", "keypoints": ["nose", "tail"]},
    {"id": 2, "name": "leaf", "keypoints": ["tip"]},
]
IMAGES = [
    {"id": 9, "file_name": "a/1.png", "width": 64, "height": 48, "video": "v1"},
    {"id": 3, "file_name": "a/2.png", "width": 30, "height": 20, "video": "v2"},
    {"id": 4, "file_name": "b/1.png", "width": 10, "height": 12, "video": "v1"},
]


def write(path: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] = IMAGES) -> Path:
    entries = [{"id": number, **entry} for number, entry in enumerate(annotations)]
    path.write_text(json.dumps({"images": images, "categories": CATEGORIES, "annotations": entries}))
    return path


def mouse(image_id: int, *values: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "keypoints": list(values)}


def test_visible_and_occluded_points_become_labels_and_absent_ones_are_left_out(tmp_path: Path) -> None:
    leaf = {"image_id": 4, "category_id": 2, "keypoints": [5.5, -0.25, 1]}
    path = write(
        tmp_path / "c.json",
        [mouse(3, 1.25, 2.5, 2, 0, 0, 0), leaf, mouse(9, 7.0, 8.0, 1, 63.4, 0.0, 2)],
    )
    table, paths = points_of_coco(path)
    assert table.image_names == ("a/1.png", "a/2.png", "b/1.png")
    assert table.views == table.image_names
    assert table.image_hw.tolist() == [[48, 64], [20, 30], [12, 10]]
    assert table.image.tolist() == [1, 2, 0, 0]
    assert table.xy.tolist() == [[1.25, 2.5], [5.5, -0.25], [7.0, 8.0], [63.4, 0.0]]
    assert table.label.tolist() == [1, 0, 0, 1]
    assert np.isnan(table.depth_m).all()
    assert paths == [tmp_path / "a/1.png", tmp_path / "a/2.png", tmp_path / "b/1.png"]
    assert (table.image.dtype, table.label.dtype, table.xy.dtype) == (np.int64, np.uint8, np.float64)


@pytest.mark.parametrize(
    ("group_by", "views"), [("folder", ("a", "a", "b")), ("video", ("v1", "v2", "v1")), (None, None)]
)
def test_views_are_groups_of_images(group_by: str | None, views: tuple | None, tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", [mouse(9, 1, 1, 1, 2, 2, 2), mouse(4, 1, 1, 2, 0, 0, 0)])
    table, _ = points_of_coco(path, group_by=group_by)
    assert table.views == (views or table.image_names)
    assert table.point_views.tolist() == [table.views[0], table.views[0], table.views[2]]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_counts_agree_with_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("points")
    path = write(folder / "c.json", [mouse(IMAGES[i]["id"], 1, 2, v, 3, 4, w) for i, v, w in drawn])
    flags = [flag for _, *pair in drawn for flag in pair]
    if not any(flags):
        with pytest.raises(ValueError, match="expected keypoints of visibility 1 or 2, got none in"):
            points_of_coco(path)
        return
    table, _ = points_of_coco(path)
    assert (int((table.label == 1).sum()), int((table.label == 0).sum())) == (flags.count(2), flags.count(1))
    for index in range(len(IMAGES)):
        wanted = sum((v > 0) + (w > 0) for i, v, w in drawn if i == index)
        assert int((table.image == index).sum()) == wanted


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a COCO keypoint file"):
        points_of_coco(tmp_path / "none.json")
    empty = write(tmp_path / "c.json", [])
    with pytest.raises(ValueError, match=r"c\.json: expected keypoints .* got none in 0 annotations; label"):
        points_of_coco(empty)
    path = write(tmp_path / "d.json", [mouse(9, 1, 1, 1, 2, 2, 2)])
    with pytest.raises(ValueError, match="expected the field 'vido' to group by"):
        points_of_coco(path, group_by="vido")
    twice = [IMAGES[0], {**IMAGES[1], "file_name": "a/1.png"}]
    path = write(tmp_path / "e.json", [mouse(9, 1, 1, 1, 2, 2, 2)], twice)
    with pytest.raises(ValueError, match=r"e\.json: .* different file names, got 'a/1\.png' twice"):
        points_of_coco(path)
