"""Where the tables of a DeepLabCut project lie, and which of them count."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.data.formats.deeplabcut_config import ProjectConfig, read_config
from keypoint_detection.data.formats.deeplabcut_csv import read_label_table
from keypoint_detection.data.formats.deeplabcut_hdf5 import INSTALL, read_label_table_hdf5
from keypoint_detection.data.formats.deeplabcut_table import (
    LABELS_FOLDER,
    LabelTable,
    choose_scorer,
    compare_tables,
)

_LAYOUTS = "a project folder, its labeled-data folder, a video's folder in it, or a table of labels itself"
_STEM = "CollectedData"
_READERS = {".csv": read_label_table, ".h5": read_label_table_hdf5}


@dataclass(frozen=True)
class Project:
    """Hold what a source comes to.

    Attributes:
        root: Images are looked for from here: it holds `labeled-data`, or else the table.
        config: The settings of the project.
        tables: The tables of labels, one per video.
        notes: A line for each table that was passed over and for each way in which two disagree.
    """

    root: Path
    config: ProjectConfig
    tables: list[LabelTable]
    notes: list[str]


@dataclass(frozen=True)
class _Choice:
    """Hold the file to read, and the HDF5 that says the same if all is well."""

    path: Path
    twin: Path | None


def read_project(source: Path) -> Project:
    """Find and read the tables of a project, one of its folders, or one table.

    Raises:
        FileNotFoundError: There are no labels.
        ValueError: A table or config.yaml cannot be read, or it is not clear which table is meant.
    """
    source = Path(os.path.abspath(source))
    if not source.exists():
        raise FileNotFoundError(f"expected DeepLabCut labels at {source}, found nothing; give {_LAYOUTS}")
    if source.is_file() and source.suffix.lower() not in _READERS:
        raise ValueError(f"expected {_LAYOUTS} (.csv or .h5), got {source}")
    notes: list[str] = []
    if source.is_file() or _candidates(source):
        folder = source if source.is_dir() else source.parent
        root = folder.parent.parent if folder.parent.name == LABELS_FOLDER else folder
        config = read_config(root / "config.yaml")
        choices = [_named(source)] if source.is_file() else _chosen(folder, config, notes)
    else:
        labels = source / LABELS_FOLDER if (source / LABELS_FOLDER).is_dir() else source
        root = labels.parent if labels.name == LABELS_FOLDER else labels
        config = read_config(root / "config.yaml")
        folders = sorted(folder for folder in labels.iterdir() if folder.is_dir())
        choices = [choice for folder in folders for choice in _chosen(folder, config, notes)]
    if not choices:
        raise FileNotFoundError(
            f"no CollectedData_*.csv or .h5 in {source} or its video folders; give {_LAYOUTS}"
        )
    tables = [_read(choice, config, notes) for choice in choices]
    return Project(root, config, tables, notes)


def _candidates(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the tables of a folder by name and kind of file."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob(f"{_STEM}*")):
        if path.suffix.lower() in _READERS and path.is_file():
            found.setdefault(path.stem, {})[path.suffix.lower()] = path
    return found


def _chosen(folder: Path, config: ProjectConfig, notes: list[str]) -> list[_Choice]:
    """Return the table of a video's folder, of config.yaml's scorer where there are several."""
    found = _candidates(folder)
    if not found:
        return []
    scorers = {stem.removeprefix(_STEM).removeprefix("_"): kinds for stem, kinds in found.items()}
    scorer, others = choose_scorer(str(folder), scorers, config.scorer)
    if others:
        passed = ", ".join(path.name for name in others for path in scorers[name].values())
        notes.append(f"{folder}: labels of {scorer!r} taken, the scorer of config.yaml; not read: {passed}")
    return [_choice(scorers[scorer])]


def _choice(kinds: Mapping[str, Path]) -> _Choice:
    table = kinds.get(".csv")
    return _Choice(kinds[".h5"], None) if table is None else _Choice(table, kinds.get(".h5"))


def _named(source: Path) -> _Choice:
    twin = source.with_suffix(".h5")
    return _Choice(source, twin if source.suffix.lower() == ".csv" and twin.is_file() else None)


def _read(choice: _Choice, config: ProjectConfig, notes: list[str]) -> LabelTable:
    table = _READERS[choice.path.suffix.lower()](choice.path, config.scorer)
    if table.other_scorers:
        names = ", ".join(map(repr, table.other_scorers))
        notes.append(
            f"{table.path}: labels of {config.scorer!r} taken, the scorer of config.yaml; left out: {names}"
        )
    if choice.twin is not None:
        try:
            notes.extend(compare_tables(table, read_label_table_hdf5(choice.twin, config.scorer)))
        except ValueError as error:  # the CSV counts; that the other one is broken or needs a library is said
            reason = str(error).removeprefix(f"{choice.twin}").lstrip(": ")
            hint = "" if INSTALL in reason else " (is it an old copy?)"
            notes.append(
                f"{choice.twin}: not compared with {table.path.name}, which was read: {reason}{hint}"
            )
    return table
