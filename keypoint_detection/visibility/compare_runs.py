"""Compare runs, evaluations and cross-validations of visibility by group: table, figure and confusions."""

import json
from collections.abc import Sequence
from pathlib import Path

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.compare import FoldFolder, GroupComparison, compare_groups
from keypoint_detection.visibility.compare_difference import LOWER_IS_BETTER
from keypoint_detection.visibility.compare_table import write_comparison
from keypoint_detection.visibility.evaluate_files import METRICS_FILE
from keypoint_detection.visibility.figures import FoldScore, draw_confusions, draw_fold_strips
from keypoint_detection.visibility.folds_file import EVAL_FOLDER, FOLDS_FILE, read_folds

STRIPS_FILE, CONFUSIONS_FILE = "comparison.png", "confusions.png"
SHOWN = ("balanced_accuracy", "auroc", "f1", "loss", "ece", "brier")
MOST_NAMES = 3
"""Views that are named in the name of a fold that is a run by itself."""


def write_group_comparison(
    folders: Sequence[FoldFolder],
    output: str | Path,
    resampling: Resampling | None = None,
    *,
    metrics: Sequence[str] = SHOWN,
) -> GroupComparison:
    """Compare groups and write `comparison.csv`, `.md` and `.png`, and `confusions.png`.

    Raises:
        FileNotFoundError: A file of an evaluation is missing.
        ValueError: A file is broken, or the groups are of other points or folds; one line.
    """
    comparison, output = compare_groups(folders, resampling), Path(output)
    panels = {
        metric + (" (lower is better)" if metric in LOWER_IS_BETTER else ""): {
            group: {fold: FoldScore(*interval) for fold, interval in folds.items()}
            for group, folds in groups.items()
        }
        for metric, groups in comparison.panels(metrics).items()
    }
    output.mkdir(parents=True, exist_ok=True)
    write_comparison(comparison, output)
    draw_fold_strips(panels, output / STRIPS_FILE)
    draw_confusions(comparison.confusions, output / CONFUSIONS_FILE)
    return comparison


def fold_folders(paths: Sequence[str | Path], groups: Sequence[str] | None = None) -> list[FoldFolder]:
    """Return the evaluations of runs, with group and fold of each.

    Args:
        paths: Folder of a run, of an evaluation, or of a cross-validation.
        groups: What to call each path, one for each; None takes the name that it was trained or evaluated
            under (`eval_group`), else that of the folder of its run.

    Raises:
        FileNotFoundError: A folder holds none of them.
        ValueError: There are more or fewer names than folders, or a file is broken.
    """
    if groups is not None and len(groups) != len(paths):
        raise ValueError(f"--eval_group: expected a name for each of {len(paths)} folders, got {len(groups)}")
    names: Sequence[str | None] = groups or [None] * len(paths)
    return [one for path, name in zip(paths, names, strict=True) for one in _of_path(Path(path), name)]


def _of_path(path: Path, group: str | None) -> list[FoldFolder]:
    if (path / FOLDS_FILE).is_file():
        return read_folds(path).fold_folders(path, group)
    folder = path if (path / METRICS_FILE).is_file() else path / EVAL_FOLDER
    file = folder / METRICS_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: expected a run, an evaluation or a cross-validation of visibility, "
            f"found no {METRICS_FILE}"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        views, named = list(content["views"]), content["about"].get("eval_group")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: expected the numbers of an evaluation of points, got something else"
        ) from None
    run = folder.resolve().parent if folder.name == EVAL_FOLDER else folder.resolve()
    fold = ", ".join(sorted(views)) if len(views) <= MOST_NAMES else f"{len(views)} views"
    return [FoldFolder(group or named or run.name, fold, folder)]
