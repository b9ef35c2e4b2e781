"""Check what a file labels as a whole: empty names and channels, categories, images without labels."""

from collections.abc import Iterator, Sequence

import numpy as np

from keypoint_detection.data.channels import channel_name, parse_channels
from keypoint_detection.doctor_entries import one_line, show
from keypoint_detection.doctor_files import LabelFile
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.doctor_labels import InstanceTable

UNLABELLED_SHARE = 0.5
"""Share of images without labels above which it looks like labels that got lost."""


def category_findings(labels: LabelFile, tables: Sequence[InstanceTable]) -> Iterator[Finding]:
    """Yield categories that nothing uses or that lack keypoints, and names that are never labelled."""
    file = str(labels.path)
    counts = {table.category.id: np.isfinite(table.xy[..., 0]).sum(0) for table in tables}
    for category in labels.categories.values():
        used = category.id in counts
        if not category.keypoints:
            message = (
                f"category {category.id} ({category.name}): expected keypoint names, got none; only "
                "categories with keypoints can be learnt: add the names or leave the category out"
            )
            yield Finding("category-empty", "error" if used else "warning", message, file=file)
        elif not used:
            message = (
                f"category {category.id} ({category.name}): expected annotations, got none; label some or "
                "leave the category out"
            )
            yield Finding("category-empty", "warning", message, file=file)
        else:
            empty = [
                show(name)
                for name, count in zip(category.keypoints, counts[category.id], strict=True)
                if not count
            ]
            for name in empty:
                message = (
                    f"category {category.id} ({category.name}): expected labels of every keypoint, got none "
                    f"of {name}; label it or leave the name out"
                )
                yield Finding("channel-empty", "warning", message, file=file)


def channel_findings(
    files: Sequence[LabelFile],
    tables: Sequence[InstanceTable],
    channels: str | Sequence[Sequence[str] | str],
) -> Iterator[Finding]:
    """Yield channels of a training that would stay empty, or that name a keypoint that does not exist."""
    for labels in files:
        file = str(labels.path)
        names = list(
            dict.fromkeys(name for category in labels.categories.values() for name in category.keypoints)
        )
        counts = labelled_points([table for table in tables if table.file == file])
        try:
            parsed = parse_channels(channels, names)
        except ValueError as error:
            yield Finding("channel-empty", "error", one_line(str(error)), file=file)
            continue
        for channel in parsed:
            if not any(counts.get(name) for name in channel):
                message = (
                    f"channel {show(channel_name(channel))}: expected labelled points, got none; label some "
                    "or leave the channel out"
                )
                yield Finding("channel-empty", "error", message, file=file)


def labelled_points(tables: Sequence[InstanceTable]) -> dict[str, int]:
    """Return how many points are labelled of each keypoint name."""
    counts: dict[str, int] = {}
    for table in tables:
        for name, count in zip(table.category.keypoints, np.isfinite(table.xy[..., 0]).sum(0), strict=True):
            counts[name] = counts.get(name, 0) + int(count)
    return counts


def unlabelled_findings(labels: LabelFile, tables: Sequence[InstanceTable]) -> Iterator[Finding]:
    """Yield a warning where most images have no labelled point; and crowds that have some."""
    file = str(labels.path)
    labelled = {int(i) for table in tables for i in table.image_id[np.isfinite(table.xy[..., 0]).any(1)]}
    without = len(labels.images) - len(labelled)
    if not labels.images:
        yield Finding(
            "image-unlabelled-share", "warning", "expected images, got none; export them", file=file
        )
    elif without > UNLABELLED_SHARE * len(labels.images):
        message = (
            f"expected labels on most images, got {without} of {len(labels.images)} images without any; "
            "label them, or leave them out unless they show nothing to find"
        )
        yield Finding("image-unlabelled-share", "warning", message, file=file)
    for table in tables:
        for row in np.flatnonzero(table.is_crowd & np.isfinite(table.xy[..., 0]).any(1)):
            message = (
                "expected a crowd (iscrowd 1) without points, got labelled ones that neither train nor "
                "score; set iscrowd to 0 if it is one object"
            )
            yield table.finding("crowd-labelled", "warning", row, message)
