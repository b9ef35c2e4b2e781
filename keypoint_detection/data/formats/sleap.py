"""SLEAP's `.slp` <-> COCO keypoints, through sleap-io.

The file is opened in a process of its own: HDF5 can be brought down by the bytes of a broken file, and what
it takes down then is that process alone. `sleap_labels` says what becomes of the labels.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from keypoint_detection.data.coco_parser import CocoKeypoints, collector_paused
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.sleap_export import write_sleap
from keypoint_detection.data.formats.sleap_file import MISSING_LIBRARY, check_file

__all__ = ["extract_sleap_frames", "read_sleap", "write_sleap"]

_CHILD_MODULE = "keypoint_detection.data.formats.sleap_child"
_READING_LIMIT_S, _EXTRACTION_LIMIT_S = 900.0, 4 * 3600.0


def read_sleap(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read the labels of a `.slp` file as COCO keypoints.

    An image sequence gives the paths of its files. Frames of a video or inside a `.pkg.slp` are named
    `images/<video>/frame_000012.png`; they have a path where such files lie beside the `.slp` file, and
    `extract_sleap_frames` writes them.

    Args:
        source: The `.slp` file.
        categories: Must be None: the file has its own skeletons.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: sleap-io is not installed, or the file is broken.
    """
    if categories is not None:
        raise ValueError(f"SLEAP needs no category configuration, got {categories}; leave it out")
    path = Path(source)
    header, body = _ask_child(path, [], b"", _READING_LIMIT_S)
    with collector_paused():
        coco = CocoKeypoints.model_validate(from_json(body))
    paths = {int(identity): Path(file) for identity, file in header["image_paths"].items()}
    return Conversion(coco, paths, tuple(header["notes"]))


def extract_sleap_frames(source: str | Path, folder: str | Path, coco: CocoKeypoints) -> int:
    """Write the images of `coco` that are frames of a video or inside the `.slp` file, as PNG files.

    Args:
        source: The `.slp` file.
        folder: Where the images are to lie, at their file names.
        coco: What `read_sleap` made of it, or a part of it.

    Returns:
        How many images were written; those of image sequences, and of videos that are neither where the file
        says nor beside it, are none of them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: sleap-io is not installed, or the file or one of its videos cannot be read.
    """
    names = json.dumps([image.file_name for image in coco.images]).encode()
    header, _ = _ask_child(Path(source), [os.fspath(folder)], names, _EXTRACTION_LIMIT_S)
    return header["count"]


def _ask_child(path: Path, arguments: Sequence[str], stdin: bytes, limit_s: float) -> tuple[Any, bytes]:
    """Return the first line of the child's answer, JSON, and what follows it; its error is raised here."""
    if importlib.util.find_spec("sleap_io") is None:
        raise ValueError(MISSING_LIBRARY)
    check_file(path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", _CHILD_MODULE, os.fspath(path), *arguments],
            input=stdin,
            capture_output=True,
            timeout=limit_s,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{path}: expected SLEAP labels that are read within {limit_s:g} s, got none by then; is the "
            "file whole? Save it anew in SLEAP"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{path}: expected to read it in a process of {sys.executable}, which does not start: "
            f"{error.strerror or error}"
        ) from None
    first, _, body = done.stdout.partition(b"\n")
    if done.returncode != 0 or not first:
        last = " ".join(done.stderr.decode(errors="replace").strip().rpartition("\n")[2].split())
        raise ValueError(
            f"{path}: expected SLEAP labels (HDF5), got a file that brings its reader down "
            f"(exit status {done.returncode}{': ' if last else ''}{last:.200}); save it anew in SLEAP"
        )
    header = json.loads(first)
    if "error" in header:
        raise (FileNotFoundError if header["is_missing"] else ValueError)(header["error"])
    return header, body


def _environment() -> dict[str, str]:
    """Return this process' environment, with its places of modules, and without the working directory."""
    places = os.pathsep.join(place for place in sys.path if place)
    return {**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
