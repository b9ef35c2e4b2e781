"""Cross-validation: a training per fold, each scored on the images that it has not seen."""

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.command_flags import torch_device
from keypoint_detection.compare_figure import draw_strips, fold_strips
from keypoint_detection.compare_reading import read_evaluation
from keypoint_detection.data.coco_results import write_results
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.fold_scores import FoldScores, Resampling, summarise_folds
from keypoint_detection.fold_scores_predictions import out_of_fold_predictions
from keypoint_detection.fold_scores_record import (
    RECORD_FILE,
    CrossValidationRecord,
    FoldProgress,
    PlannedFold,
    ScoredFolds,
    digest_of_scores,
    fold_is_scored,
    is_cross_validation,
    read_record,
    read_scored_folds,
)
from keypoint_detection.fold_scores_table import fold_scores_content, write_fold_csv
from keypoint_detection.metric_contract import differences
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.cross_validation_plan import (
    CSV_FILE,
    FIGURE_FILE,
    PREDICTIONS_FILE,
    VALIDATION_FILE,
    CrossValidationPlan,
    FoldSplit,
    first_difference,
    make_plan,
)
from keypoint_detection.train.resume import TrainingInterrupted
from keypoint_detection.train.train import train
from keypoint_detection.train.utils import build_data_module, free_path

logger = logging.getLogger("keypoint_detection")

OF_THE_FOLD = ("labels", "images", "oks_ap")
"""Fields of a metric contract that each fold has of its own; OKS-AP is not defined for all images."""


@dataclass(frozen=True)
class _Run:
    """Hold a cross-validation under way."""

    plan: CrossValidationPlan
    record: CrossValidationRecord
    resampling: Resampling


def cross_validate(
    config: TrainConfig, output: str | Path, split: FoldSplit, resampling: Resampling | None = None
) -> FoldScores:
    """Train and score a detector per fold, and write what all folds say together.

    Every fold is scored by its last weights: the best ones are chosen by the very images that they would be
    scored on, which flatters them. Repeat the call after an interruption: what is finished is kept, and a
    training that had begun goes on from its last checkpoint.

    Args:
        config: Of every training; the data set is split, so it names no other file.
        output: Folder with a run folder per fold, `cross_validation.json` and `.csv`, `predictions.json` and
            `scores.png`.
        split: How the images are shared out.
        resampling: How the intervals are made.

    Returns:
        The scores over the folds.

    Raises:
        ValueError: The data or a setting is wrong, or the folder holds something else; one line.
        FileNotFoundError: A file is missing.
        TrainingInterrupted: The user stopped the run.
    """
    plan = make_plan(config, Path(output), split)
    is_new = not is_cross_validation(plan.output)
    run = _Run(plan, open_record(plan), resampling or Resampling())
    unfinished = [fold for fold in plan.folds if not _is_finished(run, fold)]
    try:
        for fold in unfinished:
            plan.write_fold(fold)
            _check_data(plan, fold)
    except (ValueError, OSError):
        if is_new:
            _remove(plan)
        raise
    for number, fold in enumerate(plan.folds, start=1):
        print(f"{fold.name} ({number} of {len(plan.folds)}): {_state(run, fold, unfinished)}", flush=True)
        if fold in unfinished:
            _train_fold(run, fold)
            _score_fold(run, fold)
    return _summarise(run)


def open_record(plan: CrossValidationPlan) -> CrossValidationRecord:
    """Return the record in the output folder, a new one where there is nothing yet.

    Raises:
        ValueError: The folder holds another cross-validation, or other files; one line.
    """
    settings = plan.settings()
    if is_cross_validation(plan.output):
        record = read_record(plan.output)
        found = first_difference(record.settings, settings)
        if found is not None:
            name, then, now = found
            raise ValueError(
                f"{plan.output} holds a cross-validation with {name} {json.dumps(then)}, asked for now is"
                f" {json.dumps(now)}; give another --output, or the same settings to go on"
            )
        return record
    if plan.output.exists() and not plan.output.is_dir():
        raise ValueError(f"--output: expected a folder, got the file {plan.output}; give another --output")
    if plan.output.exists() and any(not path.name.startswith(".") for path in plan.output.iterdir()):
        raise ValueError(
            f"{plan.output}: expected a new or empty folder, or one of a cross-validation to go on with, got"
            " other files; give another --output"
        )
    record = CrossValidationRecord(
        json.loads(json.dumps(settings)), plan.folds, {fold.name: FoldProgress() for fold in plan.folds}
    )
    record.write(plan.output)
    return record


def _check_data(plan: CrossValidationPlan, fold: PlannedFold) -> None:
    """Read the files of a fold as its training will: what is wrong with the last one should cost no hours."""
    try:
        data = build_data_module(plan.fold_config(fold))
    except ValueError as error:
        raise ValueError(f"the training of {fold.name} would fail: {error}") from None
    if data.validation_dataset is None or not len(data.validation_dataset.table.xy):
        raise ValueError(
            f"{fold.name}: expected labelled keypoints in the {len(fold.validation)} images to score, got"
            " none; use fewer folds or another --group_by, or leave out images without labels"
        )


def _remove(plan: CrossValidationPlan) -> None:
    """Remove what was written of a cross-validation that cannot begin; the next one may use the folder."""
    (plan.output / RECORD_FILE).unlink(missing_ok=True)
    for fold in plan.folds:
        shutil.rmtree(plan.output / fold.name, ignore_errors=True)


def _state(run: _Run, fold: PlannedFold, unfinished: Sequence[PlannedFold]) -> str:
    """Return what is to be done for a fold."""
    if fold not in unfinished:
        return "finished before"
    n, checkpoint = len(fold.validation), run.plan.output / fold.name / "checkpoints" / "last.ckpt"
    if checkpoint.is_file() and run.record.progress[fold.name].trained:
        return f"trained before, {n} images to score"
    other = " of other groups" if run.plan.split.group_by is not None else ""
    begun = "goes on from its last checkpoint, " if checkpoint.is_file() else ""
    return f"{begun}{len(run.plan.coco.images) - n} images{other} to train on, {n} to score"


def _is_finished(run: _Run, fold: PlannedFold) -> bool:
    """Return whether a fold is scored and all of its files are whole."""
    folder = run.plan.output / fold.name
    if not fold_is_scored(run.record, run.plan.output, fold.name):
        return False
    try:
        read_evaluation(folder)
        json.loads((folder / "eval" / PREDICTIONS_FILE).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return True


def _train_fold(run: _Run, fold: PlannedFold) -> None:
    """Train a fold unless it is trained; go on from its last checkpoint where there is one."""
    folder, progress = run.plan.output / fold.name, run.record.progress[fold.name]
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if progress.trained and checkpoint.is_file():
        return
    config = run.plan.fold_config(fold)
    if checkpoint.is_file():
        config = config.model_copy(update={"ckpt_path": str(checkpoint)})
    elif (folder / "metrics.csv").exists() or (folder / "checkpoints").exists():
        aside = free_path(folder.with_name(f"unfinished-{fold.name}"))
        folder.rename(aside)
        logger.info("%s had begun without a checkpoint; its files are in %s", fold.name, aside)
        run.plan.write_fold(fold)
    try:
        train(config)
    except TrainingInterrupted as stopped:
        text = f"interrupted in {fold.name}; the same command goes on where it stopped"
        raise TrainingInterrupted(text, stopped.number) from None
    finally:
        _end_wandb_run()
    progress.trained = True
    run.record.write(run.plan.output)


def _end_wandb_run() -> None:
    """End the run of wandb, if there is one: Lightning would log the next fold into it."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.finish()


def _score_fold(run: _Run, fold: PlannedFold) -> None:
    folder, config, progress = run.plan.output / fold.name, run.plan.config, run.record.progress[fold.name]
    has_groups = run.plan.split.group_by is not None and len(set(fold.groups or ())) > 1
    options = EvalOptions(
        group_by=run.plan.split.group_by if has_groups else None,
        n_resamples=run.resampling.n_resamples,
        level=run.resampling.level,
        interval=run.resampling.method,
        seed=run.resampling.seed,
        batch_size=config.batch_size,
        num_workers=config.num_workers or 0,
        device=torch_device(config.accelerator),
    )
    checkpoint = folder / "checkpoints" / "last.ckpt"
    evaluate(checkpoint, folder / VALIDATION_FILE, folder / "eval", options)
    progress.scored = digest_of_scores(folder)
    run.record.write(run.plan.output)


def _summarise(run: _Run) -> FoldScores:
    """Write the scores over all folds, the record last: it tells that everything else is there."""
    output = run.plan.output
    found = read_scored_folds(output)
    _check_same_definitions(found)
    scores = summarise_folds(found.sheets, run.resampling)
    files = [output / fold.name / "eval" / PREDICTIONS_FILE for fold in run.plan.folds]
    write_results(output / PREDICTIONS_FILE, out_of_fold_predictions(files, run.plan.coco))
    write_fold_csv(scores, output / CSV_FILE)
    draw_strips([fold_strips(output.name, scores)], output / FIGURE_FILE, run.resampling.level)
    run.record.scores = fold_scores_content(scores)
    run.record.write(output)
    return scores


def _check_same_definitions(found: ScoredFolds) -> None:
    """Refuse to average numbers that mean something else in one of the folds."""
    plain = [
        {name: value for name, value in fold.contract.items() if name not in OF_THE_FOLD}
        for fold in found.folds.values()
    ]
    for name, contract in zip(found.folds, plain, strict=True):
        apart = differences(plain[0], contract)
        if apart:
            field, one, other = apart[0]
            raise ValueError(
                f"{found.name}: expected the same definitions in every fold, got {field} {json.dumps(one)} in"
                f" {next(iter(found.folds))} and {json.dumps(other)} in {name}; give it as a flag"
            )
