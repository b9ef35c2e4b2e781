"""Images as they come to a prediction: files and arrays of any kind, read as training reads them."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import ImageLoader

ImageLike = str | Path | NDArray[np.uint8]
"""A path, or uint8 `[h, w]`, `[h, w, 1]`, `[h, w, 3]` RGB or `[h, w, 4]`."""


class GivenImage(NamedTuple):
    """Hold a whole image, and where it is from.

    Attributes:
        pixels: uint8 `[h, w, c]`.
        path: None for an array.
    """

    pixels: NDArray[np.uint8]
    path: str | None

    @property
    def image_hw(self) -> tuple[int, int]:
        """Return height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_image(image: ImageLike, where: str, n_channels: int = 3) -> GivenImage:
    """Read an image; transparency is dropped, grey becomes RGB or the other way round.

    Args:
        image: What is given.
        where: Its name in a message.
        n_channels: 3 for RGB, 1 for grey.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image of 8-bit pixels.
    """
    if isinstance(image, str | Path):
        return GivenImage(ImageLoader(n_channels)(image), str(image))
    pixels = np.asarray(image)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in (1, 3, 4) or not pixels.size:
        raise ValueError(
            f"{where}: expected uint8 pixels [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], got {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    color = pixels.reshape(*pixels.shape[:2], channels)[..., :3]  # without transparency
    if color.shape[2] == n_channels:
        return GivenImage(np.ascontiguousarray(color), None)
    if n_channels == 3:
        return GivenImage(np.repeat(color, 3, axis=2), None)
    return GivenImage(np.asarray(cv2.cvtColor(color, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], None)
