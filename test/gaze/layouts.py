"""Write small data sets in the layouts that gaze readers read, with images of one grey."""

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_image(path: Path, image_hw: tuple[int, int] = (100, 200)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(image_hw, 90, np.uint8))
    return path


def gazefollow_line(
    path: str = "train/0/a.png",
    *,
    eye: Sequence[object] = (0.25, 0.2),
    gaze: Sequence[object] = (0.5, 0.75),
    box: Sequence[object] = (40, 10, 60, 30),
    in_out: object | None = 1,
    further: Sequence[object] = ("coco", "original.png"),
) -> str:
    """Return one line; `in_out=None` makes a line of the test file."""
    cells = [path, 1, 30, 5, 50, 90, *eye, *gaze, *box, *([] if in_out is None else [in_out]), *further]
    return ",".join(str(cell) for cell in cells)


def write_gazefollow(
    root: Path,
    lines: Iterable[str],
    file: str = "train_annotations_release.txt",
    image_hw: tuple[int, int] = (100, 200),
) -> Path:
    """Write the file, and an image for each path in it that has none."""
    lines = list(lines)
    for line in lines:
        name = root / line.split(",")[0]
        if name.suffix and not name.exists():
            write_image(name, image_hw)
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_videoattention(
    root: Path,
    files: dict[str, list[str]],
    split: str = "train",
    image_hw: tuple[int, int] = (100, 200),
) -> Path:
    """Write `{"show/clip/person.txt": lines}` and an image for each frame; return the split's folder."""
    folder = root / "annotations" / split
    for name, lines in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for line in lines:
            image = root / "images" / Path(name).parent / line.split(",")[0]
            if image.suffix and not image.exists():
                write_image(image, image_hw)
    return folder


def goo_entry(filename: Any = r"15\cam1\a.png", **changes: Any) -> dict[str, Any]:
    """Return an entry with all fields of GOO; None leaves a field out."""
    entry = {
        "filename": filename,
        "width": 1920,
        "height": 1080,
        "ann": {
            "bboxes": np.array([[10, 20, 30, 40], [5, 5, 25, 25]], np.float32),
            "labels": np.array([3, 24], np.int64),
        },
        "gaze_item": 3,
        "gazeIdx": 0,
        "gaze_cx": 320,
        "gaze_cy": np.float64(360.0),
        "hx": np.int64(160),
        "hy": 240.0,
        "seg": [[0, 0, 5, 5]],
        "occluded": False,
    }
    entry |= changes
    return {key: value for key, value in entry.items() if value is not None}


def retail_entry(filename: str = "a/b.png", hbox: Any = (64, 48, 128, 96)) -> dict[str, Any]:
    """Return an entry as RetailGaze has them: a head box, no eye."""
    return {"filename": filename, "ann": {"hbox": hbox}, "gaze_cx": 320.0, "gaze_cy": 240.0}


def write_goo(
    root: Path,
    entries: Any,
    file: str = "train.pickle",
    image_hw: tuple[int, int] = (100, 200),
    protocol: int = pickle.DEFAULT_PROTOCOL,
) -> Path:
    """Write the pickle, and an image for each file name."""
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str):
            image = root / entry["filename"].replace("\\", "/")
            if not image.exists():
                write_image(image, image_hw)
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(entries, protocol=protocol))
    return path
