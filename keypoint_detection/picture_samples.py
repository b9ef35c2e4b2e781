"""Pictures that show what the library does, from drawn data sets: labelled samples, predictions, scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from keypoint_detection.callbacks_images import ImageLogger
from keypoint_detection.data.channels import parse_channels
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, collate
from keypoint_detection.data.synthetic import KINDS, draw_image, make_dataset
from keypoint_detection.evaluate import evaluate
from keypoint_detection.figures import Strip
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.utils.visualization import draw_sample
from keypoint_detection.utils.visualization_marks import Picture

METRICS = {"ap@2px": "AP at 2 px", "mean_error_px": "mean error in px"}
"""The scores that are plotted, with their titles."""


def labelled_sample(
    kind: str, image_hw: tuple[int, int], seed: int, *, pooled: bool = False, enlarge: int = 2
) -> Picture:
    """Draw one image of a kind with its labels.

    Args:
        kind: A name in `KINDS`.
        image_hw: Height and width in pixels, before it is enlarged.
        seed: Gives the image.
        pooled: Draw the channels that suit the kind, several points each, in place of one channel per name
            with a skeleton.
        enlarge: Whole factor.
    """
    image, objects = draw_image(kind, image_hw, np.random.default_rng(seed))
    names = KINDS[kind].keypoints
    channels = parse_channels(KINDS[kind].channels, names) if pooled else [[name] for name in names]
    points, flags = [], []
    for channel in channels:
        # Row i belongs to object i where a channel has one name.
        found = [thing.keypoints.get(name) for name in channel for thing in objects]
        points.append(np.array([(np.nan, np.nan) if p is None else (p.x, p.y) for p in found]).reshape(-1, 2))
        flags.append(np.array([0 if p is None else p.visibility for p in found], int))
    lines = [] if pooled else [(first - 1, second - 1) for first, second in KINDS[kind].skeleton]
    labels = ["=".join(channel) for channel in channels]
    return draw_sample(image, points, flags, skeleton=lines, names=labels, enlarge=enlarge)


def prediction_grid(checkpoint: Path, folder: Path, image_hw: tuple[int, int], n_images: int = 4) -> Picture:
    """Draw keypoints and heatmaps that a model predicts for unseen boxes, with the target heatmaps below.

    Args:
        checkpoint: A model of the boxes' channels.
        folder: Where the images are drawn.
        image_hw: Height and width of the images in pixels.
        n_images: Columns of the grid.
    """
    detector = load_model(checkpoint)
    labels = make_dataset("boxes", folder, n_images, image_hw, seed=77)
    samples = COCOKeypointsDataset(labels, detector.hparams["keypoint_channel_configuration"])
    with torch.no_grad():
        grids = ImageLogger(1, n_images, 0).grids(detector, collate([samples[i] for i in range(n_images)]))
    return grids["all_channels"]


def score_strips(
    checkpoint: Path, folder: Path, sides: Sequence[int], seeds: Sequence[int], n_images: int = 16
) -> Mapping[str, Sequence[Strip]]:
    """Score a model on unseen boxes: one row per size of image, one dot per data set.

    Args:
        checkpoint: A model of the boxes' channels.
        folder: Where the data sets are drawn and scored.
        sides: Sides of the square images in pixels.
        seeds: One data set per seed, at each size.
        n_images: Images of a data set.
    """
    panels: dict[str, list[Strip]] = {title: [] for title in METRICS.values()}
    names = [f"unseen set {number}" for number in range(1, len(seeds) + 1)]
    for side in sides:
        sets = [make_dataset("boxes", folder / f"{side}-{s}", n_images, (side, side), s) for s in seeds]
        scores = [evaluate(checkpoint, labels, labels.parent / "eval") for labels in sets]
        for key, title in METRICS.items():
            values = [score[key] for score in scores]
            panels[title].append(Strip(f"{side}x{side} images", values, names, float(np.mean(values))))
    return panels
