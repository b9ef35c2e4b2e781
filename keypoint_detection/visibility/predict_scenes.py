"""Predict what can be seen in images: a map of P(visible) beside each, points, and how far one can see."""

import csv
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from keypoint_detection.files import atomic_write, write_json
from keypoint_detection.predict_source import one_line
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.dense_map import DenseMap, dense_map
from keypoint_detection.visibility.distance import DistanceEstimate, spatial_blocks, visibility_distance
from keypoint_detection.visibility.evaluate import logits_of_points
from keypoint_detection.visibility.evaluate_run import distance_content
from keypoint_detection.visibility.pictures import compare_regions, draw_map, shrunken, side_by_side
from keypoint_detection.visibility.predict_scenes_files import SceneFiles, read_scene
from keypoint_detection.visibility.pyramid import Pyramid, build_pyramid
from keypoint_detection.visibility.pyramid_layout import COLORS
from keypoint_detection.visibility.sampling import sample_points
from keypoint_detection.visibility.scenes import (
    IMAGE_ENDINGS,
    Scene,
    find_scenes,
    images_of,
)

logger = logging.getLogger("keypoint_detection")

PREDICTIONS_FILE, DISTANCES_FILE, MAPS_FOLDER = "predictions.csv", "distances.json", "maps"
COLUMNS = ("image", "kind", "x", "y", "depth_m", "p_visible")


@dataclass(frozen=True)
class MapOptions:
    """Hold how densely images are looked at.

    Attributes:
        stride_px: Distance of neighbouring points of the map in pixels of the image.
        coarse: Every n-th of them is classified first, see `dense_map`.
        n_points: Points that are drawn for the distance, evenly over log depth; needs a depth map.
        picture_px: Longer side of each part of the pictures.
        seed: Of the points and of the intervals.
    """

    stride_px: int = 16
    coarse: int = 4
    n_points: int = 500
    picture_px: int = 960
    seed: int = 0


@dataclass(frozen=True)
class ScenesResult:
    """Hold what became of some images.

    Attributes:
        distances: The distance of each image by its name, as in `distances.json`.
        unreadable: One line per image that could not be read, or whose depth map or masks could not.
    """

    distances: dict[str, dict[str, Any]]
    unreadable: list[str]


@dataclass(frozen=True)
class _Seen:
    """Hold what was found in one image."""

    found: DenseMap
    xy: NDArray[np.float64]
    p_visible: NDArray[np.float64]
    distance: DistanceEstimate | None


def predict_scenes(
    classifier: VisibilityClassifier,
    scenes: Sequence[Scene],
    output: str | Path,
    options: MapOptions | None = None,
) -> ScenesResult:
    """Write a picture per image into `maps/`, `predictions.csv`, and in the end `distances.json`.

    An image that cannot be read is named and left out.

    Args:
        classifier: In eval mode, on its device.
        scenes: Images with or without depth maps; masks are shown as the truth where there are any.
        output: Made if need be.
        options: How densely to look.

    Returns:
        The distances, and what could not be read.

    Raises:
        ValueError: The classifier needs depth and there is none, or `output` is a file; one line.
        OSError: What is found cannot be written.
    """
    output, options = Path(output), options or MapOptions()
    check_depths(classifier, scenes)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: expected a folder, got the file {output}; give another")
    pictures = _picture_paths(scenes, output / MAPS_FOLDER)
    result = ScenesResult({}, [])
    with (
        atomic_write(output / PREDICTIONS_FILE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for scene in scenes:
            try:
                read = read_scene(scene)
            except (ValueError, OSError) as error:
                result.unreadable.append(one_line(error))
                logger.warning("not read: %s", result.unreadable[-1])
                continue
            seen = _see(classifier, scene, read, options)
            _write_picture(pictures[scene.name], read, seen, options)
            writer.writerows(_rows(scene, read, seen))
            result.distances[scene.name] = distance_content(seen.distance)
            print(f"{scene.name}: {seen.distance or 'no depth, no distance'}", flush=True)
    write_json(output / DISTANCES_FILE, result.distances)
    return result


def check_depths(classifier: VisibilityClassifier, scenes: Sequence[Scene]) -> None:
    """Raise a ValueError if the classifier looks at depth and an image has none."""
    lacking = [scene for scene in scenes if scene.depth_path is None]
    if lacking and int(classifier.hparams["n_channels"]) > COLORS:
        raise ValueError(
            f"{lacking[0].image_path}: expected a depth map, as the classifier looks at depth, found none "
            f"({len(lacking)} of {len(scenes)} images); give --depth, or a classifier that was trained with "
            "make-dataset --no-depth_channel"
        )


def find_images(
    sources: Sequence[str | Path],
    depth: str | Path | None = None,
    *,
    output: str | Path | None = None,
) -> list[Scene]:
    """Return the images of files, folders of images, or folders of scenes.

    Args:
        sources: Image files, folders of them, or folders in a layout of `scenes`.
        depth: A `.npy` file for all images, or a folder with one of the stem of each; for plain images only.
        output: Folder of the predictions, which may lie in a source: its pictures are no images to predict.

    Raises:
        FileNotFoundError: A source is missing, or an image has no depth map in the folder.
        ValueError: A folder holds no image.
    """
    scenes: list[Scene] = []
    for source in map(Path, sources):
        if source.is_dir() and depth is None and _is_layout(source):
            scenes += find_scenes(source)
            continue
        for path in _plain_images(source, None if output is None else Path(output) / MAPS_FOLDER):
            name = path.relative_to(source).as_posix() if source.is_dir() else path.name
            scenes.append(Scene(name, path.parent.name, path, _depth_of(path, depth), None, None))
    repeated, times = Counter(scene.name for scene in scenes).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"expected images of different names, got {repeated!r} twice; predict them one by one"
        )
    return scenes


def _is_layout(folder: Path) -> bool:
    try:
        return bool(find_scenes(folder))
    except ValueError:
        return False


def _plain_images(source: Path, left_out: Path | None) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"expected an image or a folder of images, found nothing at {source}")
    others = None if left_out is None else left_out.resolve()
    found = [path for path in images_of(source.rglob("*")) if others not in path.resolve().parents]
    if not found:
        raise ValueError(f"{source}: expected images ({', '.join(sorted(IMAGE_ENDINGS))}), found none")
    return found


def _depth_of(image: Path, depth: str | Path | None) -> Path | None:
    if depth is None:
        return None
    path = Path(depth)
    path = path / f"{image.stem}.npy" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{image}: expected its depth map at {path} (.npy, metres), found none")
    return path


def _see(classifier: VisibilityClassifier, scene: Scene, read: SceneFiles, options: MapOptions) -> _Seen:
    """Classify a grid over the ground of an image, and points that are spread evenly over log depth."""
    depth_m = read.depth_m
    has_channel = int(classifier.hparams["n_channels"]) > COLORS
    with tempfile.TemporaryDirectory() as folder:
        pyramid = build_pyramid(
            folder,
            [scene.image_path],
            [read.image.shape[:2]],
            [scene.depth_path] if has_channel else None,
            classifier.hparams["factors"],
            image_names=[scene.name],
        )
        where = None if depth_m is None else np.isfinite(depth_m)
        found = dense_map(classifier, pyramid, 0, options.stride_px, where=where, coarse=options.coarse)
        xy, p_visible, distance = _far_seen(classifier, pyramid, depth_m, options)
    return _Seen(found, xy, p_visible, distance)


def _far_seen(
    classifier: VisibilityClassifier,
    pyramid: Pyramid,
    depth_m: NDArray[np.float32] | None,
    options: MapOptions,
) -> tuple[NDArray[np.float64], NDArray[np.float64], DistanceEstimate | None]:
    """Return sampled points, their P(visible) and the distance; none of them without depth."""
    if depth_m is None:
        return np.empty((0, 2)), np.empty(0), None
    rng = np.random.default_rng(options.seed)
    everywhere = np.zeros(depth_m.shape, np.uint8)
    xy, _, point_depth_m = sample_points(depth_m, everywhere, options.n_points, 0, rng)
    logits = logits_of_points(classifier, pyramid, np.zeros(len(xy), np.int64), xy)
    blocks = spatial_blocks(xy, (depth_m.shape[0], depth_m.shape[1]))
    distance = visibility_distance(expit(logits), point_depth_m, blocks=blocks, seed=options.seed)
    return xy, expit(logits), distance


def _picture_paths(scenes: Sequence[Scene], folder: Path) -> Mapping[str, Path]:
    """Return a path for the picture of each image; those that differ in the ending only keep it."""
    plain = {scene.name: folder / Path(scene.name).with_suffix(".png") for scene in scenes}
    times = Counter(plain.values())
    return {name: path if times[path] == 1 else folder / f"{name}.png" for name, path in plain.items()}


def _write_picture(path: Path, read: SceneFiles, seen: _Seen, options: MapOptions) -> None:
    if read.labels is not None:
        picture = compare_regions(read.image, read.labels, seen.found, longest_px=options.picture_px)
    else:
        small, _ = shrunken(read.image, options.picture_px)
        picture = side_by_side([small, draw_map(small, seen.found)], ("image", "predicted"))
    content = cv2.imencode(".png", picture[..., ::-1])[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.tobytes())  # unlike imwrite it says why it cannot


def _rows(scene: Scene, read: SceneFiles, seen: _Seen) -> Iterator[list[Any]]:
    """Yield a row per point: of the grid of the map, then of those that the distance is made of."""
    grid = np.isfinite(seen.found.p_visible)
    for kind, xy, p_visible in (
        ("map", seen.found.xy[grid], seen.found.p_visible[grid]),
        ("distance", seen.xy, seen.p_visible),
    ):
        for (x, y), p in zip(xy.tolist(), p_visible.tolist(), strict=True):
            depth_m = None if read.depth_m is None else float(read.depth_m[int(y), int(x)])
            shown = "" if depth_m is None or not np.isfinite(depth_m) else depth_m
            yield [scene.name, kind, x, y, shown, p]
