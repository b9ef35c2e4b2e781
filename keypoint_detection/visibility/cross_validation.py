"""Cross-validation over views: a training per fold, each scored on the views that it has not seen."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.data.splits import k_folds
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.train.cross_validation_plan import first_difference, fold_names
from keypoint_detection.train.resume import TrainingInterrupted
from keypoint_detection.train.resume_config import LAST
from keypoint_detection.train.utils import free_path
from keypoint_detection.visibility.compare import GroupComparison
from keypoint_detection.visibility.compare_runs import write_group_comparison
from keypoint_detection.visibility.evaluate_files import METRICS_FILE, points_hash, read_evaluation
from keypoint_detection.visibility.factors import check_factors
from keypoint_detection.visibility.folds_file import EVAL_FOLDER, FOLDS_FILE, FoldsRecord, read_folds
from keypoint_detection.visibility.train import DATA_FOLDER, open_data, train
from keypoint_detection.visibility.train_config import MACHINE_FIELDS, VisibilityTrainConfig
from keypoint_detection.visibility.train_data import PointDataset, check_both_classes

REFUSED = ("validation_views", "run_name", "ckpt_path")
"""Settings of a training that the folds decide."""


def cross_validate(
    config: VisibilityTrainConfig,
    output: str | Path,
    *,
    folds: int | None = None,
    resampling: Resampling | None = None,
    data: PointDataset | None = None,
    is_quiet: bool = False,
    has_pages: bool = True,
) -> GroupComparison:
    """Train and score a classifier per fold of views, and write what all folds say together.

    Every fold is scored by its last weights: the best ones are chosen by the views that they would be scored
    on. Repeat the call after an interruption: finished folds are kept, and a training that had begun goes on
    from its last checkpoint.

    Args:
        config: Of every training; its seed also splits the views.
        output: Folder with a run folder per fold, `folds.json`, `comparison.csv` and `.md` and figures.
        folds: Number of folds, at least 2; None leaves out one view after the other.
        resampling: How the intervals are made.
        data: The data set, where it is open already.
        is_quiet: Show no progress.
        has_pages: Also write the page and the visibility distances of each fold.

    Returns:
        The scores of the folds, as a comparison of one group.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The data or a setting is wrong, or the folder holds something else; one line.
        TrainingInterrupted: The user stopped the run.
    """
    output, made = Path(output), resampling or Resampling()
    _check_config(config)
    _check_output(output)
    data = data or open_data(config, output)
    check_factors(data.pyramid.factors, align_features=config.align_features)
    views_of = planned_folds(data, folds, config.seed)
    for name, views in views_of.items():
        check_both_classes(data.without_views(views), f"training points of {name}")
    record = _open_record(output, _settings(config, data, folds), views_of, config.eval_group or output.name)
    for number, (name, views) in enumerate(views_of.items(), start=1):
        is_done = _is_finished(record, output, name)
        state = "finished before" if is_done else f"held out: {', '.join(views)}"
        print(f"{name} ({number} of {len(views_of)}), {state}", flush=True)
        if not is_done:
            own = fold_config(config, output, name, views)
            _run_fold(own, data, resampling=made, is_quiet=is_quiet, has_page=has_pages)
            record.scored[name] = _digest(output / name)
            record.write(output)
    return write_group_comparison(record.fold_folders(output), output, made)


def planned_folds(data: PointDataset, folds: int | None, seed: int) -> dict[str, list[str]]:
    """Return the views of each fold; every view with points is in one of them.

    Raises:
        ValueError: There are too few views.
    """
    views = data.views
    if len(views) < max(2, folds or 2):
        raise ValueError(
            f"{data.folder}: expected at least {max(2, folds or 2)} views for as many folds, got "
            f"{len(views)}; use fewer folds, or give --group_by another field"
        )
    if folds is None:
        return dict(zip(fold_names(views), ([view] for view in views), strict=True))
    images = np.unique(data.table.image).tolist()
    parts = k_folds(images, folds, seed, [data.table.views[image] for image in images])
    held_out = [{data.table.views[image] for image in part} for _, part in parts]
    return {
        f"fold{number}": [view for view in views if view in part]
        for number, part in enumerate(held_out, start=1)
    }


def _check_config(config: VisibilityTrainConfig) -> None:
    for name in REFUSED:
        if getattr(config, name) is not None:
            raise ValueError(
                f"--{name} does not go together with a cross-validation: the folds decide; leave it out"
            )


def _settings(config: VisibilityTrainConfig, data: PointDataset, folds: int | None) -> dict[str, Any]:
    """Return what must be the same to go on."""
    left_out = {*MACHINE_FIELDS, *REFUSED, "data", "json_dataset_path", "eval_group"}
    depth = hashlib.sha256(data.table.depth_m.tobytes()).hexdigest()[:12]
    return {
        "data": {"points": points_hash(data.table), "depth": depth, "factors": list(data.pyramid.factors)},
        "split": {"folds": folds},
        "config": config.model_dump(mode="json", exclude=left_out),
    }


def _open_record(
    output: Path, settings: Mapping[str, Any], views_of: Mapping[str, Sequence[str]], group: str
) -> FoldsRecord:
    """Return the record in the output folder, a new one where there is nothing yet."""
    if (output / FOLDS_FILE).is_file():
        record = read_folds(output)
        found = first_difference(record.settings, settings)
        if found is not None:
            name, then, now = found
            raise ValueError(
                f"{output} holds a cross-validation with {name} {json.dumps(then)}, asked for now is "
                f"{json.dumps(now)}; give another --output, or the same settings to go on"
            )
        return dataclasses.replace(record, group=group)
    record = FoldsRecord(group, settings, {name: list(views) for name, views in views_of.items()}, {})
    record.write(output)
    return record


def _check_output(output: Path) -> None:
    """Refuse a folder that holds something else, before anything is written there."""
    is_own = not output.exists() or (output / FOLDS_FILE).is_file()
    if not is_own and (not output.is_dir() or _is_foreign(output)):
        raise ValueError(
            f"{output}: expected a new or empty folder, or one of a cross-validation to go on with; give "
            "another --output"
        )


def _is_foreign(output: Path) -> bool:
    """Return whether a folder holds anything but a data set that a call that was cut short has built."""
    return any(path.name != DATA_FOLDER and not path.name.startswith(".") for path in output.iterdir())


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / EVAL_FOLDER / METRICS_FILE).read_bytes()).hexdigest()


def _is_finished(record: FoldsRecord, output: Path, name: str) -> bool:
    """Return whether a fold is scored, and its files are whole and those of then."""
    try:
        read_evaluation(output / name / EVAL_FOLDER)
        return record.scored.get(name) == _digest(output / name)
    except (ValueError, OSError):
        return False


def fold_config(
    config: VisibilityTrainConfig, output: Path, name: str, views: Sequence[str]
) -> VisibilityTrainConfig:
    """Return the configuration of the training of a fold, which goes on where it was cut short."""
    update = {
        "validation_views": list(views),
        "default_root_dir": str(output),
        "run_name": name,
        "ckpt_path": LAST,
        "eval_group": config.eval_group or output.name,
    }
    return config.model_copy(update=update)


def _run_fold(
    config: VisibilityTrainConfig,
    data: PointDataset,
    *,
    resampling: Resampling,
    is_quiet: bool,
    has_page: bool,
) -> None:
    """Train and score a fold; the files of one that ended before its first checkpoint are set aside."""
    name = config.run_name or ""
    folder = Path(config.default_root_dir) / name
    if (folder / "metrics.csv").exists() and not (folder / "checkpoints" / "last.ckpt").is_file():
        folder.rename(free_path(folder.with_name(f"unfinished-{name}")))
    try:
        train(config, data=data, resampling=resampling, is_quiet=is_quiet, has_page=has_page)
    except TrainingInterrupted as stopped:
        text = f"interrupted in {name}; the same command goes on where it stopped"
        raise TrainingInterrupted(text, stopped.number) from None
