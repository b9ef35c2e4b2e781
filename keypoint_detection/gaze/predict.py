"""Predict where people in images or a video look, into files; a stopped run can be gone on with.

Reading, the network and storing overlap; the files are made at the end, from what is stored.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.gaze.head_boxes import HeadBoxes, read_head_boxes
from keypoint_detection.gaze.inference import check_depth
from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.gaze.predict_options import GazePredictOptions
from keypoint_detection.gaze.predict_outputs import write_files
from keypoint_detection.gaze.predict_people import PeopleOfSource, people_of_source
from keypoint_detection.gaze.predict_run import GazeRun, run_follower
from keypoint_detection.predict_folder import claimed
from keypoint_detection.predict_source import Source, VideoSource, find_sources
from keypoint_detection.predict_store import PARTIAL_NAME, PartialStore

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class GazePredictResult:
    """Hold what a prediction run did.

    Attributes:
        n_images: Images or frames that were read, those of a run that was gone on with included.
        n_people: People in them with a prediction.
        is_video: Whether they are frames.
        left_out: One line per image or head box that could not be used.
        output: Folder of the files.
    """

    n_images: int
    n_people: int
    is_video: bool
    left_out: list[str]
    output: Path


def predict_to_files(
    checkpoint: str | Path,
    source: str | Path | Sequence[str | Path],
    boxes: str | Path,
    output: str | Path,
    options: GazePredictOptions | None = None,
    *,
    device: str = "cpu",
) -> GazePredictResult:
    """Write `predictions.json`, `predictions.csv`, and `overlays/*.png` or, for a video, `overlay.mp4`.

    What is finished is kept in `predictions.partial.jsonl`, and the same call goes on behind it. An image
    that cannot be read and a box that is not on its image are left out, and the result says so.

    Args:
        checkpoint: A `.ckpt` file that a training of gaze following wrote.
        source: Images, folders or globs; or one video.
        boxes: File of the heads, see `head_boxes.read_head_boxes`.
        output: Folder for the files.
        options: How to do it; None takes the defaults.
        device: Where to run.

    Raises:
        FileNotFoundError: There is nothing at a path.
        ValueError: The checkpoint or the boxes cannot be used, source and boxes do not fit together, or
            another run is writing to the folder.
        OSError: The disk is full; what is finished is kept.
        KeyboardInterrupt: Ctrl-C was pressed; the message says how to go on.
    """
    options, output = options or GazePredictOptions(), Path(output)
    heads = read_head_boxes(boxes)
    found = _one_source(find_sources(source, options.max_frames, output))
    people = people_of_source(found, heads, options.depth)
    follower = load_follower(checkpoint, device)
    check_depth(follower, has_depth=options.depth is not None)
    n_items = found.count()
    header = _header(Path(checkpoint), heads, people, options, device)
    with (
        claimed(output),
        PartialStore(
            output / PARTIAL_NAME, {**header, "source": found.identity()}, restart=options.restart
        ) as store,
    ):
        if not store.ended:
            run_follower(found, people, store, GazeRun(follower, options), n_items)
        if not store.written:
            write_files(output, found, store, overlays=options.overlays)
            store.finish()
        result = _result(store, found, heads, output)
        store.remove()
    for line in result.left_out:
        logger.warning("left out: %s", line)
    return result


def _one_source(sources: Sequence[Source]) -> Source:
    if len(sources) > 1 or sources[0].is_camera:
        got = "a camera" if sources[0].is_camera else f"{len(sources)} videos"
        raise ValueError(f"expected images or one video, which the head boxes are of, got {got}")
    return sources[0]


def _header(
    checkpoint: Path, heads: HeadBoxes, people: PeopleOfSource, options: GazePredictOptions, device: str
) -> dict[str, Any]:
    """Return what the predictions depend on."""
    option: Mapping[str, Any] = {**asdict(options), "depth": people.depth_identity(), "device": device}
    return {
        "checkpoint": _digest(checkpoint),
        "file of boxes": _digest(heads.path),
        "option": {name: value for name, value in option.items() if name != "restart"},
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _result(store: PartialStore, source: Source, heads: HeadBoxes, output: Path) -> GazePredictResult:
    n_images = n_people = 0
    for record in store.records():
        n_images += 1
        n_people += len(record.entry["people"])
    left_out = store.problems()
    if isinstance(source, VideoSource) and source.max_frames is None:
        late = [number for number in heads.by_frame if number >= store.n_done]
        if late:
            left_out.append(
                f"{heads.path}: {len(late)} frames with boxes, such as {min(late)}, are beyond the "
                f"{store.n_done} of the video"
            )
    return GazePredictResult(n_images, n_people, source.is_video, left_out, output)
