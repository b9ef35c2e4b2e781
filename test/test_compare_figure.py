import cv2
import numpy as np
import pytest
from scored_folds import error_sheet, write_cross_validation, write_evaluation

from keypoint_detection import compare_figure
from keypoint_detection.compare_figure import draw_runs, draw_strips
from keypoint_detection.figures import Strip
from keypoint_detection.fold_scores import Resampling


def folds(shift: float) -> dict:
    return {
        f"fold{k}": error_sheet([3 * k, 3 * k + 1, 3 * k + 2], [k + shift, k + 2 * shift, k + 1.0])
        for k in range(4)
    }


def test_cross_validations_are_drawn_with_a_dot_per_fold(tmp_path) -> None:
    paths = [
        write_cross_validation(tmp_path / name, folds(shift)) for name, shift in (("a", 0.5), ("b", 2.0))
    ]
    draw_runs(paths, tmp_path / "new" / "scores.png", Resampling(50))
    image = cv2.imread(str(tmp_path / "new" / "scores.png"))
    assert image is not None
    colours = np.unique(image.reshape(-1, 3), axis=0)
    saturated = colours[np.ptp(colours.astype(int), axis=1) > 100]
    assert len(saturated) > 4  # four folds, and the edges of their dots
    assert len(colours) > 20


def test_single_runs_have_a_dot_with_its_interval(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(compare_figure, "strip_plot", lambda *given, title: drawn.append((*given, title)))
    one = write_evaluation(tmp_path / "a", error_sheet([1, 2, 3], [1.0, 2.0, 6.0], nme=[0.1, 0.2, 0.3]))
    other = write_evaluation(tmp_path / "b", error_sheet([1, 2, 3], [2.0, 2.0, 2.0]))
    draw_runs([one, other], tmp_path / "scores.png", Resampling(50))
    ((panels, path, title),) = drawn
    assert path == tmp_path / "scores.png"
    assert title == "line: over all images; bar: its 95 % interval"
    (strips,) = panels.values()  # what only one of them has cannot be compared
    assert list(panels) == ["mean_error_px (lower is better)"]
    assert [strip.label for strip in strips] == [str(one), str(other)]
    assert [list(strip.values) for strip in strips] == [[3.0], [2.0]]
    assert {name for strip in strips for name in strip.names} == {"all images"}
    low, high = strips[0].interval
    assert low < strips[0].centre == 3.0 < high


def test_the_figure_says_what_line_and_bar_are(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(compare_figure, "strip_plot", lambda *given, title: drawn.append((*given, title)))
    strip = Strip("run", [0.5, 0.7], ["fold1", "fold2"], 0.6, (0.4, 0.8))
    draw_strips([{"map": strip, "c/nme": strip, "nme": strip}], tmp_path / "a.png", 0.9)
    ((panels, _, title),) = drawn
    assert list(panels) == ["map", "c/nme (lower is better)", "nme (lower is better)"]
    assert title == "line: mean over the folds; bar: its 90 % interval"
