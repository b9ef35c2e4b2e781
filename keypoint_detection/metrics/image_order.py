"""Put images in the order in which COCO's metric takes them, each once, and check what they hold."""

import torch
from torch import Tensor

from keypoint_detection.metrics.instance_batch import InstanceBatch, rows_of_images


def ordered_images(batch: InstanceBatch, position: Tensor) -> InstanceBatch:
    """Return the images by rising id, or by position where no image has an id; an image given twice once.

    Args:
        batch: n images on the CPU, in any order.
        position: `[n]` int64, when its process saw the image: shares of a data set that were dealt out in
            turn come back in its order.

    Raises:
        ValueError: Only some images have an id, or an id comes twice with different content.
    """
    images = position.argsort(stable=True)
    if bool(batch.has_id.any()):
        without = (~batch.has_id[images]).nonzero()
        if len(without):
            raise ValueError(
                f"expected an image_id for every image or for none, got none for image number "
                f"{int(without[0])} (from 0) and {len(without) - 1} others of {len(images)}"
            )
        images = _distinct(batch, batch.image_id.argsort(stable=True))
    in_place = torch.equal(images, torch.arange(len(position)))
    return batch if in_place else batch.take(images)


def check_values(batch: InstanceBatch) -> None:
    """Raise a ValueError that names the image of a score that is NaN or an area that is not a size.

    An instance that is ignored, a crowd or one without labelled keypoints, may have the area NaN.
    """
    image = _first_image(batch.scores.isnan(), batch.num_detections)
    if image is not None:
        raise ValueError(f"expected a score for every detection, got NaN in {batch.name_of(image)}")
    counts = batch.labelled.any(-1) & ~batch.crowd  # what is ignored in any case needs no area
    wrong = ~(batch.area >= 0) & (counts | ~batch.area.isnan()) | batch.area.isinf()
    image = _first_image(wrong, batch.num_targets)
    if image is not None:
        raise ValueError(
            f"expected areas in square pixels, finite and >= 0, got {float(batch.area[wrong][0])} in "
            f"{batch.name_of(image)}; give each instance the area of its mask, or of its box"
        )


def _distinct(batch: InstanceBatch, images: Tensor) -> Tensor:
    """Return images `[n]`, ordered by id, without those that repeat the one before."""
    again = torch.zeros(len(images), dtype=torch.bool)
    again[1:] = batch.image_id[images].diff() == 0
    if bool(again.any()):
        place = again.nonzero().squeeze(1)
        _check_same(batch, images[place - 1], images[place])
    return images[~again]


def _check_same(batch: InstanceBatch, first: Tensor, second: Tensor) -> None:
    """Raise a ValueError unless images `[m]` hold the same numbers as images `[m]`."""
    for counts, parts in ((batch.num_detections, batch[:2]), (batch.num_targets, batch[3:8])):
        _name_different(batch, second[counts[first] != counts[second]])
        rows, others = rows_of_images(counts, first), rows_of_images(counts, second)
        image = second.repeat_interleave(counts[second])
        for part in parts:
            one, other = part[rows], part[others]
            same = (one == other) | (one.isnan() & other.isnan())
            _name_different(batch, image[~same.reshape(len(image), -1).all(1)])


def _name_different(batch: InstanceBatch, images: Tensor) -> None:
    if len(images):
        raise ValueError(
            f"expected each image once, or again with the same content, got {batch.name_of(int(images[0]))} "
            "twice with different instances; score each image once"
        )


def _first_image(wrong: Tensor, counts: Tensor) -> int | None:
    """Return the image of the first row `[r]` that is wrong, for rows ordered by image; None without one."""
    rows = wrong.nonzero()
    if not len(rows):
        return None
    return int(torch.searchsorted(counts.cumsum(0), rows[0], right=True))
