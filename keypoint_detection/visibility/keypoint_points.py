"""The labelled keypoints of a COCO file as points that are visible or not."""

from pathlib import Path

import numpy as np

from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.groups import group_labels
from keypoint_detection.visibility.points import PointTable


def points_of_coco(json_path: str | Path, *, group_by: str | None = None) -> tuple[PointTable, list[Path]]:
    """Return the labelled keypoints of all instances, in the order of the file.

    A point of visibility 2 has label 1, one of visibility 1 (occluded) has label 0; one of visibility 0 is no
    point at all. Whether both labels occur is for the caller to look at: a part of a data set need not.

    Args:
        json_path: A COCO keypoint file; `file_name` is relative to its folder.
        group_by: "folder" or a field of the image entries whose value is the view, see
            `data.groups.group_labels`; None makes every image a view of its own.

    Returns:
        The points, without depth, and the path of every image of the file in the order of the table's images.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no COCO keypoint file, the images cannot be grouped, two images have one file
            name, or no keypoint is labelled.
    """
    path = Path(json_path)
    coco = read_coco(path)
    names = tuple(image.file_name for image in coco.images)
    _check_names(path, names)
    image, triples = _labelled(coco)
    if not len(triples):
        raise ValueError(
            f"{path}: expected keypoints of visibility 1 or 2, got none in {len(coco.annotations)} "
            "annotations; label which keypoints can be seen (2) and which are occluded (1)"
        )
    table = PointTable(
        image_names=names,
        views=names if group_by is None else tuple(group_labels(coco.images, group_by)),
        image_hw=np.array([(entry.height, entry.width) for entry in coco.images], np.int64),
        image=image,
        xy=np.ascontiguousarray(triples[:, :2]),
        depth_m=np.full(len(triples), np.nan),
        label=(triples[:, 2] == 2).astype(np.uint8),
    )
    return table, [path.parent / name for name in names]


def _check_names(path: Path, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        repeated = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(
            f"{path}: expected images of different file names, got {repeated!r} twice; join their entries"
        )


def _labelled(coco: CocoKeypoints) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each labelled point's image `[p]`, and its x, y and flag `[p, 3]`."""
    place = {image.id: number for number, image in enumerate(coco.images)}
    values = [np.asarray(entry.keypoints, np.float64).reshape(-1, 3) for entry in coco.annotations]
    images = np.array([place[entry.image_id] for entry in coco.annotations], np.int64)
    triples = np.concatenate([np.empty((0, 3)), *values])
    image = np.repeat(images, [len(points) for points in values])
    is_labelled = triples[:, 2] > 0
    return image[is_labelled], triples[is_labelled]
