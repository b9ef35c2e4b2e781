"""Pictures of one bright dot on the padding's grey, and where the dot is: the slow and obvious way."""

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.geometry import PAD_VALUE


def draw_dot(image_hw: tuple[int, int], xy: tuple[float, float], sigma_px: float) -> NDArray[np.uint8]:
    """Return `[h, w]`: a Gaussian blob of 140 grey levels whose centre is at `xy`."""
    y, x = np.mgrid[: image_hw[0], : image_hw[1]]
    blob = np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * sigma_px**2))
    return np.rint(PAD_VALUE + 140 * blob).astype(np.uint8)


def centroid(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean (x, y) of the pixels of `[h, w]`, weighted by what is above the padding's grey."""
    weight = image.astype(np.float64) - PAD_VALUE
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
