"""The images of a report: which are shown large, their small copies, labels, detections and lines between."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.browse_thumbnails import Thumbnail, _make_thumbnail, make_thumbnails
from keypoint_detection.report_samples import Evaluated

THUMBNAIL_PX, PICTURE_PX = 256, 1024

MOST_PICKS = {"worst": 6, "median": 3, "best": 3}


def image_severity(evaluated: Evaluated) -> NDArray[np.float64]:
    """Return the mean error of each image in pixels, `[n]`, a missed label off by the length of the diagonal.

    NaN for an image without labels that count.
    """
    labels, pairs, n = evaluated.labels, evaluated.pairs, len(evaluated.table.image_ids)
    row = _label_rows(evaluated)
    diagonal = np.hypot(*evaluated.table.image_hw.T.astype(np.float64))
    distance = np.where(pairs.missed, diagonal[row], np.nan_to_num(pairs.distance))
    count = np.bincount(row, pairs.counted, n)
    with np.errstate(invalid="ignore"):
        return np.bincount(row, distance, n) / count if len(labels.channel) else np.full(n, np.nan)


def pick_images(severity: NDArray[np.float64]) -> dict[int, str]:
    """Return the rows of images to show large and why: 6 worst, 3 median, 3 best; fewer of few images.

    Args:
        severity: `[n]`, greater is worse; NaN is not ranked.
    """
    ranked = np.flatnonzero(~np.isnan(severity))
    ranked = ranked[np.argsort(-severity[ranked], kind="stable")].tolist()
    count = len(ranked)
    worst = min(MOST_PICKS["worst"], -(-count // 2))
    best = min(MOST_PICKS["best"], count // 4)
    median = min(MOST_PICKS["median"], count - worst - best)
    start = int(np.clip(count // 2 - median // 2, worst, count - best - median))
    picks = dict.fromkeys(ranked[:worst], "worst")
    picks |= dict.fromkeys(ranked[start : start + median], "median")
    return picks | dict.fromkeys(ranked[count - best :], "best")


def make_pictures(evaluated: Evaluated, picks: Sequence[int]) -> dict[int, Thumbnail]:
    """Return the small copy of every image by its row, a larger one of those that are picked."""
    path_of = evaluated.table.image_path
    rows = range(len(evaluated.table.image_ids))
    others = [row for row in rows if row not in picks]
    small = make_thumbnails([path_of(row) for row in others], THUMBNAIL_PX) if others else []
    # The few large ones have no progress bar: a second one would look as if the first began again.
    large = [_make_thumbnail(path_of(row), PICTURE_PX) for row in picks]
    pictures = dict(zip([*others, *picks], [*small, *large], strict=True))
    return {row: pictures[row] for row in rows}


def image_entries(evaluated: Evaluated) -> list[dict[str, Any]]:
    """Return every image as plain values: size, errors, labels, detections, lines and boxes.

    Of an image with several samples, all are in one entry. Labels that do not count are left out. An error is
    None where no label has a detection, and "missed" where there are no labels to score by.
    """
    table, n = evaluated.table, len(evaluated.table.image_ids)
    groups = evaluated.groups()
    labels, detections = _points(evaluated)
    lines, boxes = _lines(evaluated), _boxes(evaluated)
    mean, greatest, missed = _image_errors(evaluated)
    return [
        {
            "id": str(table.image_ids[row]),  # a script's numbers are exact up to 2**53 only
            "name": table.file_names[row],
            "group": groups.get(int(table.image_ids[row])),
            "w": int(table.image_hw[row, 1]),
            "h": int(table.image_hw[row, 0]),
            "error": mean[row],
            "worst": greatest[row],
            "missed": missed[row],
            "labels": labels[row],
            "predictions": detections[row],
            "lines": lines[row],
            "boxes": boxes[row],
            "pick": None,
            "picture": None,
            "heatmap": None,
        }
        for row in range(n)
    ]


def _label_rows(evaluated: Evaluated) -> NDArray[np.int64]:
    """Return the image of each label as a row of the table, `[l]`."""
    if not evaluated.files.has_labels:  # here a sample of labels is an image
        return evaluated.labels.sample
    return evaluated.row[evaluated.labels.sample]


def _image_errors(evaluated: Evaluated) -> tuple[list[Any], list[Any], list[Any]]:
    pairs, row, n = evaluated.pairs, _label_rows(evaluated), len(evaluated.table.image_ids)
    there = ~np.isnan(pairs.distance)
    distance, row_there = pairs.distance[there], row[there]
    greatest = np.full(n, np.nan)
    np.fmax.at(greatest, row_there, distance)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(row_there, distance, n) / np.bincount(row_there, minlength=n)
    missed = np.bincount(row, pairs.missed, n).astype(int).tolist()
    has_labels = evaluated.files.has_labels
    return _plain(mean), _plain(greatest), missed if has_labels else [None] * n


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 7) for value in values]


def _points(evaluated: Evaluated) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the labels that count and the detections of every image: channel, x, y, visibility or score.

    Behind the score of a detection that was found to be occluded is its visibility, 1.
    """
    labels, found, n = evaluated.labels, evaluated.detections, len(evaluated.table.image_ids)
    counted = evaluated.pairs.counted
    xy = evaluated.table.xy[labels.point[counted]].round(3).tolist()
    of_images: tuple[list[list[Any]], list[list[Any]]] = ([[] for _ in range(n)], [[] for _ in range(n)])
    columns = (part[counted].tolist() for part in (_label_rows(evaluated), labels.channel, labels.visibility))
    for row, channel, visibility, (x, y) in zip(*columns, xy, strict=True):
        of_images[0][row].append([channel, x, y, visibility])
    rows = evaluated.row[found.sample].tolist()
    points = (found.channel.tolist(), found.xy.round(3).tolist(), found.score.round(4).tolist())
    for row, channel, (x, y), score, occluded in zip(rows, *points, found.occluded.tolist(), strict=True):
        of_images[1][row].append([channel, x, y, score, *([1] if occluded else [])])
    return of_images


def _lines(evaluated: Evaluated) -> list[list[list[int]]]:
    """Return for every image the pairs of a label and its detection, by their positions in its lists."""
    lines: list[list[list[int]]] = [[] for _ in evaluated.table.image_ids]
    label_row = _label_rows(evaluated)[evaluated.pairs.counted]
    label_at = _positions(label_row)
    found_at = _positions(evaluated.row[evaluated.detections.sample])
    partner = evaluated.pairs.detection[evaluated.pairs.counted]
    for label in np.flatnonzero(partner >= 0).tolist():
        lines[int(label_row[label])].append([int(label_at[label]), int(found_at[partner[label]])])
    return lines


def _positions(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each entry `[r]` among those of its image, in their order."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    position = np.empty(len(rows), np.int64)
    position[order] = np.arange(len(rows)) - np.searchsorted(ordered, ordered)
    return position


def _boxes(evaluated: Evaluated) -> list[list[list[float]]]:
    boxes: list[list[list[float]]] = [[] for _ in evaluated.table.image_ids]
    for row, sample in zip(evaluated.row.tolist(), evaluated.files.found, strict=True):
        if sample.box is not None:
            boxes[row].append([round(value, 2) for value in sample.box])
    return boxes
