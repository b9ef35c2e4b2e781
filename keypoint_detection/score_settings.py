"""From settings and a COCO file to what the scores need: OKS constants, normalising lengths, instances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.data.coco_parser import CocoKeypoints
from keypoint_detection.data.coco_targets import has_single_instances, instance_targets, keypoint_category
from keypoint_detection.data.instance_lengths import LengthNormalizer, resolve_normalizer
from keypoint_detection.data.repeated_labels import repeated_distances
from keypoint_detection.metrics.oks_sigmas import OKSSigmas, resolve_oks_sigmas


def sigmas_of(coco: CocoKeypoints, choice: Any) -> OKSSigmas:
    """Return the OKS constant of every keypoint name of a file; for the choice see `resolve_oks_sigmas`."""
    repeated = repeated_distances(coco) if choice == "estimate" else None
    return resolve_oks_sigmas(choice, coco.keypoint_names(), repeated)


def normalizer_of(table: KeypointTable, scoring: Mapping[str, Any] | None) -> LengthNormalizer:
    """Return the normaliser of PCK that the settings (`ScoreConfig` by name) ask for."""
    settings = scoring or {}
    reference = settings.get("pck_reference")
    name = settings.get("pck_normalizer", "auto")
    return resolve_normalizer(table, LengthNormalizer(name, None if reference is None else tuple(reference)))


@dataclass(frozen=True)
class InstanceLabels:
    """Hold what instances are scored against by COCO's OKS-AP.

    Attributes:
        category_id: The category of the instances.
        channel_of_keypoint: The channel that finds each of the k keypoints of the category.
        targets: By image id, as `OKSAveragePrecision.update` takes them.
        sigmas: `[k]` constants.
    """

    category_id: int
    channel_of_keypoint: list[int]
    targets: dict[int, dict[str, NDArray]]
    sigmas: NDArray[np.float64]


def instance_labels(
    coco: CocoKeypoints, channels: Sequence[Sequence[str]], sigmas: OKSSigmas, *, input_mode: str
) -> InstanceLabels | str:
    """Return the labels of instances, or in one phrase why OKS-AP is not defined.

    Args:
        coco: The file.
        channels: Keypoint names per channel of the model.
        sigmas: Constants of all names of the file.
        input_mode: `instance`, or `image`, where an image must not hold more than one instance.

    Raises:
        ValueError: With crops of instances, the area of a labelled instance is missing or 0.
    """
    category = keypoint_category(coco)
    if isinstance(category, str):
        return category
    alone = {channel[0]: index for index, channel in enumerate(channels) if len(channel) == 1}
    without = [name for name in category.keypoints if name not in alone]
    if without:
        return f"no channel is for {without[0]!r} alone"
    if input_mode == "image" and not has_single_instances(coco):
        return "an image holds several instances, which only --input_mode instance tells apart"
    try:
        targets = instance_targets(coco, category.id)
    except ValueError as error:
        if input_mode == "instance":
            raise
        return " ".join(str(error).split())
    constants = sigmas.by_name()
    return InstanceLabels(
        category.id,
        [alone[name] for name in category.keypoints],
        targets,
        np.array([constants[name] for name in category.keypoints]),
    )
