"""The plain records that pass between capabilities: a keypoint, an instance, a prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Keypoint:
    """Hold one point in original-image pixels; an integer coordinate is the centre of a pixel.

    Attributes:
        x: Column in pixels, to the right.
        y: Row in pixels, downwards.
        score: Confidence in [0, 1]; 1 for a labelled point.
        visibility: COCO's flag: 1 occluded, 2 visible. A detection carries 2 unless it was found occluded.
        p_visible: Probability that the point can be seen, in [0, 1]; None where nobody has asked.
    """

    x: float
    y: float
    score: float = 1.0
    visibility: int = 2
    p_visible: float | None = None

    def seen_with(self, p_visible: float) -> "Keypoint":
        """Return the point with this probability of being visible, and the flag 1 where it is below 0.5."""
        return replace(self, p_visible=p_visible, visibility=1 if p_visible < 0.5 else 2)

    def to_dict(self) -> dict[str, float]:
        """Return a JSON-ready form: x, y, score; visibility if occluded; p_visible where it is known."""
        occluded = {} if self.visibility == 2 else {"visibility": self.visibility}
        known = {} if self.p_visible is None else {"p_visible": self.p_visible}
        return {"x": self.x, "y": self.y, "score": self.score, **occluded, **known}


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
        """Return a JSON-ready form: source, height, width, keypoints `{channel: [{"x", "y", "score"}]}`.

        A point that is known to be occluded has "visibility": 1, and any has "p_visible" where it is known.
        """
        points = {
            name: [point.to_dict() for point in channel]
            for name, channel in zip(self.channel_names, self.keypoints, strict=True)
        }
        height, width = self.image_hw
        return {"source": self.source, "height": height, "width": width, "keypoints": points}
