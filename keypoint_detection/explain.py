"""Explain a detector: where it looks for each keypoint, as maps, pictures, and how much lies at the point."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from keypoint_detection.data.unlabeled_dataset import (
    UnlabeledBatch,
    UnlabeledKeypointsDataset,
    collate_unlabeled,
    find_images,
)
from keypoint_detection.explain_attention import rollout_maps
from keypoint_detection.explain_maps import Map, frame_mask, mass_near, over_image
from keypoint_detection.explain_points import best_points
from keypoint_detection.explain_rollout import HeadFusion
from keypoint_detection.explain_saliency import saliency
from keypoint_detection.geometry import transform_points
from keypoint_detection.models.attention import has_global_attention
from keypoint_detection.models.detector import KeypointDetector

logger = logging.getLogger("keypoint_detection")

Method = Literal["auto", "saliency", "rollout", "gradient_rollout"]
METHODS: tuple[Method, ...] = get_args(Method)

NEAR_SIGMAS = 3.0
"""How far around a keypoint a map points at it, in standard deviations of the training's Gaussians."""

POINT_STRIDE = 4
"""Pixels that stand for one heatmap pixel where there is no heatmap, as in direct regression."""


@dataclass(frozen=True)
class ExplainOptions:
    """Hold how to explain.

    Attributes:
        method: `auto` is gradient rollout and saliency for a Vision Transformer, saliency for any other.
        head_fusion: As in `explain_rollout.rollout`.
        discard_ratios: In [0, 1); one map of each rollout for each.
        n_smooth: Noisy images that saliency is averaged over; 0 takes the image as it is.
    """

    method: Method = "auto"
    head_fusion: HeadFusion = "mean"
    discard_ratios: Sequence[float] = (0.0,)
    n_smooth: int = 0


@dataclass(frozen=True)
class KeypointExplanation:
    """Hold where a detector looks for the best keypoint of one channel.

    Attributes:
        channel: Its name.
        xy: The point in original pixels.
        score: Its confidence in [0, 1]; a low one means that there may be no such keypoint.
        radius_px: What is near the point, in original pixels.
        area_share: Share of the image that is near it: what a map without any preference gives.
        maps: By the name of the method, `[h, w]` in the network's frame: not negative, 0 in the padding, sums
            to 1.
        shares: By the same names, the share of the map that is near the point.
    """

    channel: str
    xy: tuple[float, float]
    score: float
    radius_px: float
    area_share: float
    maps: Mapping[str, Map]
    shares: Mapping[str, float]


def read_samples(
    detector: KeypointDetector, sources: Sequence[str | Path], max_images: int
) -> tuple[list[UnlabeledBatch], list[str]]:
    """Read the first images of all sources, each as a batch of its own.

    Args:
        detector: Gives the size and the channels of its input.
        sources: Images, folders or globs.
        max_images: Most images.

    Returns:
        The batches, and one line per image that cannot be read.
    """
    paths = [path for source in sources for path in find_images(source)][:max_images]
    size = detector.hparams["image_size"]
    dataset = UnlabeledKeypointsDataset(
        paths, (size[0], size[1]) if size else None, detector.backbone.in_channels
    )
    batches, unreadable = [], []
    for index in range(len(dataset)):
        try:
            batches.append(collate_unlabeled([dataset[index]]))
        except (ValueError, OSError) as error:
            unreadable.append(str(error))
            logger.warning("skipped: %s", error)
    return batches, unreadable


def chosen_methods(detector: KeypointDetector, method: Method) -> list[Method]:
    """Return the methods that a name stands for.

    Raises:
        ValueError: If the backbone has no attention to roll out.
    """
    if method == "auto":
        return ["gradient_rollout", "saliency"] if has_global_attention(detector.backbone) else ["saliency"]
    if method != "saliency" and not has_global_attention(detector.backbone):
        raise ValueError(
            f"--method {method} expects a backbone whose patches all attend to all, such as ViT or DinoV2Up, "
            f"got {detector.hparams['backbone_type']}; use --method saliency"
        )
    return [method]


def explain_image(
    detector: KeypointDetector, batch: UnlabeledBatch, options: ExplainOptions
) -> list[KeypointExplanation]:
    """Explain the best keypoint of every channel in one image.

    Args:
        detector: Stays as it is: no gradient, flag or hook is left on it.
        batch: Of one image, see `collate_unlabeled`.
        options: How.

    Returns:
        One explanation per channel.

    Raises:
        ValueError: If the backbone has no attention to roll out.
    """
    methods = chosen_methods(detector, options.method)
    was_training = detector.training
    detector.eval()
    try:
        image = batch["image"].to(detector.device)
        with torch.no_grad():
            points, scores = best_points(detector, detector(image), dict(batch))
        maps: dict[str, Tensor] = {}
        if {"rollout", "gradient_rollout"} & {*methods}:
            maps |= rollout_maps(
                detector,
                image,
                points,
                with_gradient="gradient_rollout" in methods,
                head_fusion=options.head_fusion,
                discard_ratios=options.discard_ratios,
            )
        if "saliency" in methods:
            maps["saliency"] = saliency(detector, image, points, n_smooth=options.n_smooth)
    finally:
        detector.train(was_training)
    arrays = {name: values.double().cpu().numpy() for name, values in maps.items()}
    return [
        _explanation(detector, batch, (points[channel], scores[channel]), channel, arrays)
        for channel in range(len(points))
    ]


def near_radius_px(detector: KeypointDetector) -> float:
    """Return how far around a keypoint is near, in pixels of the network's frame.

    It is `NEAR_SIGMAS` standard deviations of the Gaussians that the training ended with.
    """
    sigma = detector.hparams["variable_heatmap_sigma"] or detector.hparams["heatmap_sigma"]
    return NEAR_SIGMAS * sigma * getattr(detector.head, "heatmap_stride", POINT_STRIDE)


def _explanation(
    detector: KeypointDetector,
    batch: UnlabeledBatch,
    found: tuple[Tensor, Tensor],
    channel: int,
    arrays: Mapping[str, Map],
) -> KeypointExplanation:
    to_image, image_hw = frame_of(batch)
    point, radius = found[0].numpy(), near_radius_px(detector)
    maps = {name: over_image(values[channel], to_image, image_hw) for name, values in arrays.items()}
    x, y = transform_points(to_image, point)
    shown = frame_mask(tuple(batch["image"].shape[-2:]), to_image, image_hw).astype(np.float64)
    return KeypointExplanation(
        channel=detector.channel_names[channel],
        xy=(float(x), float(y)),
        score=float(found[1]),
        radius_px=radius * float(np.linalg.norm(to_image[:, 0])),
        area_share=mass_near(shown, point, radius),
        maps=maps,
        shares={name: mass_near(values, point, radius) for name, values in maps.items()},
    )


def frame_of(batch: UnlabeledBatch) -> tuple[Map, tuple[int, int]]:
    """Return the affine from the network's frame to the image of a batch of one, and the image's size."""
    height, width = batch["image_hw"][0].tolist()
    return batch["to_image"][0].double().numpy(), (height, width)
