from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoImage
from keypoint_detection.data.groups import group_labels


def images(*entries: dict[str, Any]) -> list[CocoImage]:
    """Return images that count from 30."""
    defaults = {"file_name": "a.png", "width": 64, "height": 48}
    return [CocoImage.model_validate({**defaults, **entry, "id": 30 + n}) for n, entry in enumerate(entries)]


def error_line(entries: list[CocoImage], group_by: str) -> str:
    with pytest.raises(ValueError) as caught:
        group_labels(entries, group_by)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders():
    names = ["a/b/1.png", "2.png", "a/3.png", "./4.png", "./a/5.png", "/data/a/6.png", "a/b/7.png"]
    found = group_labels(images(*({"file_name": name} for name in names)), "folder")
    assert found == ["a/b", "", "a", "", "a", "/data/a", "a/b"]


def test_a_field_as_text():
    entries = images({"video": "x"}, {"video": 3}, {"video": "3"}, {"video": [1, "y"]}, {"video": True})
    assert group_labels(entries, "video") == ["x", "3", "3", '[1, "y"]', "true"]


def test_a_field_that_every_coco_image_has():
    assert group_labels(images({"width": 4}, {"width": 5}, {"width": 4}), "width") == ["4", "5", "4"]


@pytest.mark.parametrize("lacking", [{}, {"video": None}])
def test_an_image_without_the_field(lacking):
    line = error_line(images({"video": "x"}, {**lacking, "person": 2}), "video")
    assert line.startswith("image 31: expected the field 'video'")
    assert "id, file_name, width, height, person" in line
    assert "'folder'" in line


def test_a_field_mistyped_gets_the_nearest_name():
    assert error_line(images({"video": 1}, {"video": 2}), "vidoe").endswith("Did you mean 'video'?")


def test_one_group_is_too_few():
    line = error_line(images({}, {}), "folder")
    assert "at least two groups" in line
    assert "only '' for 2 images" in line
    assert "only 'x' for 1 images" in error_line(images({"video": "x"}), "video")
    assert "no images" in error_line([], "folder")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3), min_size=2, max_size=9))
def test_images_share_a_group_when_they_share_a_folder(folders):
    names = ["/".join([*folder, "1.png"]) for folder in folders]
    if len({tuple(folder) for folder in folders}) < 2:
        assert "at least two groups" in error_line(images(*({"file_name": name} for name in names)), "folder")
    else:
        found = group_labels(images(*({"file_name": name} for name in names)), "folder")
        assert found == ["/".join(folder) for folder in folders]
