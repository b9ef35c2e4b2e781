"""The page of an evaluation, `report.html`: made of its files, the COCO file, the images and the run."""

import hashlib
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.report_content import CONFIG_FILE, report_content
from keypoint_detection.report_heatmaps import heatmap_picture
from keypoint_detection.report_images import image_severity, make_pictures, pick_images
from keypoint_detection.report_samples import Evaluated, read_evaluated
from keypoint_detection.report_training import RUN_METRICS_FILE

REPORT_FILE = "report.html"


def write_report(
    folder: str | Path,
    json_dataset_path: str | Path,
    *,
    detector: KeypointDetector | None = None,
    checkpoint: str | Path | None = None,
    run_folder: str | Path | None = None,
) -> Path:
    """Write `report.html` into the folder of an evaluation.

    Args:
        folder: The folder that `eval` wrote: `metrics.json`, `predictions.json`, `matches.npz`.
        json_dataset_path: The COCO file that was scored, its images beside it; an image that cannot be read
            has no picture in the page.
        detector: The model, in eval mode, run again on the few images that are shown large; None leaves out
            their heatmaps.
        checkpoint: The file that the model is from; refused where the evaluation says that it scored another.
        run_folder: The folder of the training; None leaves out its curves and its configuration.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or the files do not belong together; one line.
    """
    table = read_table(json_dataset_path, require_images=False)  # a page can do without, a score cannot
    evaluated = read_evaluated(folder, table)
    if checkpoint is not None:
        _check_checkpoint(evaluated, checkpoint)
    run_folder = None if run_folder is None else Path(run_folder)
    return write_evaluated_report(evaluated, detector=detector, run_folder=run_folder)


def write_evaluated_report(
    evaluated: Evaluated, *, detector: KeypointDetector | None, run_folder: Path | None
) -> Path:
    """Write the page of an evaluation that has been read; see `write_report`."""
    from keypoint_detection.report_page import write_page

    if detector is not None and list(detector.channel_names) != evaluated.names:
        raise ValueError(
            f"expected a model with the channels {', '.join(evaluated.names)} of {evaluated.files.folder}, "
            f"got one with {', '.join(detector.channel_names)}; give the checkpoint that was scored"
        )
    content = report_content(evaluated, run_folder)
    pictures, heatmaps = _add_pictures(content["images"], evaluated, detector)
    output = evaluated.files.folder / REPORT_FILE
    write_page(content, pictures, heatmaps, output)
    return output


def run_folder_of(checkpoint: str | Path) -> Path | None:
    """Return the folder of the training that wrote a checkpoint, or None where nothing of it is left."""
    folder = Path(checkpoint).parent
    return known_run(folder.parent if folder.name == "checkpoints" else folder)


def known_run(folder: Path) -> Path | None:
    """Return a folder if it is one of a training: with its configuration or its numbers."""
    is_run = any((folder / name).is_file() for name in (CONFIG_FILE, RUN_METRICS_FILE))
    return folder.absolute() if is_run else None


def checkpoint_mark(checkpoint: str | Path) -> str:
    """Return name and digest of a checkpoint, such as `last.ckpt (0123456789ab)`."""
    with Path(checkpoint).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{Path(checkpoint).name} ({digest[:12]})"


def _check_checkpoint(evaluated: Evaluated, checkpoint: str | Path) -> None:
    """Refuse a checkpoint with other weights than those that were scored: its heatmaps would mislead."""
    scored, given = evaluated.files.report["inference"].get("checkpoint"), checkpoint_mark(checkpoint)
    if isinstance(scored, str) and scored.split()[-1] != given.split()[-1]:
        raise ValueError(
            f"--checkpoint: expected the one scored in {evaluated.files.folder}, {scored}, got {given}"
            f" at {checkpoint}; give that one, leave the flag out, or score this one with eval"
        )


def _add_pictures(
    images: list[dict[str, Any]], evaluated: Evaluated, detector: KeypointDetector | None
) -> tuple[list[bytes], list[bytes]]:
    """Note in the entries of the images where their pictures are; return JPEG and PNG files."""
    picks = pick_images(image_severity(evaluated))
    pictures: list[bytes] = []
    heatmaps: list[bytes] = []
    for row, picture in make_pictures(evaluated, list(picks)).items():
        images[row]["pick"] = picks.get(row)
        if picture.jpeg:
            images[row]["picture"] = len(pictures)
            pictures.append(picture.jpeg)
        if detector is None or row not in picks:
            continue
        heatmap = heatmap_picture(detector, evaluated, row)
        if heatmap is not None:
            images[row]["heatmap"] = len(heatmaps)
            heatmaps.append(heatmap)
    return pictures, heatmaps
