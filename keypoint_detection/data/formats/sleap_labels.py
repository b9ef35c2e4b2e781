"""Read the labels of a `.slp` file in this process; a broken file can end it, see `sleap` for the safe way.

SLEAP counts from pixel **centres**: (0, 0) is the middle of the top-left pixel, as here; points do not move.
(Files older than format 1.1 counted from its corner; sleap-io moves those by half a pixel as it reads.)

A skeleton is a category; its symmetries are the category's field `symmetric_keypoints`, pairs of names. A
node that is invisible or NaN is absent, any other visible: SLEAP knows no occluded points. Tracks are the
field `track_id` of an annotation. Predictions are no labels: they are read (with their `score`) only from a
file that has no labels at all.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.data.formats.assembly import DEFAULT_CATEGORY, Point, make_annotation
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.sleap_file import load_slp
from keypoint_detection.data.formats.sleap_frames import FrameImages, write_frame
from keypoint_detection.data.formats.tally import count_notes

_LEFT_OUT = ("suggestions", "sessions", "identities", "events", "rois", "masks", "bboxes", "centroids")


def read_labels(path: Path) -> Conversion:
    """Read the labels of a `.slp` file as COCO keypoints.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: sleap-io is not installed, or the file is broken.
    """
    labels, warnings = load_slp(path)
    counts: Counter[str] = Counter()
    with _refuse_broken_fields(path):
        coco, paths = _convert(path, labels, counts)
    for name in _LEFT_OUT:
        counts[f"{{n}} {name} are left out"] += len(getattr(labels, name, None) or ())
    return Conversion(coco, paths, (*warnings, *(f"{path}: {note}" for note in count_notes(counts))))


def extract_frames(path: Path, folder: Path, file_names: Collection[str]) -> int:
    """Write frames of videos, or inside the file, as the images that `read_labels` names.

    Args:
        path: The `.slp` file.
        folder: Where `images/<video>/frame_000012.png` is to lie.
        file_names: The images to write; frames of videos that are nowhere to be found are left out.

    Returns:
        How many images were written.

    Raises:
        ValueError: The file or one of its videos cannot be read.
    """
    labels, _ = load_slp(path)
    todo, count = set(file_names), 0
    with _refuse_broken_fields(path):
        frames = [frame for frame, _ in _labelled_frames(labels, Counter())]
        frame_images = FrameImages(path, labels, frames)
        for frame in frames:
            image = frame_images.describe(frame)  # of all frames, so that all names are the same again
            if image.file_name in todo:
                todo.remove(image.file_name)
                count += write_frame(path, frame, image, folder)
    return count


@contextlib.contextmanager
def _refuse_broken_fields(path: Path):
    """Turn what a broken field leads to into a line: sleap-io reads many fields as they come."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError) as error:
        if str(error).startswith(f"{path}: "):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path}: expected SLEAP labels, got a broken file; {reason:.200}") from None


def _convert(path: Path, labels: Any, counts: Counter[str]) -> tuple[CocoKeypoints, dict[int, Path]]:
    categories = _categories(path, labels, counts)
    category_of = {
        id(skeleton): category for skeleton, category in zip(labels.skeletons, categories, strict=True)
    }
    tracks = _track_ids(labels.tracks)
    frames = _labelled_frames(labels, counts)
    frame_images = FrameImages(path, labels, [frame for frame, _ in frames])
    images: dict[str, CocoImage] = {}
    paths: dict[int, Path] = {}
    annotations: list[CocoAnnotation] = []
    for frame, instances in frames:
        described = frame_images.describe(frame)
        image = images.get(described.file_name)
        if image is None:
            width, height = described.size
            image = CocoImage(id=len(images) + 1, file_name=described.file_name, width=width, height=height)
            images[image.file_name] = image
            if described.path is not None:
                paths[image.id] = described.path
        for instance in instances:
            category = category_of[id(instance.skeleton)]
            points = _points(instance, category, described.shift_xy)
            if not points:
                counts["{n} instances without a visible point are left out"] += 1
                continue
            annotation = make_annotation(len(annotations) + 1, image.id, category, points)
            annotation.__pydantic_extra__ = _extra_fields(instance, tracks)
            annotations.append(annotation)
    _check_texts([*images, *map(str, tracks.values())])
    counts.update(frame_images.notes(len(images) - len(paths)))
    return CocoKeypoints(images=list(images.values()), categories=categories, annotations=annotations), paths


def _categories(path: Path, labels: Any, counts: Counter[str]) -> list[CocoCategory]:
    """Return one category per skeleton, in order, with names that occur once."""
    categories: list[CocoCategory] = []
    taken: set[str] = set()
    for number, skeleton in enumerate(labels.skeletons, start=1):
        names = [str(name) for name in skeleton.node_names]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{path}: expected node names that occur once in skeleton {number}, got {names}")
        title = str(skeleton.name or DEFAULT_CATEGORY)
        name = title if title not in taken else f"{title}_{number}"
        counts["{n} skeletons of the same name are numbered"] += name != title
        taken.add(name)
        _check_texts([name, *names])
        category = CocoCategory(
            id=number,
            name=name,
            supercategory="",
            keypoints=names,
            skeleton=[[start + 1, end + 1] for start, end in skeleton.edge_inds],
        )
        pairs = sorted(tuple(sorted(pair)) for pair in skeleton.symmetry_inds)
        if pairs:
            category.__pydantic_extra__ = {
                "symmetric_keypoints": [[names[a], names[b]] for a, b in dict.fromkeys(pairs)]
            }
        categories.append(category)
    if not categories:
        raise ValueError(f"{path}: expected at least one skeleton, got none")
    return categories


def _check_texts(texts: list[str]) -> None:
    """Raise a UnicodeEncodeError, a ValueError, for half of a surrogate pair: it cannot be written."""
    "".join(texts).encode()


def _labelled_frames(labels: Any, counts: Counter[str]) -> list[tuple[Any, list[Any]]]:
    """Return the frames that are images of the data set, each with its instances.

    A frame without instances counts only if it is marked as negative: an image without annotations says that
    there is nothing to find.
    """
    predictions_only = not any(frame.has_user_instances for frame in labels.labeled_frames)
    frames: list[tuple[Any, list[Any]]] = []
    for frame in labels.labeled_frames:
        users, predicted = frame.user_instances, frame.predicted_instances
        if predictions_only and predicted:
            counts["{n} predicted instances are read: the file has no labels"] += len(predicted)
            frames.append((frame, predicted))
        elif users or frame.is_negative:
            counts["{n} predicted instances in labelled frames are left out"] += len(predicted)
            frames.append((frame, users))
        elif predicted:
            counts["{n} frames that have predictions only are left out"] += 1
        else:
            counts["{n} frames without instances that are not marked as negative are left out"] += 1
    return frames


def _points(instance: Any, category: CocoCategory, shift_xy: tuple[float, float]) -> dict[str, Point]:
    points: dict[str, Point] = {}
    for name, (x, y) in zip(category.keypoints, instance.numpy()[:, :2].tolist(), strict=True):
        if math.isfinite(x) and math.isfinite(y):  # sleap-io gives NaN for what is not visible
            points[name] = (x + shift_xy[0], y + shift_xy[1], 2)
    return points


def _extra_fields(instance: Any, tracks: Mapping[int, int | str]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if instance.track is not None:
        extra["track_id"] = tracks[id(instance.track)]
    if hasattr(instance, "score") and math.isfinite(instance.score):
        extra["score"] = float(instance.score)
    return extra


def _track_ids(tracks: Any) -> dict[int, int | str]:
    """Return the id of each track by its object: its name, as a number if it is one, or its position."""
    ids: dict[int, int | str] = {}
    for position, track in enumerate(tracks):
        name = str(track.name)
        value: int | str = int(name) if name.isdecimal() and str(int(name[:15])) == name else name
        ids[id(track)] = f"{name}_{position}" if value == "" or value in ids.values() else value
    return ids
