"""The folder of a data set of points: what `make-dataset` writes, and what a training reads and splits."""

import json
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.splits import group_split
from keypoint_detection.geometry import is_inside
from keypoint_detection.registry import nearest_name
from keypoint_detection.visibility.keypoint_points import points_of_coco
from keypoint_detection.visibility.make_dataset import (
    POINTS_STEM,
    PYRAMID_FOLDER,
    SOURCE_FILE,
    write_source,
)
from keypoint_detection.visibility.points import PointTable, read_points, write_points
from keypoint_detection.visibility.pyramid import FACTORS, Pyramid, build_pyramid, open_pyramid
from keypoint_detection.visibility.synthetic import TRUTH_NAME

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class PointDataset:
    """Hold a data set of points.

    Attributes:
        folder: Where it is.
        table: Its points.
        pyramid: Of its images.
        images: Folder that the names of the images are relative to; None where it is not known or gone.
        true_m: Visibility distance in metres by image name, where it is known.
    """

    folder: Path
    table: PointTable
    pyramid: Pyramid
    images: Path | None
    true_m: dict[str, float]

    @property
    def views(self) -> list[str]:
        """Return the views that have points, in the order of the images."""
        of_points = set(np.unique(self.table.image).tolist())
        return list(dict.fromkeys(view for i, view in enumerate(self.table.views) if i in of_points))

    def of_views(self, views: Collection[str]) -> PointTable:
        """Return the points of some views."""
        return self.table.select(self._is_in(views))

    def without_views(self, views: Collection[str]) -> PointTable:
        """Return the points of all other views."""
        return self.table.select(~self._is_in(views))

    def _is_in(self, views: Collection[str]) -> NDArray[np.bool_]:
        return np.array([view in views for view in self.table.views], dtype=bool)[self.table.image]


def open_dataset(folder: str | Path, *, source: str | Path | None = None) -> PointDataset:
    """Open the folder of a data set of points; points outside their image are reported once, with a count.

    Args:
        folder: The folder.
        source: The file that its points come from, for that report; None means their table.

    Raises:
        FileNotFoundError: It is not there, or a part of it is missing.
        ValueError: A file is damaged, or holds no point; one line.
    """
    folder = Path(folder)
    found = [path for ending in ("csv", "parquet") if (path := folder / f"{POINTS_STEM}.{ending}").is_file()]
    if not found:
        raise FileNotFoundError(
            f"expected {POINTS_STEM}.csv and {PYRAMID_FOLDER}/ in {folder}, found no points; make them with "
            "keypoint-detection visibility make-dataset"
        )
    table, pyramid = read_points(found[0]), open_pyramid(folder / PYRAMID_FOLDER)
    if not len(table):
        raise ValueError(f"{found[0]}: expected at least one point, got none; make the data set again")
    _tell_outside(table, source or found[0])
    images = _source(folder / SOURCE_FILE, table.image_names)
    true_m = {} if images is None else read_truth(images / TRUTH_NAME)
    return PointDataset(folder, table, pyramid, images, true_m)


def _tell_outside(table: PointTable, path: str | Path) -> None:
    """Say how many points lie outside their image, where patches hold little of it, or nothing."""
    inside = is_inside(table.xy, (table.image_hw[table.image, 0], table.image_hw[table.image, 1]))
    outside = np.flatnonzero(~inside)
    if len(outside):
        logger.warning(
            "%s: %d of %d points lie outside their image and are judged by what of it is near, if anything "
            "(first in %s)",
            path,
            len(outside),
            len(table),
            table.image_names[table.image[outside[0]]],
        )


def _source(path: Path, names: Sequence[str]) -> Path | None:
    """Return the folder of the images; None without the file, or where none of the images is there."""
    try:
        images = path.parent.resolve() / json.loads(path.read_text(encoding="utf-8"))["images"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        raise ValueError(
            f"{path}: expected the folder of the images, got something else; remove it"
        ) from None
    # Where the data set alone was moved, a relative path may lead to a folder of something else.
    return images.resolve() if any((images / name).is_file() for name in names) else None


def read_truth(path: Path) -> dict[str, float]:
    """Return the visibility distance in metres by image name of a `truth.json`; nothing without the file.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        true_m = {str(name): float(entry["visibility_m"]) for name, entry in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f'{path}: expected {{image: {{"visibility_m": metres}}}}, got something else; mend or remove it'
        ) from None
    for name, distance_m in true_m.items():
        if not 0 < distance_m < math.inf:
            raise ValueError(
                f"{path}: expected a finite visibility_m above 0 for {name!r}, got {distance_m}; mend it, or "
                "leave the image out"
            )
    return true_m


def make_keypoint_dataset(
    json_path: str | Path,
    folder: str | Path,
    *,
    factors: Sequence[int] | None = None,
    group_by: str | None = None,
) -> PointDataset:
    """Write the labelled keypoints of a COCO file as a data set of points; see `points_of_coco`.

    What is there already and made of the same files is used again.

    Raises:
        FileNotFoundError: The file or an image is missing.
        ValueError: The file is no COCO keypoint file, or an option is wrong; one line.
    """
    folder = Path(folder)
    table, paths = points_of_coco(json_path, group_by=group_by)
    points_path, other = (folder / f"{POINTS_STEM}.{kind}" for kind in ("csv", "parquet"))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the data set, got the file {folder}")

    def remove_older() -> None:
        points_path.unlink(missing_ok=True)
        other.unlink(missing_ok=True)

    build_pyramid(
        folder / PYRAMID_FOLDER,
        paths,
        table.image_hw,
        factors=factors or FACTORS,
        image_names=table.image_names,
        before_replacing=remove_older,  # a table must not describe another pyramid
        size_advice=f"scale the labels, or correct the entry in {json_path}, as keypoint-detection doctor "
        "--fix does",
    )
    other.unlink(missing_ok=True)
    write_source(folder, Path(json_path).parent)
    write_points(points_path, table)
    return open_dataset(folder, source=json_path)


def validation_views(data: PointDataset, named: Sequence[str] | None, ratio: float, seed: int) -> list[str]:
    """Return the views to validate on, those that are named or a seeded share of the images; others remain.

    Raises:
        ValueError: A view is not there, or none would remain to train on.
    """
    if named is None:
        return _drawn_views(data, ratio, seed)
    views = views_named(data, named, "--validation_views")
    if len(views) == len(data.views):
        raise ValueError(f"--validation_views: expected some of the {len(views)} views, got all of them")
    return views


def views_named(data: PointDataset, named: Sequence[str], flag: str) -> list[str]:
    """Return views by their names, in the order of the data set.

    Raises:
        ValueError: There are no points of a view; one line that names the flag.
    """
    views = data.views
    named = [name for given in named for name in _split_name(given, views)]
    for name in named:
        if name not in views:
            listed = ", ".join(views[:8]) + (", ..." if len(views) > 8 else "")
            raise ValueError(
                f"{flag}: no points of view {name!r} in {data.folder}.{nearest_name(name, views)}"
                f" Its views: {listed}"
            )
    return [view for view in views if view in set(named)]


def _split_name(given: str, views: Sequence[str]) -> list[str]:
    """Return a name as it is, or the names of views that it lists with spaces or commas between them."""
    parts = [given] if given in views else given.replace(",", " ").split()
    return parts if parts and set(parts) <= set(views) else [given]


def _drawn_views(data: PointDataset, ratio: float, seed: int) -> list[str]:
    if len(data.views) < 2:
        raise ValueError(
            f"{data.folder}: expected two views or more to split by, got {data.views}; add images of others, "
            "or give --group_by another field"
        )
    images = np.unique(data.table.image).tolist()
    _, held_out = group_split(images, [data.table.views[image] for image in images], ratio, seed)
    chosen = {data.table.views[image] for image in held_out}
    return [view for view in data.views if view in chosen]


def check_both_classes(table: PointTable, what: str) -> None:
    """Raise a ValueError of one line unless points of both classes are among `table`, the `what` points."""
    n_visible = int((table.label == 1).sum())
    if n_visible in (0, len(table)):
        raise ValueError(
            f"expected visible and not visible points among the {what}, got {n_visible} visible of "
            f"{len(table)}; label both, or split otherwise"
        )
