"""How probable it is that the points found in an image can be seen: patches straight from the decoded image.

The patches are those that a pyramid of the same image gives, without its files: predicting looks at an image
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.records import Prediction
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.load_classifier import load_classifier
from keypoint_detection.visibility.pyramid import crop_patches
from keypoint_detection.visibility.pyramid_layout import COLORS
from keypoint_detection.visibility.pyramid_levels import average_blocks

PATCH_BYTES = 64 * 2**20
"""Memory of the patches that are cropped at once."""


class DecodedImage:
    """Hold the levels of one image in memory, and answer what `crop_patches` asks a pyramid.

    Attributes:
        factors: Demagnification of each level.
        n_channels: Three: a decoded image has no depth.
        n_images: One.
    """

    n_channels, n_images = COLORS, 1

    def __init__(self, image: NDArray[np.uint8], factors: Sequence[int]) -> None:
        """Average the image at every level; `image` is `[h, w, 3]`, uint8 RGB."""
        self.factors = tuple(factors)
        self._levels = [np.moveaxis(average_blocks(image, factor), -1, 0) for factor in self.factors]

    def level_hw(self, level: int) -> NDArray[np.int64]:
        """Return height and width of the image at a level, `[1, 2]`."""
        return np.array([self._levels[level].shape[1:]], np.int64)

    def color(self, level: int, image: int) -> NDArray[np.uint8]:
        """Return the image at a level, `[3, h, w]`."""
        return self._levels[level]

    def depth(self, level: int, image: int) -> None:
        """Return that there is none."""

    def patches(self, xy: NDArray[np.floating], patch_px: int) -> NDArray[np.uint8]:
        """Return the patches around points, as `crop_patches` does.

        Args:
            xy: `[n, 2]` in pixels of the image.
            patch_px: Side of the patches in pixels of a level.

        Returns:
            uint8 `[n, levels * 3, patch_px, patch_px]`, finest level first.
        """
        return crop_patches(self, 0, xy, patch_px)


@dataclass(frozen=True)
class PointVisibility:
    """Tell with a classifier which points of a prediction can be seen.

    Attributes:
        classifier: In eval mode, on its device; of three channels.
    """

    classifier: VisibilityClassifier

    def __call__(self, image: NDArray[np.uint8], prediction: Prediction) -> Prediction:
        """Return the prediction with `p_visible` and the flag of visibility in every point.

        Args:
            image: `[h, w, 3]`, uint8 RGB: the whole image that the prediction is of, as it was decoded.
            prediction: Points in pixels of this image.
        """
        points = [point for channel in prediction.keypoints for point in channel]
        xy = np.array([(point.x, point.y) for point in points], np.float64).reshape(-1, 2)
        p_visible = iter(self.p_visible(image, xy).tolist())
        seen = tuple(
            tuple(point.seen_with(next(p_visible)) for point in channel) for channel in prediction.keypoints
        )
        return replace(prediction, keypoints=seen)

    def p_visible(self, image: NDArray[np.uint8], xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability that each point can be seen, `[n]`, in [0, 1].

        Args:
            image: `[h, w, 3]`, uint8 RGB.
            xy: `[n, 2]` in pixels of the image.
        """
        settings = self.classifier.hparams
        patch_px, n_points = int(settings["patch_px"]), len(xy)
        if not n_points:
            return np.empty(0)
        levels = DecodedImage(image, settings["factors"])
        n_at_once = max(1, PATCH_BYTES // (len(levels.factors) * COLORS * patch_px**2))
        found = [
            self.classifier.predict_proba(levels.patches(xy[start : start + n_at_once], patch_px))
            for start in range(0, n_points, n_at_once)
        ]
        return torch.cat(found).double().numpy()


def load_point_visibility(path: str | Path, device: str | torch.device = "cpu") -> PointVisibility:
    """Load a visibility classifier that looks at colours alone.

    Args:
        path: A `.ckpt` file that `keypoint-detection visibility train` wrote.
        device: Where to run it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no visibility classifier, or one that also needs a depth map.
    """
    try:
        classifier = load_classifier(path, device)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"--visibility: {error}") from None
    n_channels = classifier.hparams["n_channels"]
    if n_channels != COLORS:
        raise ValueError(
            f"--visibility: expected a classifier of {COLORS} channels (RGB), got {n_channels} in {path}: it "
            "also needs depth, which is not known of what is predicted on; train one on points without depth"
        )
    return PointVisibility(classifier)
