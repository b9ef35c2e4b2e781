"""The numbers that explanations differentiate: what a detector says about one keypoint per channel."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.geometry import image_to_heatmap, is_inside, transform_points
from keypoint_detection.models.detector import KeypointDetector


def run_network(detector: KeypointDetector, image: Tensor) -> Tensor:
    """Compute what the detector's forward gives, from float pixels, so that they can have a gradient.

    Args:
        detector: In eval mode.
        image: Float `[n, c_in, h, w]`, 0..255.

    Returns:
        Heatmap logits `[n, c, h / stride, w / stride]`, or normalised points `[n, c, 2]`.
    """
    return detector.head(detector.backbone((image - detector.image_mean) / detector.image_std))


def best_points(
    detector: KeypointDetector, output: Tensor, batch: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return the point of every channel that an explanation is about: the best one on the image.

    Args:
        detector: Gives head, radius of suppression and number of detections.
        output: What it gave for a batch of one image.
        batch: With `image` `[1, c_in, h, w]`, `to_image` `[1, 2, 3]` and `image_hw` `[1, 2]`.

    Returns:
        Points `[c, 2]` in pixels of the network's frame, and scores `[c]`. A channel whose peaks all lie in
        the padding gives the best of them; one without any peak gives the centre, with a score of 0.
    """
    height, width = batch["image"].shape[-2:]
    points, scores = detector.head.decode(
        output,
        input_hw=(height, width),
        max_keypoints=detector.hparams["max_keypoints"],
        min_distance_px=detector.hparams["minimal_keypoint_extraction_pixel_distance"],
        threshold=0.0,
    )
    points, scores = points[0].double().cpu(), scores[0].double().cpu()
    originals = transform_points(batch["to_image"][0].double(), points)
    inside = is_inside(originals, tuple(batch["image_hw"][0].tolist()))
    best = inside.double().argmax(dim=1)  # the first one inside; they come best first
    rows = torch.arange(len(points))
    points, scores = points[rows, best], scores[rows, best]
    found = points.isfinite().all(-1)
    centre = points.new_tensor([(width - 1) / 2, (height - 1) / 2])
    return torch.where(found[:, None], points, centre), torch.where(found, scores, 0.0)


def keypoint_scalars(
    detector: KeypointDetector, output: Tensor, channel: int, point: Tensor, input_hw: tuple[int, int]
) -> list[Tensor]:
    """Return the numbers that stand for a keypoint, as parts of the graph.

    For heatmaps it is the logit at the point, bilinear between the four around it (at the border, the
    nearest); for signed ones the magnitude of that, which rises with the score of occluded keypoints too. For
    direct regression it is x, then y, in pixels of the network's frame.

    Args:
        detector: Gives the stride of the heatmaps, and whether they are signed.
        output: Of one image, `[1, c, h, w]` or `[1, c, 2]`.
        channel: Which one.
        point: `[2]` in pixels of the network's frame.
        input_hw: Height and width of that frame.
    """
    if output.ndim == 3:
        return [output[0, channel, 0] * input_hw[1], output[0, channel, 1] * input_hw[0]]
    height, width = output.shape[-2:]
    place = image_to_heatmap(point, detector.backbone.stride)
    share = (place + 0.5) / place.new_tensor([width, height]) * 2 - 1  # the map spans [-1, 1]
    grid = share.view(1, 1, 1, 2).to(output)
    plane = output[:, channel : channel + 1]
    logit = F.grid_sample(plane, grid, padding_mode="border", align_corners=False).squeeze()
    return [logit.abs() if detector.head.is_signed else logit]
