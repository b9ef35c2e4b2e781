"""What every reader of a foreign format returns, and what every writer is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keypoint_detection.data.coco_parser import CocoKeypoints


@dataclass(frozen=True)
class Conversion:
    """Hold the labels of a foreign format as COCO records.

    Attributes:
        coco: The labels. File names are where the images are to lie in the new data set, `images/...`,
            unique, with forward slashes.
        image_paths: Where each image lies now, by image id; an image that has no file is left out.
        notes: One line for everything that was not understood, left out or corrected, with file and place.
    """

    coco: CocoKeypoints
    image_paths: Mapping[int, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
