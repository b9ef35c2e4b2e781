"""Predict where people look, from images and the boxes of their heads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from keypoint_detection.gaze.augmentation import no_change
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.gaze_prediction import SAMPLES, GazePrediction, person_seed, predict_batch
from keypoint_detection.gaze.inference_inputs import GivenImage, ImageLike, read_image
from keypoint_detection.gaze.people_table import box_overlaps
from keypoint_detection.gaze.samples import collate_gaze
from keypoint_detection.gaze.samples_inputs import eye_of, person_inputs
from keypoint_detection.geometry import Affine, resize_affine

BATCH_SIZE = 16
"""People at once, unless told otherwise."""

FARTHEST_PX = 1e6
"""Coordinates beyond this, on either side, are no place of a head."""

SMALLEST_PX = 1e-3
"""A head box is wider and higher than this."""


@dataclass(frozen=True)
class PersonGaze:
    """Hold one person of an image, and where this person is said to look; original-image pixels.

    Attributes:
        image: Place of the image among those that were given, from 0.
        path: Where the image is from; None for an array.
        image_hw: Height and width of the image.
        head_box: Outer edges x0, y0, x1, y1 of the head.
        eye_xy: Point between the eyes; the centre of the head box where none was given.
        gaze: The point looked at, the candidate modes with weights and spread, `p_in`.
        heatmap: Mean of the maps, float32 `[h, w]` in [0, 1], which covers the image; None where it was not
            asked for.
    """

    image: int
    path: str | None
    image_hw: tuple[int, int]
    head_box: tuple[float, float, float, float]
    eye_xy: tuple[float, float]
    gaze: GazePrediction = field(repr=False, compare=False)
    heatmap: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def heatmap_to_image(self) -> Affine:
        """Return the map from pixels of the heatmap to those of the image, `[2, 3]`."""
        if self.heatmap is None:
            raise ValueError("expected a heatmap, got a prediction without; ask for it with heatmaps=True")
        return resize_affine((self.heatmap.shape[0], self.heatmap.shape[1]), self.image_hw)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form without the heatmap: head_box, eye, p_in_frame, gaze, modes, ..."""
        gaze = self.gaze
        modes = zip(gaze.modes_xy.tolist(), gaze.weights.tolist(), gaze.mode_std_px.tolist(), strict=True)
        return {
            "head_box": list(self.head_box),
            "eye": list(self.eye_xy),
            "p_in_frame": gaze.p_in,
            "gaze": gaze.point_xy.tolist(),
            "spread": gaze.spread,
            "modes": [{"x": x, "y": y, "weight": weight, "std_px": std} for (x, y), weight, std in modes],
            "samples": gaze.samples_xy.tolist(),
        }


class _Person(NamedTuple):
    """Hold one person on the way into the network; `number` is that of its head box in the image."""

    image: int
    number: int
    path: str | None
    image_hw: tuple[int, int]
    head_box: NDArray[np.float64]
    eye: NDArray[np.float64]
    values: Mapping[str, Any]


def predict_gaze(
    follower: GazeFollower,
    images: Sequence[ImageLike],
    head_boxes: Sequence[ArrayLike],
    *,
    eyes: Sequence[ArrayLike | None] | None = None,
    depths: Sequence[ImageLike] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    batch_size: int = BATCH_SIZE,
    heatmaps: bool = True,
) -> list[PersonGaze]:
    """Predict where every person of some images looks.

    Inputs are made as for training without augmentation. Scene and head go through their encoders once for
    each person, however many maps are drawn. The same call gives the same answer; the noise of a person
    depends on the seed, its image's number and its own in the image: neither the other images nor the batch
    size change anything but the rounding.

    Args:
        follower: On its device; its mode stays as it is.
        images: Paths, or uint8 arrays `[h, w]`, `[h, w, 1]`, `[h, w, 3]` RGB or `[h, w, 4]`, of any sizes.
        head_boxes: Of each image, `[k, 4]`: x0, y0, x1, y1 in pixels, the outer edges (an integer is a
            pixel's centre); k may be 0. A box may reach beyond its image, but not lie outside.
        eyes: Of each image, `[k, 2]`, NaN for the centre of the box; None where it is that for all.
        depths: A depth map for each image, path or array of any size, near is bright; for a follower that
            was trained with them.
        samples: Maps of each person, >= 1; a direct decoder has one.
        seed: Of the noise, >= 0.
        numbers: Of each image; None counts from 0.
        batch_size: People at once, >= 1.
        heatmaps: Keep the mean map of each person.

    Returns:
        A prediction for each person, in the order of the images and their boxes; nobody gives none.

    Raises:
        FileNotFoundError: There is no image at a path.
        ValueError: A box or an image cannot be, the lists do not fit together, or depth maps are missing or
            not wanted; one line that names the image and the box.

    Example:
        >>> follower = load_follower("last.ckpt")  # doctest: +SKIP
        >>> people = predict_gaze(follower, ["kitchen.jpg"], [[[210, 80, 260, 140]]])  # doctest: +SKIP
        >>> people[0].gaze.point_xy, people[0].gaze.p_in  # doctest: +SKIP
    """
    _check_call(images, head_boxes, eyes, depths, numbers)
    if samples < 1 or batch_size < 1 or seed < 0:
        raise ValueError(
            f"expected samples and batch_size >= 1 and seed >= 0, got {samples}, {batch_size} and {seed}"
        )
    check_depth(follower, has_depth=depths is not None)
    people = _people(follower, images, head_boxes, eyes, depths)
    found: list[PersonGaze] = []
    while chosen := list(islice(people, batch_size)):
        images_of = [one.image if numbers is None else numbers[one.image] for one in chosen]
        seeds = [person_seed(seed, image, one.number) for image, one in zip(images_of, chosen, strict=True)]
        found += _predict(follower, chosen, samples, seeds, heatmaps)
    return found


def _check_call(images: object, *others: Any) -> None:
    if isinstance(images, str | Path):
        raise ValueError(f"expected a list of images with a list of boxes for each, got only {images}")
    n_images = len(cast("Any", images))
    for name, given in zip(("head_boxes", "eyes", "depths", "numbers"), others, strict=True):
        if given is not None and len(given) != n_images:
            raise ValueError(f"expected {name} for each of {n_images} images, got {len(given)}")


def check_depth(follower: GazeFollower, *, has_depth: bool) -> None:
    """Raise a ValueError if a follower needs depth maps and there are none, or the other way round."""
    if has_depth != (follower.conditioner.depth_branch is not None):
        raise ValueError(
            "the follower was trained without depth maps, got some; leave them out"
            if has_depth
            else "the follower was trained with depth maps, got none; give one for each image"
        )


def box_problem(
    head_box: NDArray[np.float64], eye: NDArray[np.float64], image_hw: tuple[int, int]
) -> str | None:
    """Return what is wrong with a head box `[4]` and an eye `[2]` on an image, None for nothing."""
    x0, y0, x1, y1 = head_box.tolist()
    listed = f"{x0:g}, {y0:g}, {x1:g}, {y1:g}"
    if not (np.isfinite(head_box).all() and x0 < x1 and y0 < y1):
        return f"expected a head box of finite x0 < x1 and y0 < y1, got {listed}"
    if not box_overlaps(head_box[None], np.array([image_hw]))[0]:
        height, width = image_hw
        return f"expected a head box on the image of {width}x{height} pixels, got {listed}"
    if min(x1 - x0, y1 - y0) <= SMALLEST_PX or np.abs(head_box).max() > FARTHEST_PX:
        return f"expected a head box of {SMALLEST_PX:g} to {FARTHEST_PX:g} pixels, got {listed}"
    if np.isfinite(eye).all() and np.abs(eye).max() > FARTHEST_PX:
        return f"expected an eye within {FARTHEST_PX:g} pixels, got {eye[0]:g}, {eye[1]:g}"
    return None


def _people(
    follower: GazeFollower,
    images: Sequence[ImageLike],
    head_boxes: Sequence[ArrayLike],
    eyes: Sequence[ArrayLike | None] | None,
    depths: Sequence[ImageLike] | None,
) -> Iterator[_Person]:
    """Yield everybody with the inputs of the network; an image is read once, if somebody is in it."""
    for index, (image, given) in enumerate(zip(images, head_boxes, strict=True)):
        where = str(image) if isinstance(image, str | Path) else f"image {index}"
        boxes = _rows(given, 4, "head boxes", where)
        eye_xy = _eyes(None if eyes is None else eyes[index], len(boxes), where)
        if not len(boxes):
            continue
        read = read_image(image, where)
        depth = None if depths is None else read_image(depths[index], f"depth map of {where}", n_channels=1)
        for number, (box, eye) in enumerate(zip(boxes, eye_xy, strict=True)):
            problem = box_problem(box, eye, read.image_hw)
            if problem is not None:
                raise ValueError(f"{where}, head box {number}: {problem}")
            yield _person(follower, (index, number), read, box=box, eye=eye_of(eye, box), depth=depth)


def _person(
    follower: GazeFollower,
    place: tuple[int, int],
    image: GivenImage,
    *,
    box: NDArray[np.float64],
    eye: NDArray[np.float64],
    depth: GivenImage | None,
) -> _Person:
    inputs = person_inputs(
        image.pixels,
        eye,
        no_change(box, image.image_hw),
        scene_hw=follower.hparams["scene_hw"],
        head_hw=follower.hparams["head_hw"],
        depth=None if depth is None else depth.pixels,
    )
    values = {**inputs.values, "image_hw": np.array(image.image_hw, dtype=np.int64)}
    return _Person(*place, image.path, image.image_hw, box, eye, values)


def _predict(
    follower: GazeFollower, people: Sequence[_Person], samples: int, seeds: Sequence[int], heatmaps: bool
) -> Iterator[PersonGaze]:
    with torch.inference_mode():
        batch = collate_gaze([person.values for person in people])
        found, maps = predict_batch(follower, batch, samples=samples, seed=seeds)
    kept = maps.float().cpu().numpy() if heatmaps else [None] * len(people)
    for person, gaze, heatmap in zip(people, found, kept, strict=True):
        if not np.isfinite(gaze.p_in):
            raise ValueError(
                f"expected a probability of looking into the image, got {gaze.p_in}; the weights are broken"
            )
        x0, y0, x1, y1 = person.head_box.tolist()
        eye_x, eye_y = person.eye.tolist()
        yield PersonGaze(
            person.image,
            person.path,
            person.image_hw,
            (x0, y0, x1, y1),
            (eye_x, eye_y),
            gaze,
            heatmap,
        )


def _rows(given: ArrayLike, width: int, what: str, where: str) -> NDArray[np.float64]:
    """Return rows of numbers, `[k, width]`; an empty list is no row."""
    try:
        rows = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected {what} [k, {width}] of numbers, got {given!r:.60}") from None
    if rows.size == 0:
        return np.empty((0, width))
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"{where}: expected {what} [k, {width}], got {list(rows.shape)}")
    return rows


def _eyes(given: ArrayLike | None, n_people: int, where: str) -> NDArray[np.float64]:
    if given is None:
        return np.full((n_people, 2), np.nan)
    eye_xy = _rows(given, 2, "eyes", where)
    if len(eye_xy) != n_people:
        raise ValueError(f"{where}: expected an eye for each of {n_people} head boxes, got {len(eye_xy)}")
    return eye_xy
