"""What stands for the data of a training: the COCO files bit by bit, each image by its size and its end."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keypoint_detection.data.datamodule import resized_dataset_path
from keypoint_detection.train.config import TrainConfig

DATA_FIELDS = ("json_dataset_path", "json_validation_dataset_path", "json_test_dataset_path")

TAIL_BYTES = 4096
"""Of each image. A PNG ends with checksums of its pixels, and compressed images of other content rarely share
both their length and their end; to read whole images would cost large data sets minutes per run."""


def data_fingerprint(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Return what stands for each COCO file of a training and its images, by the name of its setting.

    Raises:
        FileNotFoundError: A COCO file is missing.
    """
    found = {}
    for name in DATA_FIELDS:
        path = getattr(config, name)
        if path is not None:
            if config.json_dataset_img_size:
                path = resized_dataset_path(path, config.json_dataset_img_size)
            found[name] = coco_fingerprint(Path(path))
    return found


def coco_fingerprint(path: Path) -> dict[str, Any]:
    """Return place, hash and number of images of a COCO file, and one hash for all its image files."""
    content = path.read_bytes()
    names = [image["file_name"] for image in json.loads(content)["images"]]
    return {
        "path": str(path.absolute()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "images": len(names),
        "image_files": _images_digest(path.parent, names),
    }


def file_sha256(path: str | Path) -> str:
    """Return the hash of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _images_digest(folder: Path, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    with ThreadPoolExecutor(8) as pool:
        for name, end in zip(names, pool.map(lambda name: _end_of(folder / name), names), strict=True):
            digest.update(f"{name}\n{end}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return f"{size} {hashlib.sha256(file.read()).hexdigest()}"
    except OSError:
        return "missing"
