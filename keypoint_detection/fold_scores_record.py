"""The file of a cross-validation: its folds and settings, how far it is, and in the end its scores."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keypoint_detection.compare_reading import METRICS_FILE, Evaluation, read_evaluation
from keypoint_detection.files import write_json
from keypoint_detection.metric_contract import HASH, with_hash
from keypoint_detection.score_sheet import ScoreSheet

RECORD_FILE = "cross_validation.json"
FORMAT, VERSION = "keypoint_detection cross-validation", 1
GO_ON = "finish it with the same keypoint-detection cross-validate command"


@dataclass(frozen=True)
class PlannedFold:
    """Hold which images a fold is scored on; it is trained on all others.

    Attributes:
        name: Name of its folder.
        validation: Image ids, in the order of the data set.
        groups: The group of each of them; None where images stand for themselves.
    """

    name: str
    validation: tuple[int, ...]
    groups: tuple[str, ...] | None = None


@dataclass
class FoldProgress:
    """Hold how far a fold is.

    Attributes:
        trained: Its training came to the end.
        scored: SHA-256 of the `metrics.json` that it was scored with; None before.
    """

    trained: bool = False
    scored: str | None = None


@dataclass
class CrossValidationRecord:
    """Hold the content of `cross_validation.json`.

    Attributes:
        settings: What must be the same to go on: `data`, `split` and `config`, plain values by name.
        folds: The folds in their order.
        progress: How far each fold is, by its name.
        scores: The scores over all folds; None before the last fold is scored.
    """

    settings: Mapping[str, Any]
    folds: tuple[PlannedFold, ...]
    progress: dict[str, FoldProgress] = field(default_factory=dict)
    scores: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        write_json(folder / RECORD_FILE, content)


@dataclass(frozen=True)
class ScoredFolds:
    """Hold a finished cross-validation.

    Attributes:
        name: The path that was asked for.
        folds: The evaluation of every fold by its name; the groups of its images are those of the split.
    """

    name: str
    folds: dict[str, Evaluation]

    @property
    def sheets(self) -> dict[str, ScoreSheet]:
        """Return the scores of the images of every fold, in rising order of their ids."""
        return {name: evaluation.sheet for name, evaluation in self.folds.items()}

    @property
    def contract_hash(self) -> str:
        """Return what stands for the definitions and the labels of all folds."""
        return with_hash({"folds": [fold.contract[HASH] for fold in self.folds.values()]})[HASH]


def is_cross_validation(path: str | Path) -> bool:
    """Return whether a folder holds a cross-validation."""
    return (Path(path) / RECORD_FILE).is_file()


def read_record(folder: Path) -> CrossValidationRecord:
    """Read the `cross_validation.json` of a folder.

    Raises:
        ValueError: It is broken or of another version; one line.
    """
    path = folder / RECORD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        folds = tuple(_planned(fold) for fold in content["folds"])
        progress = {name: FoldProgress(**state) for name, state in content["progress"].items()}
        return CrossValidationRecord(dict(content["settings"]), folds, progress, content["scores"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected the record of a cross-validation, got something else"
            f" ({' '.join(str(error).split())}); give another --output, or remove {folder} to start again"
        ) from None


def _planned(fold: Mapping[str, Any]) -> PlannedFold:
    groups = fold["groups"]
    return PlannedFold(fold["name"], tuple(fold["validation"]), None if groups is None else tuple(groups))


def read_scored_folds(folder: str | Path) -> ScoredFolds:
    """Read the evaluation of every fold of a cross-validation.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or a fold is not scored yet; one line.
    """
    record = read_record(Path(folder))
    missing = [fold.name for fold in record.folds if not fold_is_scored(record, Path(folder), fold.name)]
    if missing:
        raise ValueError(
            f"{folder}: {len(record.folds) - len(missing)} of {len(record.folds)} folds are scored, the first"
            f" that is not is {missing[0]}; {GO_ON}"
        )
    return ScoredFolds(str(folder), {fold.name: _evaluation(Path(folder), fold) for fold in record.folds})


def _evaluation(folder: Path, fold: PlannedFold) -> Evaluation:
    """Read the evaluation of a fold, with the groups of the split."""
    evaluation = read_evaluation(folder / fold.name)
    ids = evaluation.sheet.image_ids.tolist()
    if set(ids) != set(fold.validation):
        raise ValueError(f"{folder / fold.name}: expected scores of the images of the fold; {GO_ON}")
    group_of = None if fold.groups is None else dict(zip(fold.validation, fold.groups, strict=True))
    groups = None if group_of is None else tuple(group_of[image_id] for image_id in ids)
    return dataclasses.replace(evaluation, sheet=dataclasses.replace(evaluation.sheet, groups=groups))


def fold_is_scored(record: CrossValidationRecord, folder: Path, name: str) -> bool:
    """Return whether the evaluation in a fold's folder is whole and the one that its training ended with.

    Somebody may have scored a checkpoint of the fold by hand since, with other choices, into the same place.
    """
    scored = record.progress.get(name, FoldProgress()).scored
    return scored is not None and scored == digest_of_scores(folder / name)


def digest_of_scores(fold_folder: Path) -> str | None:
    """Return the SHA-256 of the `metrics.json` in a fold's folder, None where there is none."""
    path = fold_folder / "eval" / METRICS_FILE
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
