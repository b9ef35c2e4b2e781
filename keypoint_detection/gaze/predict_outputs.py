"""The files of a run of gaze predictions, each made from what is stored in one pass and in little memory."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.files import atomic_write
from keypoint_detection.gaze.gaze_prediction import GazePrediction
from keypoint_detection.gaze.overlays import draw_gaze
from keypoint_detection.gaze.predict_run import unpacked
from keypoint_detection.geometry import resize_affine, transform_points
from keypoint_detection.overlay_video import write_drawn_video
from keypoint_detection.predict_folder import OVERLAY_VIDEO, OVERLAYS
from keypoint_detection.predict_outputs import overlay_path, write_picture, write_predictions_json
from keypoint_detection.predict_pipeline import map_in_order
from keypoint_detection.predict_source import Source, VideoSource
from keypoint_detection.predict_store import PartialStore, Record

OVERLAY_SIDE_PX = 480
"""Smaller images are enlarged about to this, so that there is room for the text."""

PERSON_COLUMNS = ("person", "x0", "y0", "x1", "y1", "eye_x", "eye_y", "p_in_frame", "gaze_x", "gaze_y")
MODE_COLUMNS = ("rank", "x", "y", "weight", "std_px")

_PX, _SHARE = "{:.3f}".format, "{:.4f}".format


@dataclass(frozen=True)
class _People:
    """Hold the people of one image as they are stored."""

    entry: Mapping[str, Any]

    @property
    def image_hw(self) -> tuple[int, int]:
        return self.entry["height"], self.entry["width"]


def write_files(folder: Path, source: Source, store: PartialStore, *, overlays: bool) -> None:
    """Write all files of a source from what is stored; the drawing, which takes longest, comes last."""
    write_predictions_json(folder / "predictions.json", map(_without_heat, store.records()))
    write_gaze_csv(folder / "predictions.csv", store.records(), is_video=source.is_video)
    if not overlays:
        return
    people = (_People(record.entry) for record in store.records())
    if not isinstance(source, VideoSource):
        _write_overlays(folder / OVERLAYS, people)
    elif next(store.records(), None) is not None:
        write_drawn_video(source.source, people, folder / OVERLAY_VIDEO, _drawn)


def _without_heat(record: Record) -> Record:
    people = [
        {name: value for name, value in person.items() if name != "heat"} for person in record.entry["people"]
    ]
    return replace(record, entry={**record.entry, "people": people})


def write_gaze_csv(path: Path, records: Iterable[Record], *, is_video: bool) -> None:
    """Write one row per candidate target of each person, the heaviest first (rank 0); pixels."""
    first_columns = ("frame", "time_s") if is_video else ("image",)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*first_columns, *PERSON_COLUMNS, *MODE_COLUMNS))
        for record in records:
            entry = record.entry
            first = [entry["frame"], f"{entry['time_s']:.6f}"] if is_video else [entry["source"]]
            for person in entry["people"]:
                writer.writerows([*first, *cells] for cells in _rows(person))


def _rows(person: Mapping[str, Any]) -> Iterator[list[Any]]:
    places = [*map(_PX, person["head_box"]), *map(_PX, person["eye"])]
    about = [person["person"], *places, _SHARE(person["p_in_frame"]), *map(_PX, person["gaze"])]
    for rank, mode in enumerate(person["modes"]):
        target = [_PX(mode["x"]), _PX(mode["y"]), _SHARE(mode["weight"]), _PX(mode["std_px"])]
        yield [*about, rank, *target]


def prediction_of(stored: Mapping[str, Any]) -> GazePrediction:
    """Return the prediction of a stored person; the heat is None where it was not kept."""
    modes = stored["modes"]
    return GazePrediction(
        point_xy=np.array(stored["gaze"], np.float64),
        p_in=stored["p_in_frame"],
        samples_xy=np.array(stored["samples"], np.float64),
        modes_xy=np.array([(mode["x"], mode["y"]) for mode in modes], np.float64),
        weights=np.array([mode["weight"] for mode in modes], np.float64),
        mode_std_px=np.array([mode["std_px"] for mode in modes], np.float64),
        spread=stored["spread"],
        heat=unpacked(stored["heat"]) if "heat" in stored else None,
    )


def _write_overlays(folder: Path, found: Iterable[_People]) -> None:
    """Draw every image that somebody is in, small ones enlarged, and write one PNG each."""
    taken: dict[str, int] = {}

    def jobs() -> Iterator[tuple[Path, _People]]:
        for people in found:
            if people.entry["people"]:
                yield overlay_path(folder, people.entry["source"], taken), people

    def draw(job: tuple[Path, _People]) -> None:
        path, people = job
        image = load_image(people.entry["source"])
        write_picture(path, draw_people(image, people.entry["people"], OVERLAY_SIDE_PX))

    for _ in map_in_order(draw, jobs(), min(8, os.cpu_count() or 1)):
        pass


def _drawn(image: NDArray[np.uint8], people: _People) -> NDArray[np.uint8]:
    return draw_people(image, people.entry["people"])


def draw_people(
    image: NDArray[np.uint8], people: Iterable[Mapping[str, Any]], least_px: int = 0
) -> NDArray[np.uint8]:
    """Draw everybody of an image: all heatmaps first, and rays and heads above them.

    Args:
        image: RGB uint8 `[h, w, 3]`.
        people: As they are stored.
        least_px: An image whose longer side is shorter is enlarged by a whole number towards it.

    Returns:
        RGB, of the same or the enlarged size.
    """
    enlarge = max(1, least_px // max(image.shape[:2]))
    image_hw = (image.shape[0], image.shape[1])
    to_picture = resize_affine(image_hw, (image_hw[0] * enlarge, image_hw[1] * enlarge))
    picture = np.repeat(np.repeat(image, enlarge, 0), enlarge, 1)
    drawn = [(person, prediction_of(person)) for person in people]
    for above in (False, True):
        for person, gaze in drawn:
            if above and len(drawn) == 1:
                continue  # nobody's heat has covered the rays
            box = transform_points(to_picture, np.array(person["head_box"]).reshape(2, 2)).reshape(4)
            eye = transform_points(to_picture, np.array(person["eye"]))
            shown = replace(
                gaze,
                modes_xy=transform_points(to_picture, gaze.modes_xy),
                mode_std_px=gaze.mode_std_px * enlarge,
                point_xy=transform_points(to_picture, gaze.point_xy),
                samples_xy=transform_points(to_picture, gaze.samples_xy),
                heat=None if above else gaze.heat,
            )
            picture = draw_gaze(picture, box, eye, shown)
    return picture
