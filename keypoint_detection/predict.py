"""Run a detector over images, videos or a camera and write what it finds; a stopped run can be gone on with.

Reading, the network and storing overlap; the files are made at the end, from what is stored.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.symmetry import read_symmetry
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import mirrored_channels
from keypoint_detection.models.inference_options import InferenceOptions, check_options
from keypoint_detection.overlay_video import write_overlay_video
from keypoint_detection.predict_coco import (
    CocoTarget,
    check_one_keypoint_each,
    coco_target,
    image_ids,
    write_coco_results,
)
from keypoint_detection.predict_folder import DEEPLABCUT, OVERLAY_VIDEO, OVERLAYS, claimed
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.predict_outputs import (
    write_deeplabcut,
    write_overlays,
    write_predictions_csv,
    write_predictions_json,
)
from keypoint_detection.predict_run import NetworkRun, run_network
from keypoint_detection.predict_source import Source, VideoSource, find_sources, one_line, video_folders
from keypoint_detection.predict_store import PARTIAL_NAME, PartialStore
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.visibility.predict_visibility import PointVisibility, load_point_visibility

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class PredictResult:
    """Hold what a prediction run did.

    Attributes:
        n_images: Images or frames with a prediction, those of a run that was gone on with included.
        is_video: Whether they are frames.
        n_keypoints: Points that were written.
        unreadable: One line per image or video that could not be read, or not to its end.
        output: Folder of the files.
    """

    n_images: int
    n_keypoints: int
    unreadable: list[str]
    output: Path
    is_video: bool = False


@dataclass(frozen=True)
class _Plan:
    """Hold what is the same for every source of a run."""

    network: NetworkRun
    options: PredictOptions
    header: Mapping[str, Any]
    coco: CocoTarget | None

    @property
    def visibility_columns(self) -> tuple[str, ...]:
        """Return what is known of every point about its visibility."""
        if self.network.visibility is not None:
            return "visibility", "p_visible"
        return ("visibility",) if self.network.detector.head.is_signed else ()


def predict_to_files(
    checkpoint: str | Path,
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    options: PredictOptions | None = None,
    *,
    device: str = "cpu",
    on_progress: Callable[[int], None] | None = None,
) -> PredictResult:
    """Find keypoints; write `predictions.json`, `predictions.csv` and overlays.

    What is finished is kept in `predictions.partial.jsonl`, and the same call goes on behind it.

    Args:
        checkpoint: A `.ckpt` file that a training wrote.
        source: An image, a video, a folder, a glob, `camera:0`, or a list of these. Several videos have
            their files in a folder each, named after them.
        output: Folder for the files.
        options: What to do; None takes the defaults.
        device: Where to run.
        on_progress: Called with the number of finished images of a source after every batch.

    Returns:
        How much was found, and what could not be read.

    Raises:
        FileNotFoundError: There is nothing at a source.
        ValueError: The model or the only video cannot be read, it cannot give what is asked for, or another
            run is writing to the folder.
        OSError: The disk is full; what is finished is kept.
        KeyboardInterrupt: Ctrl-C was pressed; the message says how to go on.
    """
    options = options or PredictOptions()
    sources = find_sources(source, options.max_frames, Path(output))
    if options.trail_frames and not sources[0].is_video:
        raise ValueError("--trail expects a video, got images; leave it out")
    detector = load_model(checkpoint, device)
    plan = _plan(detector, Path(checkpoint), sources[0], options, on_progress)
    folders = video_folders(sources, Path(output))
    unreadable: list[str] = []
    n_images = n_keypoints = 0
    for one, folder in zip(sources, folders, strict=True):
        try:
            n_items = one.count()
        except (ValueError, OSError) as error:
            if len(sources) == 1:
                raise
            unreadable.append(one_line(error))
            continue
        with claimed(folder):
            result = _predict_source(plan, one, folder, n_items)
        n_images, n_keypoints = n_images + result.n_images, n_keypoints + result.n_keypoints
        unreadable += result.unreadable
    for folder in folders:  # they have told a later run of several videos which of them are finished
        (folder / PARTIAL_NAME).unlink(missing_ok=True)
    for line in unreadable:
        logger.warning("not read: %s", line)
    return PredictResult(n_images, n_keypoints, unreadable, Path(output), sources[0].is_video)


def _plan(
    detector: KeypointDetector,
    checkpoint: Path,
    source: Source,
    options: PredictOptions,
    on_progress: Callable[[int], None] | None,
) -> _Plan:
    """Check that the model can give what is asked for, before anything is written."""
    channels = detector.hparams["keypoint_channel_configuration"]
    if options.deeplabcut:
        check_one_keypoint_each(channels, "DeepLabCut's tables")
    coco = None if options.json_dataset_path is None else read_coco(options.json_dataset_path)
    mirrored = None
    if options.flip_test:
        symmetry = read_symmetry(coco) if coco else None
        mirrored = mirrored_channels(channels, options.symmetric_keypoints, symmetry)
    inference = InferenceOptions(mirrored, options.tile_px, options.overlap_px, options.max_keypoints)
    check_options(detector, inference)
    if options.tile_px is not None and detector.hparams["image_size"]:
        height, width = detector.hparams["image_size"]
        logger.warning(
            "--tile: the model was trained on images scaled to %dx%d; tiles keep the scale of the image, so "
            "what is to be found should be about as large in pixels as it was there",
            *(width, height),
        )
    run = NetworkRun(
        detector,
        inference,
        options.batch_size,
        options.confidence_threshold,
        on_progress=on_progress,
        visibility=_point_visibility(detector, options),
    )
    header = _header(checkpoint, options, mirrored, detector.device.type)
    target = _coco_target(channels, source, options, coco) if options.coco else None
    plan = _Plan(run, options, header, target)
    if options.deeplabcut and plan.visibility_columns:
        logger.info("--deeplabcut: its tables do not say which points are occluded; predictions.csv does")
    return plan


def _header(
    checkpoint: Path, options: PredictOptions, mirrored: Sequence[int] | None, device: str
) -> dict[str, Any]:
    """Return what the predictions depend on."""
    return {
        "checkpoint": _digest(checkpoint),
        "visibility model": None if options.visibility is None else _digest(Path(options.visibility)),
        "option": {
            "confidence_threshold": options.confidence_threshold,
            "batch_size": options.batch_size,
            "mirrored": mirrored,
            "tile_px": options.tile_px,
            "overlap_px": options.overlap_px,
            "max_keypoints": options.max_keypoints,
            "max_frames": options.max_frames,
            "device": device,
        },
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _point_visibility(detector: KeypointDetector, options: PredictOptions) -> PointVisibility | None:
    """Load the visibility classifier, which sees the same decoded images as the detector."""
    if options.visibility is None:
        return None
    n_channels = detector.backbone.in_channels
    if n_channels != 3:
        raise ValueError(
            f"--visibility needs a keypoint detector of RGB images, got one of {n_channels} channels; leave "
            "the flag out"
        )
    if detector.head.is_signed:
        logger.warning(
            "--visibility: the detector tells occluded points by itself; visibility and p_visible are those "
            "of the classifier"
        )
    return load_point_visibility(options.visibility, detector.device)


def _coco_target(
    channels: Sequence[Sequence[str]], source: Source, options: PredictOptions, coco: CocoKeypoints | None
) -> CocoTarget:
    """Return what COCO results refer to: entries of the given file, or numbers from 1."""
    target = coco_target([list(channel) for channel in channels], coco)
    if coco is None or options.json_dataset_path is None:
        return target
    if isinstance(source, VideoSource):
        raise ValueError(
            "--json_dataset_path gives COCO results the ids of images, got a video, whose frames have none; "
            "leave the flag out to number the frames from 1"
        )
    return replace(target, image_ids=image_ids(source.paths, coco, Path(options.json_dataset_path)))


def _predict_source(plan: _Plan, source: Source, folder: Path, n_items: int | None) -> PredictResult:
    """Predict on one source, or go on with it, and write its files."""
    header = {**plan.header, "source": source.identity()}
    with PartialStore(folder / PARTIAL_NAME, header, restart=plan.options.restart) as store:
        if not store.ended:
            run_network(source, store, plan.network, n_items)
        if not store.written:
            _write_files(plan, source, store, folder)
            store.finish()
        n_images = n_keypoints = 0
        for record in store.records():
            n_images += 1
            n_keypoints += sum(map(len, record.entry["keypoints"].values()))
        return PredictResult(n_images, n_keypoints, store.problems(), folder)


def _write_files(plan: _Plan, source: Source, store: PartialStore, folder: Path) -> None:
    """Write all files of one source from what is stored; the drawing, which takes longest, comes last."""
    options, detector = plan.options, plan.network.detector
    names, is_video = detector.channel_names, source.is_video
    write_predictions_json(folder / "predictions.json", store.records())
    write_predictions_csv(
        folder / "predictions.csv",
        store.records(),
        is_video=is_video,
        more_columns=plan.visibility_columns,
    )
    if plan.coco is not None:
        has_flags = bool(plan.visibility_columns)
        write_coco_results(folder / "predictions_coco.json", store.records(), plan.coco, has_flags=has_flags)
    if options.deeplabcut:
        write_deeplabcut(folder / DEEPLABCUT, store.records(), names, is_video=is_video)
    if not options.overlays:
        return
    if isinstance(source, VideoSource):
        if next(store.records(), None) is not None:
            _write_overlay_video(plan, source, store, folder / OVERLAY_VIDEO)
    else:
        write_overlays(folder / OVERLAYS, store.records(), detector, names=options.names)


def _write_overlay_video(plan: _Plan, source: VideoSource, store: PartialStore, path: Path) -> None:
    """Draw the stored points on the frames of a video file, which is read again."""
    if source.is_camera:
        logger.info("no overlay.mp4: the frames of a camera are not kept")
        return
    detector, options = plan.network.detector, plan.options
    write_overlay_video(
        source.source,
        (record.prediction(detector.channel_names) for record in store.records()),
        path,
        skeleton=detector.channel_skeleton,
        confidence_threshold=options.confidence_threshold,
        trail_frames=options.trail_frames,
        names=options.names,
    )
