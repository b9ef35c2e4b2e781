"""The network over one source: batches are read ahead and stored behind it."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from keypoint_detection.data.unlabeled_dataset import UnlabeledBatch, collate_unlabeled, prepare_image
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference import predict_batch
from keypoint_detection.models.inference_options import InferenceOptions, prepared_hw
from keypoint_detection.predict_pipeline import opencv_in_one_thread, read_ahead, write_behind
from keypoint_detection.predict_source import Item, Source
from keypoint_detection.predict_store import PartialStore
from keypoint_detection.records import Prediction
from keypoint_detection.visibility.predict_visibility import PointVisibility


@dataclass(frozen=True)
class NetworkRun:
    """Hold how the network is run.

    Attributes:
        detector: In eval mode, on its device.
        inference: Flip test, tiles and number of points.
        batch_size: Images per forward pass.
        confidence_threshold: Least score of a point that is kept.
        on_progress: Called with the number of finished images after every batch.
        visibility: What tells whether the points that are kept can be seen; None leaves that open.
    """

    detector: KeypointDetector
    inference: InferenceOptions
    batch_size: int
    confidence_threshold: float
    on_progress: Callable[[int], None] | None = None
    visibility: PointVisibility | None = None


class Batch(NamedTuple):
    """Hold consecutive items of a source.

    Attributes:
        items: In order, without their images.
        network: Those that have an image, all of one size; None when there is none.
        originals: The images as they were decoded, `[h, w, c]` uint8 each; none unless they are asked for.
    """

    items: list[Item]
    network: UnlabeledBatch | None
    originals: Sequence[NDArray[np.uint8]] = ()


def run_network(source: Source, store: PartialStore, run: NetworkRun, n_items: int | None) -> None:
    """Predict on what the store does not hold yet, and note the end of the source.

    Ctrl-C ends a camera. For any other source it is passed on once everything finished is stored, with a
    message that says so.
    """
    try:
        with opencv_in_one_thread():
            _run(source, store, run, n_items)
    except KeyboardInterrupt:
        if not source.is_camera:
            raise KeyboardInterrupt(store.stopped_text(n_items, is_video=source.is_video)) from None
    store.end()


def _run(source: Source, store: PartialStore, run: NetworkRun, n_items: int | None) -> None:
    detector = run.detector
    items = source.items(store.n_done, detector.backbone.in_channels)
    batches = make_batches(
        items,
        run.batch_size,
        prepared_hw(detector, run.inference),
        keep_originals=run.visibility is not None,
    )
    unit = " frames" if source.is_video else " images"
    with (
        logging_redirect_tqdm(),  # a warning of the reader gets a line of its own
        tqdm(total=n_items, initial=store.n_done, unit=unit, desc="predict", leave=False) as bar,
        write_behind(store.append) as write,
        read_ahead(batches) as ready,
    ):
        for batch in ready:
            write(list(_entries(batch.items, iter(_found(batch, run)))))
            bar.update(len(batch.items))
            if run.on_progress is not None:
                run.on_progress(batch.items[-1].index + 1)


def _found(batch: Batch, run: NetworkRun) -> list[Prediction]:
    """Return the prediction of every image of a batch, without the points that score too low."""
    if batch.network is None:
        return []
    found = predict_batch(run.detector, batch.network, run.inference)
    kept = [confident(prediction, run.confidence_threshold) for prediction in found]
    if run.visibility is None:
        return kept
    return [run.visibility(image, one) for image, one in zip(batch.originals, kept, strict=True)]


def make_batches(
    items: Generator[Item, None, None],
    batch_size: int,
    image_hw: tuple[int, int] | None,
    *,
    keep_originals: bool = False,
) -> Generator[Batch, None, None]:
    """Join consecutive images of one size to batches; what cannot be read goes along.

    A batch begins where the last one ended, so batches are the same from whichever of them one starts.
    """
    noted: list[Item] = []
    samples: list[dict[str, Any]] = []
    originals: list[NDArray[np.uint8]] = []
    with closing(items):
        for item in items:
            if item.image is not None:
                sample = prepare_image(item.image, image_hw, item.source)
                if samples and sample["image"].shape != samples[0]["image"].shape:
                    yield _batch(noted, samples, originals)
                    noted, samples, originals = [], [], []
                samples.append(sample)
                originals += [item.image] if keep_originals else []
            noted.append(replace(item, image=None))
            if len(samples) == batch_size:
                yield _batch(noted, samples, originals)
                noted, samples, originals = [], [], []
    if noted:
        yield _batch(noted, samples, originals)


def _batch(items: list[Item], samples: list[dict[str, Any]], originals: list[NDArray[np.uint8]]) -> Batch:
    return Batch(items, collate_unlabeled(samples) if samples else None, originals)


def _entries(items: list[Item], predictions: Iterator[Prediction]) -> Iterator[Mapping[str, Any]]:
    """Yield what the store holds of each item."""
    for item in items:
        if item.problem is not None:
            yield {"problem": item.problem}
            continue
        entry = next(predictions).to_dict()
        if item.time_s is not None:
            entry = {"source": item.source, "frame": item.index, "time_s": item.time_s, **entry}
        yield {"entry": entry}


def confident(prediction: Prediction, threshold: float) -> Prediction:
    """Return the prediction without the points that score less than the threshold."""
    kept = tuple(tuple(p for p in channel if p.score >= threshold) for channel in prediction.keypoints)
    return replace(prediction, keypoints=kept)
