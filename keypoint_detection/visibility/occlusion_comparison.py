"""Patches beside signed heatmaps: both learn from the same drawn images which keypoints are covered.

Both are scored at the same labelled keypoints of unseen images, and at what detectors find there.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.synthetic import KINDS
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.files import write_json, write_text
from keypoint_detection.metrics.visibility_statistics import VisibilityStatistic
from keypoint_detection.predict import predict_to_files
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.score_sheet import ReindexedStatistic, load_score_sheet
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train as train_detector
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.visibility.occlusion_scores import (
    LabelledPoints,
    classifier_logits,
    labelled_points,
    matched_scores,
    point_scores,
    signed_logits,
)
from keypoint_detection.visibility.occlusion_table import (
    DETECTIONS,
    LABELS,
    Row,
    points_text,
    row_content,
    table_text,
)
from keypoint_detection.visibility.predict_visibility import load_point_visibility
from keypoint_detection.visibility.synthetic_occluders import make_occluded
from keypoint_detection.visibility.train import train as train_classifier
from keypoint_detection.visibility.train_config import VisibilityTrainConfig

TABLE_FILE, NUMBERS_FILE, POINTS_FILE = "comparison.md", "metrics.json", "points-{seed}.csv"
PATCHES, SIGNED = "patches", "signed heatmaps"
TRAIN_SEED, UNSEEN_SEED = 1, 2
EVAL_FOLDER = "eval-unseen"
HELD_OUT = 0.05
"""Share of the training images that both trainings validate on; the scores are those of unseen images."""

ALL_DETECTIONS = 0.0
"""Least score of a detection: an evaluation scores all that the decoder gives."""


@dataclass(frozen=True)
class ComparisonOptions:
    """Hold the sizes of a comparison.

    Attributes:
        images: Drawn images to train on.
        unseen: Drawn images to score on.
        epochs: Passes of the patch classifier over the points.
        steps: Optimiser steps of each detector.
        seeds: Trainings of each kind, with seeds 0, 1 ...; the images stay the same.
        kind: A name in `data.synthetic.KINDS`.
        side_px: Height and width of the images.
        patch_px: Side of the patches, in pixels of each level.
        size_hidden: Channels of the patch classifier.
        n_channels: Channels of the first level of the detectors' U-Net.
        loss_function: Loss of the signed heatmaps.
        learning_rate: Peak learning rate of the detectors.
        n_resamples: Bootstrap resamples of the images behind the intervals.
    """

    images: int = 300
    unseen: int = 100
    epochs: int = 6
    steps: int = 1000
    seeds: int = 1
    kind: str = "flowers"
    side_px: int = 128
    patch_px: int = 32
    size_hidden: int = 32
    n_channels: int = 16
    loss_function: str = "MSE"
    learning_rate: float = 6e-3
    n_resamples: int = 1000

    def __post_init__(self) -> None:
        """Check the numbers that images and trainings are counted by."""
        for name in ("images", "unseen", "epochs", "steps", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}: expected 1 or more, got {getattr(self, name)}")


def compare_occlusion(output: str | Path, options: ComparisonOptions | None = None) -> list[Row]:
    """Draw images, train, score; write `comparison.md`, `metrics.json` and `points-<seed>.csv`.

    Args:
        output: Folder for the images, the runs (`runs/`) and the files.
        options: Sizes; None takes the defaults.

    Returns:
        The lines of the table, four per seed.

    Raises:
        ValueError: An option is wrong; one line.
        FileExistsError: The folder holds the runs of another comparison.
    """
    options, output = options or ComparisonOptions(), Path(output)
    if (output / "runs").exists():
        raise FileExistsError(f"{output} holds the runs of an earlier comparison; give another --output")
    size = (options.side_px, options.side_px)
    train = make_occluded(output / "train", options.images, size, TRAIN_SEED, kind=options.kind)
    unseen = make_occluded(output / "unseen", options.unseen, size, UNSEEN_SEED, kind=options.kind)
    rows: list[Row] = []
    for seed in range(options.seeds):
        rows += _compare_once(output, train, unseen, seed, options)
        write_text(output / TABLE_FILE, table_text(rows))
    write_json(
        output / NUMBERS_FILE, {"options": asdict(options), "rows": [row_content(row) for row in rows]}
    )
    return rows


def _compare_once(
    output: Path, train: Path, unseen: Path, seed: int, options: ComparisonOptions
) -> list[Row]:
    runs = output / "runs"
    points = labelled_points(unseen, KINDS[options.kind].channels)
    patches, patches_s = _timed(lambda: _train_patches(train, runs, seed, options))
    signed, signed_s = _timed(lambda: _train_detector(train, runs, seed, options, "signed"))
    plain, plain_s = _timed(lambda: _train_detector(train, runs, seed, options, "ignore"))
    logits = {
        PATCHES: classifier_logits(load_point_visibility(patches), points),
        SIGNED: signed_logits(load_model(signed), points),
    }
    write_text(output / POINTS_FILE.format(seed=seed), points_text(points, logits))
    rows = [label_row(way, logits[way], points, options.n_resamples) for way in (PATCHES, SIGNED)]
    rows.append(_signed_row(signed, unseen, options.n_resamples))
    rows.append(_patches_row(plain, patches, unseen, points, options.n_resamples))
    seconds = (patches_s, signed_s, signed_s, patches_s + plain_s)
    return [row._replace(seed=seed, training_s=one) for row, one in zip(rows, seconds, strict=True)]


def _timed(run: Callable[[], Path]) -> tuple[Path, float]:
    begin = time.perf_counter()
    return run(), time.perf_counter() - begin


def _train_patches(train: Path, runs: Path, seed: int, options: ComparisonOptions) -> Path:
    """Train as `visibility train --json_dataset_path` does, and return the last checkpoint."""
    config = VisibilityTrainConfig(
        json_dataset_path=str(train),
        factors=[1, 2, 4],
        patch_px=options.patch_px,
        size_hidden=options.size_hidden,
        learning_rate=3e-3,
        max_epochs=options.epochs,
        check_val_every_n_epoch=options.epochs,
        validation_split_ratio=HELD_OUT,
        num_workers=0,
        accelerator="cpu",
        seed=seed,
        default_root_dir=str(runs),
        run_name=f"patches-{seed}",
    )
    return train_classifier(config, is_quiet=True, has_page=False).last_checkpoint


def _train_detector(
    train: Path, runs: Path, seed: int, options: ComparisonOptions, occlusion: Literal["ignore", "signed"]
) -> Path:
    """Train as `train --occlusion` does, and return the last checkpoint."""
    config = TrainConfig(
        json_dataset_path=str(train),
        keypoint_channel_configuration=KINDS[options.kind].channels,
        occlusion=occlusion,
        loss_function=options.loss_function if occlusion == "signed" else None,
        learning_rate=options.learning_rate,
        backbone_options={"n_channels": options.n_channels},
        augment_train=True,
        augment_vertical_flip=0.5,
        validation_split_ratio=HELD_OUT,
        max_epochs=-1,
        check_val_every_n_epoch=options.steps,
        num_workers=0,
        accelerator="cpu",
        seed=seed,
        default_root_dir=str(runs),
        run_name=f"{occlusion}-{seed}",
        trainer={"max_steps": options.steps, "enable_progress_bar": False},
    )
    last = train_detector(config).last_checkpoint
    assert last is not None  # only a fast_dev_run has none
    return last


def label_row(way: str, logits: NDArray[np.float64], points: LabelledPoints, n_resamples: int = 1000) -> Row:
    """Return the scores of logits `[p]` at the labelled keypoints."""
    scores = point_scores(logits, points, n_resamples)
    return Row(way, LABELS, len(logits), scores["auroc"], scores["balanced_accuracy"])


def _signed_row(signed: Path, unseen: Path, n_resamples: int) -> Row:
    """Evaluate the signed detector as `eval` does."""
    folder = signed.parent.parent / EVAL_FOLDER
    values = evaluate(signed, unseen, folder, EvalOptions(n_resamples=0, report=False))
    sheet = load_score_sheet(folder / "matches.npz")
    found = sheet.intervals(n_resamples)
    told = [one.statistic for one in sheet.statistics if isinstance(one, ReindexedStatistic)]
    n_points = sum(int(one.num_pairs.sum()) for one in told if isinstance(one, VisibilityStatistic))
    auroc, accuracy = found["visibility_auroc"], found["visibility_accuracy"]
    return Row(SIGNED, DETECTIONS, n_points, auroc, accuracy, values["map"])


def _patches_row(plain: Path, patches: Path, unseen: Path, points: LabelledPoints, n_resamples: int) -> Row:
    """Predict as `predict --visibility` does; the AP is that of `eval`."""
    run = plain.parent.parent
    values = evaluate(plain, unseen, run / EVAL_FOLDER, EvalOptions(n_resamples=0, report=False))
    asked = PredictOptions(confidence_threshold=ALL_DETECTIONS, visibility=patches, overlays=False)
    predict_to_files(plain, points.paths, run / "predict-unseen", asked)
    found, n_points = matched_scores(run / "predict-unseen" / "predictions.json", points, n_resamples)
    auroc, accuracy = found["visibility_auroc"], found["visibility_accuracy"]
    return Row(f"plain heatmaps + {PATCHES}", DETECTIONS, n_points, auroc, accuracy, values["map"])
