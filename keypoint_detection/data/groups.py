"""Groups of images that belong together, such as the frames of one video: what is resampled as a whole."""

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from keypoint_detection.data.coco_parser import CocoImage
from keypoint_detection.registry import nearest_name


def group_labels(images: Sequence[CocoImage], group_by: str) -> list[str]:
    """Return the group of every image.

    Args:
        images: The images of a COCO file.
        group_by: "folder" for the folder part of `file_name` (empty where there is none), or the name of a
            field of the image entries, whose value is taken as text.

    Raises:
        ValueError: An image lacks the field or has null there, or all images are of one group.
    """
    if group_by == "folder":
        labels = [_folder(image.file_name) for image in images]
    else:
        labels = [_field(image, group_by) for image in images]
    if len(set(labels)) < 2:
        found = f"only {labels[0]!r}" if labels else "no images"
        raise ValueError(
            f"expected at least two groups of images, but grouping by {group_by!r} gave {found} for "
            f"{len(labels)} images; group by another field of the images, or not at all"
        )
    return labels


def _folder(file_name: str) -> str:
    folder = str(PurePosixPath(file_name).parent)
    return "" if folder == "." else folder


def _field(image: CocoImage, name: str) -> str:
    fields: dict[str, Any] = {key: value for key, value in image if value is not None}
    if name not in fields:
        raise ValueError(
            f"image {image.id}: expected the field {name!r} to group by, got none; use 'folder' for the "
            f"folder of file_name, or one of its fields: {', '.join(fields)}.{nearest_name(name, fields)}"
        )
    value = fields[name]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
