"""Write COCO keypoints as a DeepLabCut project.

Tables are CSV, and HDF5 (key `df_with_missing`) too where pandas and PyTables are installed.
"""

import csv
import errno
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from keypoint_detection.data.coco_parser import CocoImage, CocoKeypoints
from keypoint_detection.data.formats.deeplabcut_hdf5 import INSTALL
from keypoint_detection.data.formats.deeplabcut_records import Labels, labels_of
from keypoint_detection.data.formats.deeplabcut_table import LABELS_FOLDER, UNIQUE
from keypoint_detection.files import atomic_write, write_text

SCORER = "keypoint_detection"
_KEY = "df_with_missing"


@dataclass(frozen=True)
class Table:
    """Hold a table to write: header rows by name, index cells per row, values `[n_rows, n_columns]`."""

    header: Mapping[str, Sequence[str]]
    index: Sequence[tuple[str | int, ...]]
    values: np.ndarray


def write_deeplabcut(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write a DeepLabCut project: images and labels in `labeled-data/<video>/`, and `config.yaml`.

    Every folder of images becomes a video. One instance per image at most makes a project of a single animal,
    more make one of several (individuals). The category `single`, if it comes once per image at most, becomes
    the unique body parts. Points keep their full precision, and the origin is the same.

    Args:
        coco: The labels.
        image_folder: What the file names of the images are relative to.
        output: The project's folder; neither config.yaml nor labeled-data may be there yet.

    Returns:
        A note for each kind of thing that the format cannot hold.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: There is a project already, an image is listed twice, or a name has a form that the tables
            cannot hold. Nothing is written then.
    """
    for name in ("config.yaml", LABELS_FOLDER):
        if (output / name).exists():
            raise ValueError(
                f"expected a folder without a DeepLabCut project, got {output / name}; give another"
            )
    labels, notes = labels_of(coco)
    places, place_notes = _places(coco.images)
    for image in coco.images:
        if not (image_folder / image.file_name).is_file():
            raise FileNotFoundError(f"image {image.id}: expected a file at {image_folder / image.file_name}")
    videos: dict[str, list[CocoImage]] = {}
    for image in coco.images:
        videos.setdefault(places[image.id][0], []).append(image)
        with atomic_write(output.joinpath(LABELS_FOLDER, *places[image.id])) as temporary:
            shutil.copyfile(image_folder / image.file_name, temporary)
    for video, images in videos.items():
        index = [(LABELS_FOLDER, *places[image.id]) for image in images]
        values = np.stack([labels.points[image.id] for image in images])
        stem = output / LABELS_FOLDER / video / f"CollectedData_{SCORER}"
        write_table(stem, Table(_header(labels), index, values))
    write_text(output / "config.yaml", _config(labels, videos))
    return (*notes, *place_notes, *_missing_extra())


def _places(images: Sequence[CocoImage]) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Return video and file name of every image by its id; folders of images become videos, one each."""
    places: dict[int, tuple[str, str]] = {}
    changed: list[str] = []
    taken: set[tuple[str, str]] = set()
    videos: dict[tuple[str, ...], str] = {}
    for image in images:
        path = PurePosixPath(image.file_name.replace("\\", "/"))
        video = _video(path.parent.parts, videos)
        name = " ".join(path.name.split())
        if (video, name) in taken:
            raise ValueError(
                f"image {image.id}: expected names that occur once, got {image.file_name!r} again"
            )
        places[image.id] = (video, name)
        taken.add((video, name))
        if f"images/{video}/{name}" != image.file_name:
            changed.append(f"{image.file_name!r} is {LABELS_FOLDER}/{video}/{name}")
    if not changed:
        return places, []
    return places, [
        f"images change their place, every folder is a video ({len(changed)}): {', '.join(changed[:3])}"
    ]


def _video(folder: tuple[str, ...], videos: dict[tuple[str, ...], str]) -> str:
    """Return the name of a folder's video, and keep it in `videos`, where every name is there once."""
    if folder not in videos:
        parts = [" ".join(part.split()) for part in folder if part not in ("/", "..", ".")]
        if parts[:1] in (["images"], [LABELS_FOLDER]):
            parts = parts[1:]
        stem = "_".join(parts).replace(":", "_").strip() or "images"
        video, number = stem, 2
        while video in videos.values():
            video, number = f"{stem}_{number}", number + 1
        videos[folder] = video
    return videos[folder]


def _header(labels: Labels) -> dict[str, list[str]]:
    points = [(name, part) for name in labels.individuals or [""] for part in labels.body_parts]
    points += [(UNIQUE, part) for part in labels.unique_parts]
    header = {"scorer": [SCORER] * (2 * len(points))}
    if labels.individuals:
        header["individuals"] = [individual for individual, _ in points for _ in "xy"]
    header["bodyparts"] = [part for _, part in points for _ in "xy"]
    header["coords"] = ["x", "y"] * len(points)
    return header


def write_table(stem: Path, table: Table, *, layout: str = "fixed") -> list[Path]:
    """Write `<stem>.csv`, and `<stem>.h5` where pandas and PyTables are there; return what was written.

    Args:
        stem: Path without the suffix.
        table: At least one row.
        layout: That of pandas in HDF5: DeepLabCut has labels as "fixed", predictions as "table".
    """
    written = [_write_csv(stem.with_name(f"{stem.name}.csv"), table)]
    if not _missing_extra():
        written.append(_write_hdf5(stem.with_name(f"{stem.name}.h5"), table, layout))
    return written


def _write_csv(path: Path, table: Table) -> Path:
    """Write a table as DeepLabCut does, a missing number as an empty cell; return the path."""
    blank = [""] * (len(table.index[0]) - 1)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([label, *blank, *cells] for label, cells in table.header.items())
        for index, numbers in zip(table.index, table.values.tolist(), strict=True):
            writer.writerow([*index, *("" if math.isnan(number) else repr(number) for number in numbers)])
    return path


def _write_hdf5(path: Path, table: Table, layout: str) -> Path:
    """Write a table; the layout "table" gives the same bytes for the same numbers; return the path."""
    import pandas as pd

    columns = pd.MultiIndex.from_arrays(list(table.header.values()), names=list(table.header))
    several = len(table.index[0]) > 1
    index = pd.MultiIndex.from_tuples(table.index) if several else [cells[0] for cells in table.index]
    frame = pd.DataFrame(table.values, columns=columns, index=index)
    with atomic_write(path) as temporary:
        with pd.HDFStore(temporary, "w") as store:
            store.put(_KEY, frame, format=layout, index=False, track_times=False)
        if not _holds(temporary, table.values):  # HDF5 keeps to itself that it could not write
            raise OSError(errno.ENOSPC, "the file cannot be read back; is the disk full?", str(path))
    return path


def _holds(path: Path, values: np.ndarray) -> bool:
    import pandas as pd

    try:
        with pd.HDFStore(path, "r") as store:
            return np.array_equal(store[_KEY].to_numpy(), values, equal_nan=True)
    except Exception:  # PyTables has errors of its own, and pandas others
        return False


def _missing_extra() -> tuple[str, ...]:
    """Return a note where HDF5 cannot be written."""
    if find_spec("pandas") and find_spec("tables"):
        return ()
    return (f"the tables are written as CSV only, for HDF5 too: {INSTALL}",)


def _config(labels: Labels, videos: Mapping[str, Sequence[CocoImage]]) -> str:
    """Return config.yaml: what a project needs to be opened, labelled on and trained."""
    several = bool(labels.individuals)
    fields: dict[str, Any] = {
        "Task": labels.task,
        "scorer": SCORER,
        "date": "",
        "multianimalproject": several,
        "identity": False,
        "project_path": "",  # DeepLabCut fills it in when it opens the project
        "video_sets": {
            f"videos/{video}.mp4": {"crop": f"0, {images[0].width}, 0, {images[0].height}"}
            for video, images in videos.items()
        },
    }
    if several:
        fields["individuals"] = list(labels.individuals)
        fields["uniquebodyparts"] = list(labels.unique_parts)
        fields["multianimalbodyparts"] = list(labels.body_parts)
        fields["bodyparts"] = "MULTI!"
    else:
        fields["bodyparts"] = list(labels.body_parts)
    fields["skeleton"] = [list(bone) for bone in labels.skeleton]
    if labels.symmetries:
        fields["symmetries"] = [list(pair) for pair in labels.symmetries]
    fields |= {
        "TrainingFraction": [0.95],
        "iteration": 0,
        "default_net_type": "resnet_50",
        "snapshotindex": -1,
    }
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)
