"""A follower over one source: images are read ahead, and what is found is stored behind."""

import base64
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.head_boxes import HeadBox
from keypoint_detection.gaze.inference import PersonGaze, box_problem, predict_gaze
from keypoint_detection.gaze.inference_inputs import read_image
from keypoint_detection.gaze.predict_options import GazePredictOptions
from keypoint_detection.gaze.predict_people import PeopleOfSource
from keypoint_detection.predict_pipeline import opencv_in_one_thread, read_ahead, write_behind
from keypoint_detection.predict_source import Item, Source, one_line
from keypoint_detection.predict_store import PartialStore

_MOST_IMAGES = 64  # in a batch, where there is hardly anybody


class GazeRun(NamedTuple):
    """Hold the model, in eval mode on its device, and how to run it."""

    follower: GazeFollower
    options: GazePredictOptions


@dataclass
class _Seen:
    """Hold an image, its heads that can be used, and what is wrong with the others."""

    item: Item
    heads: list[HeadBox] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    depth: NDArray[np.uint8] | None = None


def run_follower(
    source: Source, people: PeopleOfSource, store: PartialStore, run: GazeRun, n_items: int | None
) -> None:
    """Predict on what the store does not hold yet, and note the end of the source.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; everything finished is stored, and the message says so.
    """
    try:
        with opencv_in_one_thread():
            _run(source, people, store, run, n_items)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(store.stopped_text(n_items, is_video=source.is_video)) from None
    store.end()


def _run(
    source: Source, people: PeopleOfSource, store: PartialStore, run: GazeRun, n_items: int | None
) -> None:
    items = source.items(store.n_done, 3)
    unit = " frames" if source.is_video else " images"
    with (
        logging_redirect_tqdm(),  # a warning of the reader gets a line of its own
        tqdm(total=n_items, initial=store.n_done, unit=unit, desc="gaze", leave=False) as bar,
        write_behind(store.append) as write,
        read_ahead(_batches(items, people, run.options.batch_size)) as ready,
    ):
        for batch in ready:
            write(_entries(batch, run))
            bar.update(len(batch))


def _batches(
    items: Generator[Item, None, None], people: PeopleOfSource, batch_size: int
) -> Generator[list[_Seen], None, None]:
    """Join consecutive images until they have as many people as a batch; those without anybody go along.

    A batch begins where the last one ended, so batches are the same from whichever of them one starts.
    """
    batch: list[_Seen] = []
    n_people = 0
    with closing(items):
        for item in items:
            batch.append(_seen(item, people))
            n_people += len(batch[-1].heads)
            if n_people >= batch_size or len(batch) == _MOST_IMAGES:
                yield batch
                batch, n_people = [], 0
    if batch:
        yield batch


def _seen(item: Item, people: PeopleOfSource) -> _Seen:
    if item.image is None:
        return _Seen(item)
    seen, image_hw = _Seen(item), (item.image.shape[0], item.image.shape[1])
    for head in people[item.index]:
        problem = box_problem(np.array(head.box), _eye(head), image_hw)
        if problem is None:
            seen.heads.append(head)
        else:
            seen.problems.append(f"{head.place}: {problem}")
    try:
        path = people.depth(item.index) if seen.heads else None
        seen.depth = None if path is None else read_image(path, str(path), n_channels=1).pixels
    except (ValueError, OSError) as error:
        seen.heads = []
        seen.problems.append(one_line(error))
    return seen


def _eye(head: HeadBox) -> NDArray[np.float64]:
    return np.array(head.eye or (np.nan, np.nan))


def _entries(batch: Sequence[_Seen], run: GazeRun) -> list[dict[str, Any]]:
    """Return what is stored of each image: its people, and why it or some of them are left out."""
    found: dict[int, list[PersonGaze]] = {}
    for person in _found([seen for seen in batch if seen.heads], run):
        found.setdefault(person.image, []).append(person)
    entries, place = [], count()
    for seen in batch:
        of_image = found.get(next(place), []) if seen.heads else []
        entries.append(_entry(seen, of_image, run.options))
    return entries


def _found(batch: Sequence[_Seen], run: GazeRun) -> list[PersonGaze]:
    if not batch:
        return []
    options = run.options
    images: list[Any] = [seen.item.image for seen in batch]
    depths: list[Any] = [seen.depth for seen in batch]
    return predict_gaze(
        run.follower,
        images,
        [[head.box for head in seen.heads] for seen in batch],
        eyes=[[_eye(head) for head in seen.heads] for seen in batch],
        depths=None if options.depth is None else depths,
        samples=options.samples,
        seed=options.seed,
        numbers=[seen.item.index for seen in batch],
        batch_size=options.batch_size,
        heatmaps=False,
    )


def _entry(seen: _Seen, found: Sequence[PersonGaze], options: GazePredictOptions) -> dict[str, Any]:
    item = seen.item
    problems = [line for line in (item.problem, *seen.problems) if line is not None]
    stored: dict[str, Any] = {"problem": "; ".join(problems)} if problems else {}
    if item.image is None:
        return stored
    time = {} if item.time_s is None else {"frame": item.index, "time_s": item.time_s}
    people = []
    for head, person in zip(seen.heads, found, strict=True):
        heat = {} if person.gaze.heat is None or not options.overlays else {"heat": packed(person.gaze.heat)}
        people.append({"person": head.person, **person.to_dict(), **heat})
    height, width = item.image.shape[:2]
    entry = {"source": item.source, **time, "height": height, "width": width, "people": people}
    return {"entry": entry, **stored}


def packed(heat: NDArray[np.uint8]) -> str:
    """Return a map `[h, w]` as text: PNG in base 64."""
    return base64.b64encode(cv2.imencode(".png", heat)[1].tobytes()).decode()


def unpacked(text: str) -> NDArray[np.uint8]:
    """Return the map of `packed`."""
    content = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)
