import re

from keypoint_detection.utils.colours import channel_colors, palette


def test_palette_has_distinct_colours() -> None:
    colours = palette(30)
    assert len(set(colours[:21])) == 21
    assert colours[21:28] == colours[:7]
    assert colours[:2] == ["#e69f00", "#56b4e9"]
    assert colours[7] == "#f2cf80"  # half way from (230, 159, 0) to white
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_channel_colors_are_the_palette_as_numbers() -> None:
    assert channel_colors(8)[0] == (0xE6, 0x9F, 0x00)
    assert channel_colors(8)[7] == (0xF2, 0xCF, 0x80)
    assert len(set(channel_colors(21))) == 21
    assert channel_colors(0) == []
