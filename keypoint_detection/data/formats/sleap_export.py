"""Write COCO keypoints as a SLEAP project."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.data.formats.assembly import labelled_points
from keypoint_detection.data.formats.sleap_file import import_sleap_io
from keypoint_detection.data.formats.sleap_frames import IMAGE_FOLDER_KEY
from keypoint_detection.data.formats.tally import count_notes
from keypoint_detection.files import atomic_write

SLEAP_FILE = "labels.slp"
"""Name of the file that `write_sleap` writes."""


def write_sleap(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write labels as `labels.slp`: categories as skeletons, images of one size as one image sequence.

    Images are named by their absolute paths, as SLEAP writes them; none is copied. An image without
    annotations becomes a negative frame.

    Returns:
        A note with a count for every kind of thing that the format cannot hold.

    Raises:
        ValueError: sleap-io is not installed.
    """
    sleap_io = import_sleap_io()
    folder = Path(image_folder).absolute()
    left_out: Counter[str] = Counter()
    skeletons = {category.id: _skeleton(sleap_io, category, left_out) for category in coco.categories}
    categories = {category.id: category for category in coco.categories}
    tracks: dict[Any, Any] = {}
    instances: dict[int, list[Any]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        _count_left_out(annotation, left_out)
        points = _points(annotation, categories[annotation.category_id], left_out)
        track = (annotation.model_extra or {}).get("track_id")
        if track is not None and str(track) not in tracks:
            tracks[str(track)] = sleap_io.Track(name=str(track))
        if np.isfinite(points).any():
            instance = sleap_io.Instance.from_numpy(
                points,
                skeleton=skeletons[annotation.category_id],
                track=tracks.get(str(track)) if track is not None else None,
            )
            instances[annotation.image_id].append(instance)
        else:
            left_out["{n} instances without points are left out"] += 1
    videos, place = _videos(sleap_io, coco.images, folder)
    annotated = {annotation.image_id for annotation in coco.annotations}
    frames = [
        sleap_io.LabeledFrame(
            video=videos[place[image.id][0]],
            frame_idx=place[image.id][1],
            instances=instances[image.id],
            is_negative=image.id not in annotated,
        )
        for image in coco.images
    ]
    labels = sleap_io.Labels(
        frames, videos=videos, skeletons=list(skeletons.values()), tracks=list(tracks.values())
    )
    labels.provenance = {IMAGE_FOLDER_KEY: folder.as_posix()}
    with atomic_write(Path(output) / SLEAP_FILE) as temporary:
        sleap_io.save_slp(labels, temporary.as_posix(), embed=False, verbose=False)
    left_out["{n} images are numbered anew, from 1"] += sum(
        image.id != number for number, image in enumerate(coco.images, start=1)
    )
    return count_notes(left_out)


def _skeleton(sleap_io: Any, category: CocoCategory, left_out: Counter[str]) -> Any:
    names = category.keypoints
    extra, numbers = category.model_extra or {}, set(range(1, len(names) + 1))
    bones = [bone for bone in category.skeleton or () if len(bone) == 2 and set(bone) <= numbers]
    n_broken = len(category.skeleton or ()) - len(bones)
    left_out["{n} bones of skeletons are left out: no pair of keypoints"] += n_broken
    pairs = [pair for pair in extra.get("symmetric_keypoints") or () if _is_pair(pair, names)]
    left_out["supercategories of {n} categories are left out"] += bool(category.supercategory)
    for name in extra:
        left_out[f"field {name!r} of {{n}} categories is left out"] += name != "symmetric_keypoints"
    return sleap_io.Skeleton(
        nodes=list(names),
        edges=[(bone[0] - 1, bone[1] - 1) for bone in bones],
        symmetries=[tuple(pair) for pair in pairs],
        name=category.name,
    )


def _is_pair(pair: Any, names: list[str]) -> bool:
    return (
        isinstance(pair, list | tuple)
        and len(set(pair)) == len(pair) == 2
        and all(name in names for name in pair)
    )


def _points(annotation: CocoAnnotation, category: CocoCategory, left_out: Counter[str]) -> np.ndarray:
    """Return x and y of all keypoints of the category, `[n, 2]`, NaN where absent."""
    points = np.full((len(category.keypoints), 2), np.nan)
    for name, (x, y, visibility) in labelled_points(annotation, category).items():
        points[category.keypoints.index(name)] = x, y
        left_out["{n} occluded points are written as visible ones"] += visibility == 1
    return points


def _videos(
    sleap_io: Any, images: list[CocoImage], folder: Path
) -> tuple[list[Any], Mapping[int, tuple[int, int]]]:
    """Return image sequences, one per size as SLEAP needs it, and each image's sequence and frame number."""
    by_size: dict[tuple[int, int], list[CocoImage]] = {}
    for image in images:
        by_size.setdefault((image.height, image.width), []).append(image)
    videos, place = [], {}
    for (height, width), members in by_size.items():
        files = [(folder / image.file_name).as_posix() for image in members]
        described = {
            "type": "ImageVideo",
            "shape": [len(files), height, width, 3],
            "filename": files[0],
            "filenames": files,
            "grayscale": False,
        }
        place |= {image.id: (len(videos), number) for number, image in enumerate(members)}
        videos.append(sleap_io.Video(filename=files, open_backend=False, backend_metadata=described))
    return videos, place


def _count_left_out(annotation: CocoAnnotation, left_out: Counter[str]) -> None:
    has_box = annotation.bbox is not None or annotation.area is not None
    left_out["boxes and areas of {n} instances are left out"] += has_box
    left_out["{n} crowd instances are written as others"] += bool(annotation.iscrowd)
    for name in annotation.model_extra or {}:
        left_out[f"field {name!r} of {{n}} instances is left out"] += name != "track_id"
