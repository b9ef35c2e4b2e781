"""The predictions for every image of a data set by the fold that was not trained on it, in one list."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_parser import CocoKeypoints

INSTANCE_FIELDS = ("category_id", "keypoints", "score")
"""What makes an entry one of a COCO results file, besides its image."""


def out_of_fold_predictions(files: Iterable[Path], coco: CocoKeypoints) -> list[dict[str, Any]]:
    """Return the entries of the folds' `predictions.json` in the order of the images of the whole data set.

    Where one fold has no COCO results, because its images hold several instances, the others lose that form:
    half of a results file would be scored as if the rest had found nothing.

    Args:
        files: The files of the folds.
        coco: The data set that the folds are of; it names the images.

    Raises:
        ValueError: A file is no list of entries of images of the data set; one line.
    """
    places = {image.id: (place, image.file_name) for place, image in enumerate(coco.images)}
    entries = []
    for file in files:
        for entry in _entries(file):
            if entry.get("image_id") not in places:
                raise ValueError(
                    f"{file}: expected predictions for images of the data set, got {entry.get('image_id')!r}"
                )
            entries.append({**entry, "file_name": places[entry["image_id"]][1]})
    entries.sort(key=lambda entry: places[entry["image_id"]][0])
    if all("keypoints" in entry for entry in entries):
        return entries
    return [{k: v for k, v in entry.items() if k not in INSTANCE_FIELDS} for entry in entries]


def _entries(file: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(entry, dict) for entry in entries):
            raise TypeError
    except (ValueError, TypeError):
        raise ValueError(
            f"{file}: expected a list of predictions, got something else; remove it to score the fold again"
        ) from None
    return entries
