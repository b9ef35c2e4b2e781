import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.utils.colours import channel_colors
from keypoint_detection.visibility.figures import COLOURS, Theme, draw_confusions, draw_fold_strips


def pixels_of(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image)[..., ::-1]


def dots(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Return the centres of the blobs of one colour, `[n, 2]`."""
    mask = (image == np.array(color)).all(-1).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return centres[1:][stats[1:, cv2.CC_STAT_AREA] >= 12]


def test_each_fold_has_its_dot_in_each_group_and_in_the_legend(tmp_path: Path) -> None:
    nan = float("nan")
    group = {f"view {index}": (0.8 + index / 20, nan, nan) for index in range(4)}
    panels = {"accuracy": {"one": group, "two": group}, "loss": {"one": group, "two": {}}}
    draw_fold_strips(panels, tmp_path / "a.png", title="Folds")
    image = pixels_of(tmp_path / "a.png")
    for color in channel_colors(4):
        assert len(dots(image, color)) == 4
    first = [dots(image, color) for color in channel_colors(4)]
    row = [centres[centres[:, 1].argmin(), 1] for centres in first]
    assert row == sorted(row)  # each fold has a height of its own


def test_intervals_are_lines_from_low_to_high(tmp_path: Path) -> None:
    lengths = []
    for half in (0.05, 0.1):
        # two dots far apart fix the axis
        group = {"a": (0.5, 0.5 - half, 0.5 + half), "b": (0.0, 0.0, 0.0), "c": (1.0, 1.0, 1.0)}
        draw_fold_strips({"accuracy": {"one": group}}, tmp_path / "a.png")
        image = pixels_of(tmp_path / "a.png").astype(int)
        orange = (np.abs(image - [236, 183, 64]).sum(-1) < 40) | (np.abs(image - [230, 159, 0]).sum(-1) < 40)
        lengths.append(orange[: image.shape[0] // 2 + 20].sum(1).max())
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.12)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_confusions_are_shaded_by_the_share_of_the_true_class(theme: Theme, tmp_path: Path) -> None:
    draw_confusions({"all": np.array([[90, 10], [0, 50]])}, tmp_path / "a.png", theme=theme)
    image = pixels_of(tmp_path / "a.png")
    ground = tuple(int(COLOURS[theme]["ground"][start : start + 2], 16) for start in (1, 3, 5))
    assert tuple(image[0, 0]) == ground
    _, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    assert (
        counts > 0.05 * image.shape[0] * image.shape[1]
    ).sum() >= 4  # ground, and cells of 0, 10, 90, 100 %


def test_odd_names_empty_classes_and_wrong_files(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_fold_strips(
            {"a $x$": {"_g": {"_hidden": (0.1, 0.0, 0.2), "左": (0.3, 0.2, 0.4)}}}, tmp_path / "a.svg"
        )
        draw_confusions({"none": np.zeros((2, 2), int)}, tmp_path / "b.pdf")
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"end in .png, .svg, .pdf"):
        draw_confusions({"none": np.zeros((2, 2), int)}, tmp_path / "b.txt")
    with pytest.raises(ValueError, match="at least one metric"):
        draw_fold_strips({}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least one confusion"):
        draw_confusions({}, tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.pdf"]
