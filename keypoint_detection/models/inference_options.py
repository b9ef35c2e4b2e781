"""How a detector is run over images: flip test, tiles, number of points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keypoint_detection.models.heads import RegressionHead
from keypoint_detection.models.tiling import Tiling

if TYPE_CHECKING:
    from keypoint_detection.models.detector import KeypointDetector


@dataclass(frozen=True)
class InferenceOptions:
    """Hold how images are run.

    Attributes:
        mirrored: The channel that each channel becomes in a mirror (`flip_test.mirrored_channels`): run the
            flip test. None: without it.
        tile_px: Side of the square tiles that larger images are run in; None runs every image at once. Tiles
            are what the network sees, so images keep their own resolution, also for a model with an
            `image_size`.
        overlap_px: Least overlap of neighbouring tiles. From twice the radius of the receptive field of a
            convolutional network on, tiles give what the whole image gives.
        max_keypoints: Most detections per channel and image; None takes those of the model.
    """

    mirrored: Sequence[int] | None = None
    tile_px: int | None = None
    overlap_px: int = 128
    max_keypoints: int | None = None


DEFAULT_OPTIONS = InferenceOptions()


def check_options(detector: "KeypointDetector", options: InferenceOptions) -> None:
    """Raise a ValueError, in one line, for options that a detector cannot be run with."""
    n_channels, most = len(detector.channel_names), options.max_keypoints
    if options.mirrored is not None and sorted(options.mirrored) != list(range(n_channels)):
        raise ValueError(
            f"flip test: expected each of the channels 0..{n_channels - 1} once, got {list(options.mirrored)}"
        )
    if most is not None and most < 1:
        raise ValueError(f"expected at least one keypoint per channel, got max_keypoints={most}")
    if options.tile_px is None:
        return
    if isinstance(detector.head, RegressionHead):
        raise ValueError(
            "tiles need a model with heatmaps, got one of direct regression, which judges an image as a "
            "whole; predict without tiles"
        )
    if detector.hparams["input_mode"] == "instance":
        raise ValueError(
            "tiles need a model that was trained on whole images, got one of crops of instances "
            "(input_mode instance); predict without tiles"
        )
    tiling_of(detector, options).check(type(detector.backbone).__name__)


def prepared_hw(detector: "KeypointDetector", options: InferenceOptions) -> tuple[int, int] | None:
    """Return height and width that images are letterboxed to, or None if they keep their own."""
    image_size = detector.hparams["image_size"]
    if options.tile_px is not None or not image_size:
        return None
    return int(image_size[0]), int(image_size[1])


def tiling_of(detector: "KeypointDetector", options: InferenceOptions) -> Tiling:
    """Return how large images are cut; only for options with `tile_px`."""
    assert options.tile_px is not None
    backbone = detector.backbone
    return Tiling(options.tile_px, options.overlap_px, backbone.size_multiple, backbone.stride)
