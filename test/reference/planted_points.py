"""COCO files with points at chosen places; their images are empty files, as only labels are read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Point = tuple[float, float] | tuple[float, float, int]

CHANNELS = [["corner0", "corner1", "corner2", "corner3"], ["flap_left"], ["flap_right"]]
"""The channels that the tests take the drawn boxes apart into."""


def write_points(
    folder: Path,
    images: Sequence[Sequence[Mapping[str, Point]]],
    names: Sequence[str],
    image_hw: tuple[int, int] = (64, 64),
    box: Sequence[float] | None = None,
) -> Path:
    """Write a file with one entry per image: a list of instances, each with `(x, y[, visibility])` by name.

    Image ids count from 101, annotation ids from 1; every instance has the same box, by default the image.
    """
    height, width = image_hw
    annotations = []
    for index, instances in enumerate(images):
        (folder / f"{index}.png").touch()
        for points in instances:
            values: list[float] = []
            for name in names:
                values += [*points[name], 2][:3] if name in points else [0, 0, 0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 101 + index,
                    "category_id": 1,
                    "keypoints": values,
                    "num_keypoints": len(points),
                    "bbox": list(box or (0, 0, width, height)),
                    "area": 1000.0,
                    "iscrowd": 0,
                }
            )
    path = folder / "planted.json"
    path.write_text(
        json.dumps(
            {
                "images": [
                    {"id": 101 + i, "file_name": f"{i}.png", "width": width, "height": height}
                    for i in range(len(images))
                ],
                "categories": [{"id": 1, "name": "thing", "keypoints": list(names), "skeleton": []}],
                "annotations": annotations,
            }
        )
    )
    return path
