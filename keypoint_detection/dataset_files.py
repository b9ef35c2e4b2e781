"""Data sets on disk: folders that appear when they are complete, images in parallel, files that move."""

import contextlib
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from keypoint_detection.data.coco_parser import CocoImage, CocoKeypoints, write_coco
from keypoint_detection.files import atomic_write

_OPENCV_LOG: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the functions


def image_sources(coco: CocoKeypoints, json_path: Path) -> list[Path]:
    """Return where each image of a COCO file lies; a missing one is a FileNotFoundError with its id."""
    sources = [json_path.parent / image.file_name for image in coco.images]
    missing = [index for index, source in enumerate(sources) if not source.is_file()]
    if missing:
        image, source = coco.images[missing[0]], sources[missing[0]]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise FileNotFoundError(
            f"{json_path}: image {image.id}: expected a file at {source}, found nothing{more}; paths in the "
            "file are relative to its folder"
        )
    return sources


def name_inside(file_name: str) -> str:
    """Return a file name without the way out of its folder: `../video/a.png` and `/video/a.png` both give
    `video/a.png`, and a name that stays inside stays as it is.
    """  # noqa: D205 - two names need a line
    normal = posixpath.normpath(file_name)
    return re.sub(r"^(?:[A-Za-z]:)?(?:/+|\.\./)+", "", normal)


@contextlib.contextmanager
def new_images(output: Path, sources: Sequence[Path], json_name: str) -> Iterator[Path]:
    """Yield a hidden folder in or beside `output`; on success move its files there, the COCO file last.

    A failure leaves nothing behind; a killed run leaves the hidden folder, and no COCO file of its own.

    Args:
        output: Folder of the data set; may hold files already, which are replaced.
        sources: Files that must not be replaced.
        json_name: Name of the COCO file in the folder.

    Raises:
        ValueError: `output` is a file, or a source would be replaced.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected a folder for the data set, got the file {output}")
    beside = output if output.is_dir() else _existing_parent(output)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=beside) as hidden:
        staged = Path(hidden)
        yield staged
        files = sorted(path for path in staged.rglob("*") if path.is_file() and path != staged / json_name)
        moves = {path: output / path.relative_to(staged) for path in (*files, staged / json_name)}
        _check_apart(moves.values(), sources)
        (output / json_name).unlink(missing_ok=True)  # it must not describe half of the new images
        for path, target in moves.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def run_parallel(
    work: Callable[[Any], None], jobs: Sequence[Any], description: str, workers: int | None
) -> None:
    """Do the work for each job in threads (OpenCV lets other threads run), with a progress bar.

    Args:
        work: What to do with a job.
        jobs: One argument of `work` each.
        description: Text of the progress bar.
        workers: Number of threads, at least 1; None takes one per core.

    Raises:
        ValueError: `workers` is below 1; or whatever the first job that fails raises.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"expected at least 1 worker, got {workers}")
    threads, level = cv2.getNumThreads(), _OPENCV_LOG.getLogLevel()
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    cv2.setNumThreads(1)
    _OPENCV_LOG.setLogLevel(0)  # silent: a job raises one line instead
    try:
        futures = [pool.submit(work, job) for job in jobs]
        for future in tqdm(futures, desc=description, leave=False):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)
        _OPENCV_LOG.setLogLevel(level)


def relocated(images: Sequence[CocoImage], from_folder: Path, to_folder: Path) -> list[CocoImage]:
    """Return the images with file names that lead from another folder to the same files.

    Names that are absolute stay. The folders are resolved first, because `..` behind a link leads elsewhere.
    """
    start, end = (Path(os.path.realpath(folder)) for folder in (from_folder, to_folder))
    if start == end:
        return list(images)
    return [
        image
        if Path(image.file_name).is_absolute()
        else image.model_copy(
            update={"file_name": Path(os.path.relpath(start / image.file_name, end)).as_posix()}
        )
        for image in images
    ]


def check_free(outputs: Sequence[Path], sources: Sequence[Path], overwrite: bool) -> None:
    """Raise a ValueError when a COCO file to write is one that is read, or is there already."""
    for output in outputs:
        if output.suffix.lower() != ".json" or output.is_dir():
            raise ValueError(f"expected a path of a COCO file that ends in .json to write, got {output}")
        if output.exists() and any(source.exists() and output.samefile(source) for source in sources):
            raise ValueError(f"{output} would replace the file it is made from; give another output")
        if output.exists() and not overwrite:
            raise ValueError(f"{output} exists already; give another output, or --overwrite to replace it")


def write_together(files: Mapping[Path, CocoKeypoints]) -> None:
    """Write several COCO files: none of them appears before all are complete."""
    with contextlib.ExitStack() as stack:
        for path, coco in files.items():
            write_coco(coco, stack.enter_context(atomic_write(path)))


def _existing_parent(output: Path) -> Path:
    """Return the nearest folder above `output` that is there: the same disk, so that files are moved."""
    for parent in Path(os.path.abspath(output)).parents:
        if parent.exists():
            if parent.is_dir():
                return parent
            raise ValueError(f"expected a folder for the data set, got {output} below the file {parent}")
    return Path.cwd()


def _check_apart(targets: Iterator[Path] | Any, sources: Sequence[Path]) -> None:
    """Raise a ValueError when a target is one of the sources, by whatever path it is reached."""
    kept = {os.path.realpath(source) for source in sources}
    for target in targets:
        if os.path.realpath(target) in kept:
            raise ValueError(f"{target} would replace the file it is made from; give another output folder")
