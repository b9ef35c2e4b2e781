"""Check the labels of every instance: points outside or doubled, counts, areas and boxes that contradict."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_parser import VISIBILITIES
from keypoint_detection.doctor_entries import LARGEST_NUMBER, AnnotationEntry, CategoryEntry, show
from keypoint_detection.doctor_files import LabelFile
from keypoint_detection.doctor_findings import Finding, Severity
from keypoint_detection.geometry import is_inside

DOUBLED_PX = 0.5
"""Two points within this distance are at the same place."""
FAR_SHARE, FAR_PX = 0.25, 5.0
"""A point is far from its box beyond this share of the box's longer side, and at least this many pixels."""
_NEIGHBOURS = 4


class InstanceTable(NamedTuple):
    """Hold the n instances of one category of one file as arrays.

    Attributes:
        file: Path of the file.
        category: The category, of k keypoints.
        annotation_id: `[n]`.
        image_id: `[n]`.
        image_hw: `[n, 2]` in pixels, NaN where it is unknown.
        xy: `[n, k, 2]` in pixels, NaN where a point is not labelled.
        visibility: `[n, k]` as the file has it.
        area: `[n]`, NaN where there is none.
        box: `[n, 4]`, NaN where there is none.
        num_keypoints: `[n]`, NaN where there is none.
        is_crowd: `[n]`.
        is_repeat: `[n]`: marked as one of several labels of the same object.
    """

    file: str
    category: CategoryEntry
    annotation_id: NDArray[np.int64]
    image_id: NDArray[np.int64]
    image_hw: NDArray[np.float64]
    xy: NDArray[np.float64]
    visibility: NDArray[np.float64]
    area: NDArray[np.float64]
    box: NDArray[np.float64]
    num_keypoints: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    is_repeat: NDArray[np.bool_]

    def finding(self, code: str, severity: Severity, row: int | np.integer, message: str) -> Finding:
        """Return a finding about one instance."""
        return Finding(
            code, severity, message, int(self.image_id[row]), int(self.annotation_id[row]), self.file
        )

    def names(self, columns: Sequence[int] | NDArray[np.integer], limit: int = 3) -> str:
        """Return keypoint names as text, the first few of them."""
        shown = ", ".join(show(self.category.keypoints[column]) for column in columns[:limit])
        return shown + (f" and {len(columns) - limit} more" if len(columns) > limit else "")


def instance_tables(labels: LabelFile, sizes: Mapping[int, tuple[int, int]]) -> list[InstanceTable]:
    """Return the instances of a file by category, in the order of the file.

    Args:
        labels: The file.
        sizes: Height and width of images by id where they are known better than from the file's fields.
    """
    by_category: dict[int, list[AnnotationEntry]] = {}
    for annotation in labels.annotations:
        by_category.setdefault(annotation.category_id, []).append(annotation)
    fields = {image.id: image.hw for image in labels.images.values()}
    hw = {identity: sizes.get(identity) or size or (np.nan, np.nan) for identity, size in fields.items()}
    return [
        _table(str(labels.path), category, by_category[category.id], hw)
        for category in labels.categories.values()
        if category.id in by_category
    ]


def _table(
    file: str,
    category: CategoryEntry,
    entries: Sequence[AnnotationEntry],
    hw: Mapping[int, tuple[float, float]],
) -> InstanceTable:
    xyv = np.array([entry.xyv for entry in entries], np.float64).reshape(len(entries), -1, 3)
    return InstanceTable(
        file,
        category,
        np.array([entry.id for entry in entries], np.int64),
        np.array([entry.image_id for entry in entries], np.int64),
        np.array([hw[entry.image_id] for entry in entries], np.float64),
        np.where(xyv[..., 2:] > 0, xyv[..., :2], np.nan),
        xyv[..., 2],
        np.array([entry.area for entry in entries], np.float64),
        np.array([entry.box for entry in entries], np.float64),
        np.array([entry.num_keypoints for entry in entries], np.float64),
        np.array([entry.is_crowd for entry in entries], bool),
        np.array([entry.is_repeat for entry in entries], bool),
    )


def label_findings(table: InstanceTable) -> Iterator[Finding]:
    """Yield what is wrong with the labels of single instances."""
    if table.xy.shape[1] == 0:
        return
    yield from _visibility_findings(table)
    yield from _outside_findings(table)
    yield from _same_place_findings(table)
    yield from _same_instance_findings(table)
    yield from _count_findings(table)
    yield from _area_findings(table)
    yield from _box_findings(table)


def _visibility_findings(table: InstanceTable) -> Iterator[Finding]:
    wrong = ~np.isin(table.visibility, list(VISIBILITIES))
    for row in np.flatnonzero(wrong.any(1)):
        columns = np.flatnonzero(wrong[row])
        message = (
            f"expected visibility 0, 1 or 2, got {table.visibility[row, columns[0]]:g} for "
            f"{table.names(columns)}; correct the export (--fix takes what is above 0 as visible)"
        )
        yield table.finding("visibility-value", "error", row, message)


def _outside_findings(table: InstanceTable) -> Iterator[Finding]:
    hw = table.image_hw[:, :, None]
    known = np.isfinite(table.image_hw).all(1, keepdims=True)
    outside = known & np.isfinite(table.xy[..., 0]) & ~is_inside(table.xy, (hw[:, 0], hw[:, 1]))
    for row in np.flatnonzero(outside.any(1)):
        columns = np.flatnonzero(outside[row])
        x, y = table.xy[row, columns[0]]
        height, width = table.image_hw[row]
        message = (
            f"expected points inside the image ({width:g}x{height:g}), got {table.names(columns)} outside, "
            f"the first at ({x:.1f}, {y:.1f}); move them or mark them absent (--fix does)"
        )
        yield table.finding("point-outside", "error", row, message)


def _same_place_findings(table: InstanceTable) -> Iterator[Finding]:
    names = table.category.keypoints
    for first in range(len(names) - 1):
        apart = table.xy[:, first + 1 :] - table.xy[:, first : first + 1]
        close = np.hypot(apart[..., 0], apart[..., 1]) <= DOUBLED_PX
        for row in np.flatnonzero(close.any(1)):
            others = first + 1 + np.flatnonzero(close[row])
            x, y = table.xy[row, first]
            message = (
                f"expected keypoints at places of their own, got {show(names[first])} and "
                f"{table.names(others)} both at ({x:.1f}, {y:.1f}); move one, or mark it absent"
            )
            yield table.finding("point-doubled", "warning", row, message)


def _same_instance_findings(table: InstanceTable) -> Iterator[Finding]:
    """Find instances labelled twice: sorted by image, by what is labelled and by place, they are close."""
    for later, earlier in repeated_instances(table):
        message = (
            f"expected an instance once, got annotation {table.annotation_id[earlier]} of the same image "
            f"again with all its points within {DOUBLED_PX:g} px; remove one (--fix does)"
        )
        yield table.finding("point-doubled", "error", later, message)


def repeated_instances(table: InstanceTable) -> list[tuple[int, int]]:
    """Return the rows of instances that repeat an earlier one, and that earlier row, in file order."""
    labelled = np.isfinite(table.xy[..., 0])
    rows = np.flatnonzero(labelled.any(1) & ~table.is_repeat & ~table.is_crowd)
    if len(rows) < 2:
        return []
    _, kind = np.unique(np.packbits(labelled[rows], axis=1), axis=0, return_inverse=True)
    filled = np.where(labelled[rows, :, None], table.xy[rows], 0.0)
    mean_x = filled[..., 0].sum(1) / labelled[rows].sum(1)
    order = np.lexsort((rows, mean_x, kind.reshape(-1), table.image_id[rows]))
    rows, kind, filled = rows[order], kind.reshape(-1)[order], filled[order]
    earliest: dict[int, int] = {}
    for step in range(1, min(_NEIGHBOURS, len(rows) - 1) + 1):
        same = (kind[step:] == kind[:-step]) & (table.image_id[rows[step:]] == table.image_id[rows[:-step]])
        apart = filled[step:] - filled[:-step]
        same &= (np.hypot(apart[..., 0], apart[..., 1]) <= DOUBLED_PX).all(1)
        for one, other in zip(rows[step:][same].tolist(), rows[:-step][same].tolist(), strict=True):
            later, earlier = max(one, other), min(one, other)
            earliest[later] = min(earliest.get(later, earlier), earlier)
    return sorted(earliest.items())


def _count_findings(table: InstanceTable) -> Iterator[Finding]:
    labelled = np.isfinite(table.xy[..., 0]).sum(1)
    for row in np.flatnonzero(np.isfinite(table.num_keypoints) & (table.num_keypoints != labelled)):
        message = (
            f"field 'num_keypoints': expected {labelled[row]}, the number of labelled points, got "
            f"{table.num_keypoints[row]:g}; correct it (--fix does)"
        )
        yield table.finding("num-keypoints", "warning", row, message)


def _is_labelled_object(table: InstanceTable) -> NDArray[np.bool_]:
    return np.isfinite(table.xy[..., 0]).any(1) & ~table.is_crowd


def _area_findings(table: InstanceTable) -> Iterator[Finding]:
    objects = _is_labelled_object(table)
    lacking = objects & np.isnan(table.area)
    mend = "scores relative to the area (OKS) need one above 0: --fix takes it from the box or the points"
    if lacking.sum() > 1 and (lacking == objects).all():
        message = (
            f"expected areas, got none for any of {objects.sum()} instances of {table.category.name}; {mend}"
        )
        yield Finding("area-zero", "warning", message, file=table.file)
        return
    for row in np.flatnonzero(lacking):
        yield table.finding("area-zero", "warning", row, f"expected an area, got none; {mend}")
    for row in np.flatnonzero(objects & (table.area <= 0)):
        message = f"expected an area above 0, got {table.area[row]:g}; {mend}"
        yield table.finding("area-zero", "error", row, message)


def _box_findings(table: InstanceTable) -> Iterator[Finding]:
    objects = _is_labelled_object(table)
    has_box = np.isfinite(table.box).all(1) & (table.box[:, 2:] > 0).all(1)
    lacking = objects & ~has_box
    mend = "one crop per instance (--input_mode instance) needs it: draw it, or leave the instance out"
    if lacking.sum() > 1 and (lacking == objects).all():
        message = (
            f"expected boxes, got none for any of {objects.sum()} instances of {table.category.name}; {mend}"
        )
        yield Finding("box-missing", "warning", message, file=table.file)
        return
    for row in np.flatnonzero(lacking):
        message = f"expected a box of some width and height, got {_box_text(table.box[row])}; {mend}"
        yield table.finding("box-missing", "warning", row, message)
    distance = _distance_to_box(table)
    limit = np.maximum(FAR_SHARE * table.box[:, 2:].max(1), FAR_PX)[:, None]
    far = (objects & has_box)[:, None] & (distance > limit)
    for row in np.flatnonzero(far.any(1)):
        columns = np.flatnonzero(far[row])
        message = (
            f"expected points in their box {_box_text(table.box[row])}, got {table.names(columns)} up to "
            f"{distance[row, columns].max():.0f} px away from it; correct the box or the points"
        )
        yield table.finding("box-points", "warning", row, message)


def _distance_to_box(table: InstanceTable) -> NDArray[np.float64]:
    """Return the distance of each point from its box in pixels, `[n, k]`, 0 inside; NaN where one lacks."""
    low = table.box[:, None, :2] - 0.5  # a box counts from the corner of the image
    high = low + table.box[:, None, 2:]
    beyond = np.maximum(np.maximum(low - table.xy, table.xy - high), 0.0)
    return np.hypot(beyond[..., 0], beyond[..., 1])


def _box_text(box: NDArray[np.float64]) -> str:
    if not np.isfinite(box).all():
        return "none"
    return "(" + ", ".join(f"{min(value, LARGEST_NUMBER):g}" for value in box) + ")"
