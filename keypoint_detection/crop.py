"""Cut a data set into one image per labelled instance, as top-down training sees them."""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoImage,
    CocoKeypoints,
    read_coco,
    write_coco,
)
from keypoint_detection.data.image_warp import MAX_SIDE_PX, warp_pixels, write_pixels
from keypoint_detection.data.label_warp import warp_annotation, warp_notes
from keypoint_detection.dataset_files import image_sources, name_inside, new_images, run_parallel
from keypoint_detection.geometry import Affine, box_affine, is_inside
from keypoint_detection.resize import check_size, default_output, read_checked

logger = logging.getLogger("keypoint_detection")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Crop:
    annotation: CocoAnnotation
    affine: Affine
    to_hw: tuple[int, int]
    file_name: str


@dataclass(frozen=True)
class _Job:
    image: CocoImage
    source: Path
    crops: list[_Crop]
    folder: Path


def crop_dataset(
    json_path: str | Path,
    output: str | Path | None = None,
    *,
    padding: float = 1.25,
    size_hw: tuple[int, int] | None = None,
    workers: int | None = None,
) -> Path:
    """Write one PNG per annotation that is no crowd, with that annotation alone; notes are logged.

    Its box is enlarged by `padding` about the centre; without a box it is the extent of the labelled points.
    What lies beyond the image is grey. Points outside the crop become absent.

    Args:
        json_path: COCO file; the images lie relative to its folder.
        output: Folder of the new data set; default: `dataset_crops` (or `dataset_crops_256x192`) beside
            `dataset`. A crop is called as its image with the id of the annotation, `<stem>_<id>.png`, and
            carries the image's fields and `source_image_id`.
        padding: Factor on width and height of the box, above 0.
        size_hw: Height and width of every crop, filled as far as the aspect ratio of the box allows; None
            cuts along whole pixels and keeps every pixel as it is.
        workers: Number of threads; None takes one per core.

    Returns:
        The path of the new COCO file.

    Raises:
        FileNotFoundError: The COCO file or an image is missing.
        ValueError: The COCO file, an image, a box or a size is wrong; nothing is left behind.
    """
    json_path = Path(json_path)
    if not (math.isfinite(padding) and padding > 0):
        raise ValueError(f"expected a padding above 0 such as 1.25, got {padding}")
    if size_hw is not None:
        check_size(size_hw)
    coco = read_coco(json_path)
    sources = image_sources(coco, json_path)
    suffix = "_crops" if size_hw is None else f"_crops_{size_hw[0]}x{size_hw[1]}"
    output = default_output(json_path, suffix) if output is None else Path(output)
    crops, notes = _plan(coco, json_path, padding, size_hw)
    with new_images(output, [json_path, *sources], json_path.name) as folder:
        jobs = [
            _Job(image, source, crops[image.id], folder)
            for image, source in zip(coco.images, sources, strict=True)
            if crops[image.id]
        ]
        run_parallel(_cut, jobs, "crop", workers)
        cropped, lost = _cropped(coco, jobs)
        write_coco(cropped, folder / json_path.name)
    used = [crop.annotation for job in jobs for crop in job.crops]
    for note in (*notes, *lost, *warp_notes(used)):
        logger.warning("%s: %s", json_path, note)
    return output / json_path.name


def _plan(
    coco: CocoKeypoints, json_path: Path, padding: float, size_hw: tuple[int, int] | None
) -> tuple[dict[int, list[_Crop]], list[str]]:
    """Return the crops of each image by its id, and notes on annotations and images that give none."""
    images = {image.id: image for image in coco.images}
    crops: dict[int, list[_Crop]] = {identity: [] for identity in images}
    without: Counter[str] = Counter()
    for annotation in coco.annotations:
        box = _box(annotation)
        if annotation.iscrowd or box is None:
            without["crowds" if annotation.iscrowd else "annotations without a box or points apart"] += 1
            continue
        image = images[annotation.image_id]
        where = f"{json_path}: annotation {annotation.id}"
        _check_overlap(box, image, where)
        affine, to_hw = _frame(box, padding, size_hw, where)
        path = PurePosixPath(name_inside(image.file_name))
        name = path.with_name(f"{path.stem}_{annotation.id}.png").as_posix()
        crops[image.id].append(_Crop(annotation, affine, to_hw, name))
    without["images without an instance to crop"] = sum(not listed for listed in crops.values())
    if not any(crops.values()):
        raise ValueError(f"{json_path}: expected annotations with a box or points to crop, got none")
    return crops, [f"{count} {what} are left out" for what, count in without.items() if count]


def _box(annotation: CocoAnnotation) -> Box | None:
    """Return the box from the corner of the image, or the extent of the labelled points, or None."""
    box = annotation.bbox
    if box is not None and box[2] > 0 and box[3] > 0:
        return box[0], box[1], box[2], box[3]
    values = np.array(annotation.keypoints).reshape(-1, 3)
    points = values[values[:, 2] > 0, :2]
    if len(np.unique(points, axis=0)) < 2:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    side = np.maximum(high - low, 1.0)
    corner = (low + high) / 2 + 0.5 - side / 2
    return float(corner[0]), float(corner[1]), float(side[0]), float(side[1])


def _check_overlap(box: Box, image: CocoImage, where: str) -> None:
    x, y, width, height = box
    if not (x < image.width and y < image.height and x + width > 0 and y + height > 0):
        listed = ", ".join(f"{value:g}" for value in box)
        raise ValueError(
            f"{where}: expected a box (x, y, width, height) that overlaps its image of "
            f"{image.width}x{image.height} pixels ({image.file_name}), got ({listed}); correct it or "
            "leave it out"
        )


def _frame(
    box: Box, padding: float, size_hw: tuple[int, int] | None, where: str
) -> tuple[Affine, tuple[int, int]]:
    """Return the map from the image to the crop, and the crop's height and width."""
    if size_hw is not None:
        return box_affine(box, size_hw, padding), size_hw
    sides = [_whole_pixels(box[axis], box[axis + 2], padding) for axis in (0, 1)]
    (left, right), (top, bottom) = sides
    if max(right - left, bottom - top) > MAX_SIDE_PX:
        raise ValueError(
            f"{where}: expected a crop of up to {MAX_SIDE_PX} pixels a side, got "
            f"{right - left}x{bottom - top}; correct the box, or give a smaller padding"
        )
    return np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), (bottom - top, right - left)


def _whole_pixels(start: float, length: float, padding: float) -> tuple[int, int]:
    """Return the first pixel and the one after the last of what the enlarged side of a box touches."""
    centre, half = start + length / 2, padding * length / 2
    return math.floor(round(centre - half, 6)), math.ceil(round(centre + half, 6))


def _cut(job: _Job) -> None:
    pixels = read_checked(job.image, job.source)
    for crop in job.crops:
        target = job.folder / crop.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_pixels(target, warp_pixels(pixels, crop.affine, crop.to_hw))


def _cropped(coco: CocoKeypoints, jobs: Sequence[_Job]) -> tuple[CocoKeypoints, list[str]]:
    """Return the labels of the crops, in the order of the images, and a note on points that are cut off."""
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []
    n_lost = 0
    for job in jobs:
        for crop in job.crops:
            height, width = crop.to_hw
            place = {"id": crop.annotation.id, "file_name": crop.file_name, "height": height, "width": width}
            images.append(job.image.model_copy(update={**place, "source_image_id": job.image.id}))
            moved, lost = _points_inside(warp_annotation(crop.annotation, crop.affine), crop.to_hw)
            annotations.append(moved.model_copy(update={"image_id": crop.annotation.id}))
            n_lost += lost
    notes = [f"{n_lost} points outside their crop are now absent"] if n_lost else []
    return coco.model_copy(update={"images": images, "annotations": annotations}), notes


def _points_inside(annotation: CocoAnnotation, image_hw: tuple[int, int]) -> tuple[CocoAnnotation, int]:
    """Return an annotation whose points outside the frame are absent, and how many were labelled."""
    points = np.array(annotation.keypoints, np.float64).reshape(-1, 3)
    outside = ~is_inside(points[:, :2], image_hw)
    n_lost = int((outside & (points[:, 2] > 0)).sum())
    points[outside] = 0.0
    changes: dict[str, object] = {"keypoints": points.ravel().tolist()}
    if annotation.num_keypoints is not None:
        changes["num_keypoints"] = int((points[:, 2] > 0).sum())
    return annotation.model_copy(update=changes), n_lost
