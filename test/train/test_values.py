import pytest

from keypoint_detection.train.values import none_if_empty, parse_size


def test_parse_size_reads_height_then_width() -> None:
    assert parse_size("480x640") == (480, 640)
    assert parse_size(" 96 X 128 ") == (96, 128)


@pytest.mark.parametrize("text", ["0x5", "480", "480x", "x480", "-8x16", "7x64", "480x640x3", "a x b"])
def test_parse_size_refuses_anything_else(text: str) -> None:
    with pytest.raises(ValueError, match="expected HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize("value", ["", None, "None", "none", "null"])
def test_ways_to_write_nothing(value: str | None) -> None:
    assert none_if_empty(value) is None
    assert none_if_empty(0) == 0
