"""Write a smaller or larger copy of a data set: images, points, boxes, areas and outlines."""

import logging
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.data.coco_parser import CocoImage, CocoKeypoints, read_coco, write_coco
from keypoint_detection.data.image_warp import MAX_SIDE_PX, Pixels, read_pixels, warp_pixels, write_pixels
from keypoint_detection.data.label_warp import warp_annotation, warp_notes
from keypoint_detection.dataset_files import image_sources, name_inside, new_images, run_parallel
from keypoint_detection.geometry import Affine, letterbox_affine, resize_affine

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class _Job:
    image: CocoImage
    source: Path
    target: Path
    affine: Affine
    to_hw: tuple[int, int]


def resize_dataset(
    json_path: str | Path,
    size_hw: tuple[int, int],
    output: str | Path | None = None,
    *,
    letterbox: bool = False,
    workers: int | None = None,
) -> Path:
    """Write the images of a COCO file in one size, with their labels; notes are logged.

    A PNG stays a PNG and a JPEG a JPEG (quality 95); grey, 16-bit and transparent images stay what they are.
    The EXIF orientation is applied. Fields of other tools survive. The COCO file is written last.

    Args:
        json_path: COCO file; the images lie relative to its folder.
        size_hw: Height and width of every new image in pixels.
        output: Folder of the new data set, with the same file names in it; default: `dataset_512x512` beside
            `dataset`, where `--json_dataset_img_size 512x512` looks for it.
        letterbox: Keep the aspect ratio and fill up with grey, instead of stretching each axis by itself.
        workers: Number of threads; None takes one per core.

    Returns:
        The path of the new COCO file.

    Raises:
        FileNotFoundError: The COCO file or an image is missing.
        ValueError: The COCO file, an image or a size is wrong; nothing is left behind.
    """
    json_path = Path(json_path)
    check_size(size_hw)
    coco = read_coco(json_path)
    sources = image_sources(coco, json_path)
    output = default_output(json_path, f"_{size_hw[0]}x{size_hw[1]}") if output is None else Path(output)
    affine_of = letterbox_affine if letterbox else resize_affine
    with new_images(output, [json_path, *sources], json_path.name) as folder:
        names = _names_inside(coco, sources)
        jobs = [
            _Job(image, source, folder / name, affine_of((image.height, image.width), size_hw), size_hw)
            for image, source, name in zip(coco.images, sources, names, strict=True)
        ]
        different = {(job.target, job.image.height, job.image.width): job for job in jobs}
        run_parallel(_resize_image, list(different.values()), "resize", workers)
        write_coco(_resized(coco, jobs, names), folder / json_path.name)
    for note in warp_notes(coco.annotations):
        logger.warning("%s: %s", json_path, note)
    return output / json_path.name


def default_output(json_path: Path, suffix: str) -> Path:
    """Return the folder beside that of a COCO file, its name and a suffix."""
    folder = json_path.parent if json_path.parent.name else json_path.parent.absolute()
    return folder.with_name(f"{folder.name}{suffix}")


def check_size(size_hw: tuple[int, int]) -> None:
    """Raise a ValueError for a frame that cannot be drawn."""
    if not all(1 <= side <= MAX_SIDE_PX for side in size_hw):
        raise ValueError(
            f"expected a height and width of 1 to {MAX_SIDE_PX} pixels, got {size_hw[0]}x{size_hw[1]}"
        )


def read_checked(image: CocoImage, source: Path) -> Pixels:
    """Read an image that must have the size that its COCO file gives."""
    pixels = read_pixels(source)
    height, width = pixels.shape[:2]
    if (height, width) != (image.height, image.width):
        turned = " (the EXIF rotation is applied)" if (height, width) == (image.width, image.height) else ""
        raise ValueError(
            f"image {image.id} ({source}): expected {image.width}x{image.height} px as the COCO file says, "
            f"got {width}x{height}{turned}; correct width and height, and check that the labels fit"
        )
    return pixels


def _resize_image(job: _Job) -> None:
    pixels = read_checked(job.image, job.source)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_pixels(job.target, warp_pixels(pixels, job.affine, job.to_hw))


def _names_inside(coco: CocoKeypoints, sources: list[Path]) -> list[str]:
    """Return the file names of the new images; two files of one name are a ValueError."""
    names = [name_inside(image.file_name) for image in coco.images]
    first: dict[str, Path] = {}
    for image, name, source in zip(coco.images, names, sources, strict=True):
        if first.setdefault(name, source) != source and not first[name].samefile(source):
            raise ValueError(
                f"image {image.id}: {source} and {first[name]} would both become {name}; move one of them"
            )
    return names


def _resized(coco: CocoKeypoints, jobs: list[_Job], names: list[str]) -> CocoKeypoints:
    affines = {job.image.id: job.affine for job in jobs}
    images = [
        job.image.model_copy(update={"file_name": name, "height": job.to_hw[0], "width": job.to_hw[1]})
        for job, name in zip(jobs, names, strict=True)
    ]
    annotations = [warp_annotation(entry, affines[entry.image_id]) for entry in coco.annotations]
    return coco.model_copy(update={"images": images, "annotations": annotations})
