"""Let a classifier judge every point of a table."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.pyramid import Pyramid, crop_patches

if TYPE_CHECKING:
    from keypoint_detection.visibility.classifier import VisibilityClassifier

BATCH_SIZE = 256
"""Points at once, unless told otherwise."""


def evaluate_points(
    classifier: "VisibilityClassifier", table: PointTable, pyramid: Pyramid, *, batch_size: int = BATCH_SIZE
) -> NDArray[np.float64]:
    """Return the logit of every point, float64 `[p]`: P(visible) is its sigmoid.

    The patches are cut in this process, image after image. The classifier judges in eval
    mode, on the device where it is, and is left in the mode in which it came.

    Args:
        classifier: Takes the levels and channels of the pyramid.
        table: The points; its images are found in the pyramid by their names.
        pyramid: Of the images.
        batch_size: Points at once, > 0.

    Raises:
        ValueError: The pyramid has other levels or channels than the classifier was trained on, or lacks an
            image, or a logit is not finite.
    """
    image = image_in_pyramid(table, pyramid)
    order = np.argsort(image, kind="stable")  # neighbours in memory one after the other
    logits = np.zeros(len(table))
    logits[order] = logits_of_points(
        classifier, pyramid, image[order], table.xy[order], batch_size=batch_size
    )
    _check_finite(logits, table)
    return logits


def logits_of_points(
    classifier: "VisibilityClassifier",
    pyramid: Pyramid,
    image: NDArray[np.int64],
    xy: NDArray[np.float64],
    *,
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.float64]:
    """Return the logit of places in the images of a pyramid, labelled or not, float64 `[n]`.

    Args:
        classifier: As for `evaluate_points`.
        pyramid: Of the images.
        image: Index of each point's image in the pyramid, `[n]`.
        xy: Original-image pixels, `[n, 2]`.
        batch_size: Points at once, > 0.

    Raises:
        ValueError: The pyramid has other levels or channels than the classifier was trained on.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size needs a number > 0, got {batch_size}; {BATCH_SIZE} is usual")
    _check_fits(classifier, pyramid)
    logits = np.zeros(len(xy))
    was_training = classifier.training
    classifier.eval()
    try:
        with torch.inference_mode():
            for first in range(0, len(xy), batch_size):
                rows = slice(first, first + batch_size)
                logits[rows] = _logits(classifier, pyramid, image[rows], xy[rows])
    finally:
        classifier.train(was_training)
    return logits


def _logits(
    classifier: "VisibilityClassifier", pyramid: Pyramid, image: NDArray[np.int64], xy: NDArray[np.float64]
) -> NDArray[np.float64]:
    patches = crop_patches(pyramid, image, xy, patch_px=classifier.hparams["patch_px"])
    return classifier(torch.from_numpy(patches).to(classifier.device)).double().cpu().numpy()


def image_in_pyramid(table: PointTable, pyramid: Pyramid) -> NDArray[np.int64]:
    """Return the index of each point's image in a pyramid, int64 `[p]`.

    Raises:
        ValueError: The pyramid lacks an image that has points.
    """
    index = {name: place for place, name in enumerate(pyramid.image_names)}
    places = np.array([index.get(name, -1) for name in table.image_names], dtype=np.int64)
    image = places[table.image]
    if len(image) and image.min() < 0:
        name = table.image_names[table.image[np.flatnonzero(image < 0)[0]]]
        raise ValueError(
            f"expected a pyramid of all {len(table.image_names)} images of the points, found no {name!r};"
            " make the pyramid and the points from the same folder"
        )
    _check_sizes(table, pyramid, places)
    return image


def _check_sizes(table: PointTable, pyramid: Pyramid, places: NDArray[np.int64]) -> None:
    there = pyramid.image_hw[places]
    unlike = np.flatnonzero((places >= 0) & (there != table.image_hw).any(axis=1))
    if len(unlike):
        (height, width), got = table.image_hw[unlike[0]], there[unlike[0]]
        raise ValueError(
            f"image {table.image_names[unlike[0]]!r}: expected {height}x{width} pixels as in the table of"
            f" points, got {got[0]}x{got[1]} in the pyramid; make both from the same images"
        )


def _check_fits(classifier: "VisibilityClassifier", pyramid: Pyramid) -> None:
    wanted = (tuple(classifier.hparams["factors"]), classifier.hparams["n_channels"])
    given = (tuple(pyramid.factors), pyramid.n_channels)
    if wanted != given:
        raise ValueError(
            f"the classifier was trained on levels {_shown(wanted)}, the pyramid has {_shown(given)};"
            " make the data set with the levels and the depth of the training"
        )


def _shown(layout: tuple[tuple[int, ...], int]) -> str:
    return f"{'/'.join(map(str, layout[0]))} of {layout[1]} channels"


def _check_finite(logits: NDArray[np.float64], table: PointTable) -> None:
    wrong = np.flatnonzero(~np.isfinite(logits))
    if len(wrong):
        raise ValueError(
            f"expected finite logits, got {logits[wrong[0]]} for a point of"
            f" {table.image_names[table.image[wrong[0]]]!r} ({len(wrong)} points in all); the weights of the"
            " classifier are broken: take another checkpoint"
        )
