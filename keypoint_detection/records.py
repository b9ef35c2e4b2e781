"""The plain records that pass between capabilities: a keypoint, an instance, a prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Keypoint:
    """Hold one point in original-image pixels; an integer coordinate is the centre of a pixel.

    Attributes:
        x: Column in pixels, to the right.
        y: Row in pixels, downwards.
        score: Confidence in [0, 1]; 1 for a labelled point.
        visibility: COCO's flag: 1 occluded, 2 visible. Detections carry 2.
    """

    x: float
    y: float
    score: float = 1.0
    visibility: int = 2


@dataclass(frozen=True)
class Instance:
    """Hold one labelled object: its keypoints by name and, where the file has them, its box and area.

    Attributes:
        keypoints: Labelled points (visibility > 0) by keypoint name.
        category: Category name.
        box: `(x, y, width, height)` in pixels as COCO writes it, or None.
        area: Area in square pixels, or None.
        is_crowd: True for a COCO crowd region.
    """

    keypoints: Mapping[str, Keypoint]
    category: str
    box: tuple[float, float, float, float] | None = None
    area: float | None = None
    is_crowd: bool = False


@dataclass(frozen=True)
class Prediction:
    """Hold the points that a model found in one image.

    Attributes:
        keypoints: One tuple per channel, best score first.
        channel_names: The label of each channel, such as `"stem"` or `"leaf0=leaf1"`.
        image_hw: Height and width of the original image in pixels.
        source: Path of the image, or None for an array.
    """

    keypoints: tuple[tuple[Keypoint, ...], ...]
    channel_names: tuple[str, ...]
    image_hw: tuple[int, int]
    source: str | None = None

    def __getitem__(self, channel_name: str) -> tuple[Keypoint, ...]:
        """Return the points of one channel by its name."""
        if channel_name not in self.channel_names:
            raise KeyError(
                f"no channel {channel_name!r}; this prediction has {', '.join(self.channel_names)}"
            )
        return self.keypoints[self.channel_names.index(channel_name)]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form: source, height, width, keypoints `{channel: [{"x", "y", "score"}]}`."""
        points = {
            name: [{"x": point.x, "y": point.y, "score": point.score} for point in channel]
            for name, channel in zip(self.channel_names, self.keypoints, strict=True)
        }
        height, width = self.image_hw
        return {"source": self.source, "height": height, "width": width, "keypoints": points}
