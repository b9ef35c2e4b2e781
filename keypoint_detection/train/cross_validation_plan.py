"""What a cross-validation does: its folds, their files and settings, and what makes it the same one again."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.datamodule import resized_dataset_path
from keypoint_detection.data.splits import k_folds
from keypoint_detection.dataset_files import relocated, write_together
from keypoint_detection.fold_scores_record import RECORD_FILE, PlannedFold
from keypoint_detection.fold_scores_table import CSV_HEADINGS
from keypoint_detection.score_settings import normalizer_of, sigmas_of
from keypoint_detection.split_dataset import kept_together, part_of
from keypoint_detection.train.cli import UsageError
from keypoint_detection.train.config import TrainConfig

TRAIN_FILE, VALIDATION_FILE = "train.json", "validation.json"
PREDICTIONS_FILE, FIGURE_FILE, CSV_FILE = "predictions.json", "scores.png", "cross_validation.csv"

RESERVED_NAMES = (RECORD_FILE, PREDICTIONS_FILE, FIGURE_FILE, CSV_FILE, *CSV_HEADINGS)
"""What no fold may be called: other files of the folder, and other columns of the table."""

LONGEST_NAME = 60
"""Characters of a fold's name; a group may be a whole path."""

MACHINE_FIELDS = (
    *("accelerator", "devices", "num_workers", "default_root_dir"),
    *("cache", "cache_mb", "cache_dir", "prefetch"),
)
"""Settings that may change between two parts of a cross-validation: where and how fast it runs."""

REFUSED = {
    "json_validation_dataset_path": "every image of the training file is in the validation part of one fold",
    "json_test_dataset_path": "it would be scored once per fold; score a checkpoint on it with eval",
    "ckpt_path": "every fold is a training of its own, and goes on by itself when the command is repeated",
    "run_name": "the folders are named by the folds; give --output",
    "fast_dev_run": "it leaves no weights to score",
}
"""Flags of a training that a cross-validation does not take, and why."""


@dataclass(frozen=True)
class FoldSplit:
    """Hold how the images are shared out.

    Attributes:
        folds: Number of folds, at least 2; None with `leave_one_group_out`.
        leave_one_group_out: A fold per group of images.
        group_by: "folder", or a field of the images: a group is never on both sides.
        seed: Seed of the split, apart from that of the trainings.
    """

    folds: int | None = None
    leave_one_group_out: bool = False
    group_by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.folds is None) != self.leave_one_group_out:
            raise UsageError("expected one of --folds and --leave_one_group_out")
        if self.folds is not None and self.folds < 2:
            raise UsageError(f"--folds: expected at least 2; got {self.folds}")
        if self.leave_one_group_out and self.group_by is None:
            raise UsageError("--leave_one_group_out needs --group_by: a field of the images, or folder")


@dataclass(frozen=True)
class CrossValidationPlan:
    """Hold everything that a cross-validation does.

    Attributes:
        config: Of every training but for its files; definite where a fold alone could give another choice.
        coco: The whole data set.
        output: Folder of the cross-validation.
        split: How the images are shared out.
        folds: The folds in their order.
    """

    config: TrainConfig
    coco: CocoKeypoints
    output: Path
    split: FoldSplit
    folds: tuple[PlannedFold, ...]

    def fold_config(self, fold: PlannedFold) -> TrainConfig:
        """Return the configuration of the training of a fold."""
        folder = self.output / fold.name
        wandb_name = f"{self.config.wandb_name or self.output.name}-{fold.name}"
        return self.config.model_copy(
            update={
                "json_dataset_path": str(folder / TRAIN_FILE),
                "json_validation_dataset_path": str(folder / VALIDATION_FILE),
                "default_root_dir": str(self.output),
                "run_name": fold.name,
                "wandb_name": wandb_name if self.config.uses_wandb else None,
            }
        )

    def write_fold(self, fold: PlannedFold) -> None:
        """Write the two COCO files of a fold, which lead to the images where they are."""
        folder, held_out = self.output / fold.name, set(fold.validation)
        ids = {image.id for image in self.coco.images}
        parts = {
            TRAIN_FILE: part_of(self.coco, ids - held_out),
            VALIDATION_FILE: part_of(self.coco, held_out),
        }
        source = Path(self.config.json_dataset_path).parent
        for part in parts.values():
            part.images = relocated(part.images, source, folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_together({folder / name: part for name, part in parts.items()})

    def settings(self) -> dict[str, Any]:
        """Return what must be the same to go on with a cross-validation, as plain values."""
        left_out = {*MACHINE_FIELDS, "json_dataset_path", *REFUSED}
        return {
            "data": _data_settings(Path(self.config.json_dataset_path), self.coco),
            "split": dataclasses.asdict(self.split),
            "config": self.config.model_dump(mode="json", exclude=left_out),
        }


def make_plan(config: TrainConfig, output: Path, split: FoldSplit) -> CrossValidationPlan:
    """Read the data set and share out its images.

    Raises:
        UsageError: A flag does not go together with a cross-validation.
        FileNotFoundError: There is no such data set.
        ValueError: The data set or the groups of its images are wrong; one line.
    """
    check_config(config)
    path = Path(config.json_dataset_path)
    if config.json_dataset_img_size:
        path = resized_dataset_path(path, config.json_dataset_img_size)
    coco = read_coco(path)
    resolved = _resolved(config, path, coco)
    return CrossValidationPlan(resolved, coco, output, split, planned_folds(coco, split))


def check_config(config: TrainConfig) -> None:
    """Refuse the settings that only a single training can have."""
    for name, reason in REFUSED.items():
        if getattr(config, name):
            raise UsageError(f"--{name} does not go together with a cross-validation: {reason}")
    several = config.devices not in {"auto", 1} and not re.fullmatch(r"\d+,?", str(config.devices))
    if several or (isinstance(config.devices, int) and config.devices != 1):
        raise UsageError(f"--devices: folds are trained one by one on one device; got {config.devices!r}")


def _resolved(config: TrainConfig, path: Path, coco: CocoKeypoints) -> TrainConfig:
    """Return the configuration with the definitions of the scores that the whole data set gives.

    A fold by itself could get another normaliser or other OKS constants, and numbers that no mean is over.
    """
    normalizer = normalizer_of(read_table(path, coco), config.scoring)
    reference = None if normalizer.reference is None else list(normalizer.reference)
    update: dict[str, Any] = {
        "json_dataset_path": str(path),
        "json_dataset_img_size": None,
        "pck_normalizer": normalizer.name,
        "pck_reference": reference,
        "devices": 1 if config.devices == "auto" else config.devices,
    }
    if config.oks_sigmas == "estimate":
        update["oks_sigmas"] = sigmas_of(coco, config.oks_sigmas).by_name()
    return config.model_copy(update=update)


def planned_folds(coco: CocoKeypoints, split: FoldSplit) -> tuple[PlannedFold, ...]:
    """Return the folds of a data set; every image is in the validation part of one of them.

    Raises:
        ValueError: There are too few images or groups.
    """
    ids = [image.id for image in coco.images]
    groups = kept_together(coco, split.group_by)
    group_of = None if groups is None else dict(zip(ids, groups, strict=True))
    if group_of is not None and split.leave_one_group_out:
        order = sorted(set(group_of.values()))
        parts = [{i for i in ids if group_of[i] == group} for group in order]
        names = fold_names(order)
    else:
        parts = [set(part) for _, part in k_folds(ids, split.folds or 0, split.seed, groups)]
        names = [f"fold{number}" for number in range(1, len(parts) + 1)]
    folds = []
    for name, part in zip(names, parts, strict=True):
        held_out = tuple(i for i in ids if i in part)
        labels = None if group_of is None else tuple(group_of[i] for i in held_out)
        folds.append(PlannedFold(name, held_out, labels))
    return tuple(folds)


def fold_names(groups: Iterable[str]) -> list[str]:
    """Return a name for each group that is safe for a path, and unique where letters have no case as well."""
    names: list[str] = []
    taken = {name.lower() for name in RESERVED_NAMES}
    for group in groups:
        stem = re.sub(r"[^\w.-]+", "_", group)[-LONGEST_NAME:].strip("._-") or "group"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def _data_settings(path: Path, coco: CocoKeypoints) -> dict[str, Any]:
    """Return what stands for the data: counts, the COCO file bit by bit, and the sizes of the image files."""
    images = hashlib.sha256()
    for image in coco.images:
        file = path.parent / image.file_name
        images.update(f"{image.file_name}\n{file.stat().st_size if file.is_file() else -1}\n".encode())
    return {
        "images": len(coco.images),
        "annotations": len(coco.annotations),
        "coco_file": hashlib.sha256(path.read_bytes()).hexdigest()[:12],
        "image_files": images.hexdigest()[:12],
    }


def first_difference(
    then: Mapping[str, Any], now: Mapping[str, Any], sections: Sequence[str] = ("data", "split", "config")
) -> tuple[str, Any, Any] | None:
    """Return the first setting that differs, and both values; None where all are the same."""
    from keypoint_detection.metric_contract import differences

    for section in sections:
        found = differences(then.get(section, {}), now.get(section, {}))
        if found:
            name, *values = found[0]
            return f"{section}.{name}", values[0], values[1]
    return None
