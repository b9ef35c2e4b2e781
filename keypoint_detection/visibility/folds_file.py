"""The file of a cross-validation over views: its folds and settings, and which of them are scored."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.files import write_json
from keypoint_detection.visibility.compare import FoldFolder

FOLDS_FILE = "folds.json"
FORMAT, VERSION = "keypoint_detection visibility cross-validation", 1
EVAL_FOLDER = "eval"


@dataclass
class FoldsRecord:
    """Hold the content of `folds.json`.

    Attributes:
        group: What a comparison calls it.
        settings: What must be the same to go on: `data`, `split` and `config`.
        folds: The views of each fold, by its name.
        scored: SHA-256 of the `metrics.json` of each fold that is scored.
    """

    group: str
    settings: Mapping[str, Any]
    folds: dict[str, list[str]]
    scored: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        write_json(folder / FOLDS_FILE, {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)})

    def fold_folders(self, folder: Path, group: str | None = None) -> list[FoldFolder]:
        """Return where the evaluations of the folds are, as `compare_groups` takes them.

        Raises:
            ValueError: A fold is not scored yet.
        """
        for name in self.folds:
            if name not in self.scored:
                raise ValueError(
                    f"{folder}: expected a finished cross-validation, got one without scores of {name!r}; go "
                    "on with the same keypoint-detection visibility cross-validate command"
                )
        return [FoldFolder(group or self.group, name, folder / name / EVAL_FOLDER) for name in self.folds]


def read_folds(folder: str | Path) -> FoldsRecord:
    """Read the `folds.json` of a folder.

    Raises:
        ValueError: It is broken or of another version; one line.
    """
    path = Path(folder) / FOLDS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        return FoldsRecord(
            str(content["group"]), dict(content["settings"]), dict(content["folds"]), dict(content["scored"])
        )
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the record of a cross-validation over views, got something else "
            f"({' '.join(str(error).split())}); remove {folder} to start again"
        ) from None
