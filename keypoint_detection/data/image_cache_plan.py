"""What of an image is cached: the least that the network's frame can need of it."""

from dataclasses import dataclass

import numpy as np

from keypoint_detection.geometry import Affine, identity_affine, letterbox_affine, resize_affine

LARGEST_REDUCTION_KEPT = 0.75
"""An image is cached as it is unless it can be reduced to at most this share of its height and width."""


@dataclass(frozen=True)
class CachedFrame:
    """Hold the frame in which an image is cached.

    Attributes:
        affine: `[2, 3]`, from pixels of the image file to pixels of the frame.
        hw: Height and width of the frame.
    """

    affine: Affine
    hw: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """True when the frame holds the image as its file does."""
        return np.array_equal(self.affine, identity_affine())

    def n_bytes(self, n_channels: int) -> int:
        """Return the bytes of its uint8 pixels."""
        return self.hw[0] * self.hw[1] * n_channels

    def settings(self, n_channels: int) -> list[object]:
        """Return what an entry depends on beside the file."""
        return [self.affine.tolist(), list(self.hw), n_channels]


def cached_frame(
    image_hw: tuple[int, int], input_hw: tuple[int, int] | None, largest_zoom: float | None
) -> CachedFrame:
    """Return the frame in which an image is cached.

    Without augmentation that is the network's own frame where it is smaller than the image, so nothing is
    left to warp and nothing differs. With it, the image is reduced to the resolution that the largest zoom
    shows of it: a smaller one would blur, a larger one is averaged away. Reducing first smooths a little:
    about one grey level on average. The affine is exact, so points do not move.

    Args:
        image_hw: Height and width of the image in pixels.
        input_hw: Those of the frame that it is letterboxed to; None keeps its own size.
        largest_zoom: Of the augmentation, as a factor >= 1; None without augmentation.
    """
    whole = CachedFrame(identity_affine(), image_hw)
    if input_hw is None:
        return whole
    if largest_zoom is None:
        is_smaller = input_hw[0] * input_hw[1] < image_hw[0] * image_hw[1]
        return CachedFrame(letterbox_affine(image_hw, input_hw), input_hw) if is_smaller else whole
    scale = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1]) * largest_zoom
    if scale > LARGEST_REDUCTION_KEPT:
        return whole
    reduced_hw = (max(round(image_hw[0] * scale), 1), max(round(image_hw[1] * scale), 1))
    return CachedFrame(resize_affine(image_hw, reduced_hw), reduced_hw)
