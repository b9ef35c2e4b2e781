import os
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.figures import Strip, strip_plot
from keypoint_detection.utils.colours import channel_colors


def pixels_of(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image)[..., ::-1]


def dots(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Return the centres of the blobs of one colour, `[n, 2]`."""
    mask = (image == np.array(color)).all(-1).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return centres[1:][stats[1:, cv2.CC_STAT_AREA] >= 5]


def test_dots_lie_on_the_axis_where_their_values_are(tmp_path: Path) -> None:
    strips = [Strip("run a", [0.0, 1.0, 0.25], ["x", "x", "x"], centre=0.5, interval=(0.4, 0.7))]
    strip_plot({"map": strips}, tmp_path / "plot.png")
    centres = dots(pixels_of(tmp_path / "plot.png"), channel_colors(1)[0])
    row = np.median(centres[:, 1])
    xs = np.sort(centres[np.abs(centres[:, 1] - row) < 2, 0])
    assert len(xs) == 3
    assert len(centres) == 4  # the fourth is in the legend
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(0.25, abs=0.01)


def test_every_name_has_its_colour_and_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    names = [f"fold {i}" for i in range(7)]
    values = [0.1, 0.2, float("nan"), 0.4, 0.5, float("inf"), 0.7]
    strip_plot({"map": [Strip("run", values, names, float("nan"), (0.1, float("nan")))]}, tmp_path / "a.png")
    image = pixels_of(tmp_path / "a.png")
    counts = [len(dots(image, color)) for color in channel_colors(7)]
    assert counts == [2, 2, 1, 2, 2, 1, 2]  # one more in the legend


@pytest.mark.parametrize(("n_panels", "n_strips"), [(1, 1), (2, 0), (12, 30)])
def test_any_number_of_panels_and_rows_is_readable(n_panels: int, n_strips: int, tmp_path: Path) -> None:
    strips = [
        Strip(f"a run with a long name and many words number {i}", [0.1, 0.2], ["a", "b"])
        for i in range(n_strips)
    ]
    strip_plot({f"metric {i}": strips for i in range(n_panels)}, tmp_path / "a.png", title="All of it")
    image = pixels_of(tmp_path / "a.png")
    n_dots = len(dots(image, channel_colors(1)[0]))
    assert n_dots == n_panels * n_strips + (1 if n_strips else 0)
    assert image.shape[0] < 6000
    assert image.shape[1] < 2000


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_the_suffix_gives_the_kind_and_the_same_plot_the_same_bytes(
    suffix: str, start: bytes, tmp_path: Path
) -> None:
    strips = [Strip("run", [0.1], ["fold"])]
    for name in "ab":
        strip_plot({"map": strips}, tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first.startswith(start)
    assert first == second


def test_odd_names_are_drawn_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["_hidden", "\u5de6\u76ee", "cost $x$ and $", "a\nb", ""]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strips = [Strip(name, [0.1, 0.2, 0.3, 0.4, 0.5], names) for name in names]
        strip_plot({"\u5de6 $\\frac$": strips}, tmp_path / "a.png", title="\u76ee $")
    image = pixels_of(tmp_path / "a.png")
    assert [len(dots(image, color)) for color in channel_colors(5)] == [6] * 5
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("panels", "name", "message"),
    [
        ({}, "a.png", "at least one panel"),
        ({"map": [Strip("run", [0.1, 0.2], ["a"])]}, "a.png", "1 names and 2 values"),
        ({"map": [Strip("run", [0.1], ["a"])]}, "a.jpg", "end in .png, .svg, .pdf"),
    ],
)
def test_what_cannot_be_plotted_is_refused(panels, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        strip_plot(panels, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_neither_pyplot_nor_a_window_is_used(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from keypoint_detection.figures import Strip, strip_plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "strip_plot({'map': [Strip('run', [0.1], ['a'])]}, Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    path = tmp_path / "a.png"
    environment = {**os.environ, "DISPLAY": "", "MPLBACKEND": "TkAgg"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert path.is_file()


def test_a_single_dot_lies_on_its_bar(tmp_path: Path) -> None:
    strip_plot({"map": [Strip("run", [0.5], ["all images"], 0.6, (0.2, 0.8))]}, tmp_path / "plot.png")
    image = pixels_of(tmp_path / "plot.png")
    rows = np.flatnonzero((image == 0xBB).all(-1).sum(1) > 50)  # the interval, no edges of letters
    centres = dots(image, channel_colors(1)[0])
    dot = centres[centres[:, 1].argmin()]  # the other one is in the legend below
    assert dot[1] == pytest.approx((rows.min() + rows.max()) / 2, abs=1.0)
