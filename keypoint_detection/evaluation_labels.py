"""What an evaluation scores against: the samples, the labels of instances, lengths, constants and groups."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, channels_of
from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.detections import read_detections
from keypoint_detection.data.groups import group_labels
from keypoint_detection.data.instance_crops import InstanceCrops, detection_crops, label_crops
from keypoint_detection.data.instance_lengths import LengthNormalizer, instance_lengths
from keypoint_detection.evaluation_report import WHOLE_IMAGE
from keypoint_detection.metrics.average_precision import similarity_of_thresholds
from keypoint_detection.metrics.oks_sigmas import OKSSigmas
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.score_settings import InstanceLabels, instance_labels, normalizer_of, sigmas_of

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class EvaluationLabels:
    """Hold the samples of an evaluation and everything that their scores depend on.

    Attributes:
        dataset: The samples: whole images, or one crop per box.
        sigmas: OKS constants of all names of the file.
        normalizer: What the lengths of PCK and NME are.
        instances: What OKS-AP is scored against, or in one phrase why it is not defined.
        box_source: Where the boxes come from: "whole image", "labels" or the file of detections.
        has_labels: Whether the samples carry labels; crops of detected boxes do not.
        image_ids: int64 `[n]`, every image of the file in its order.
        groups: The group of each image, or None.
    """

    dataset: COCOKeypointsDataset
    sigmas: OKSSigmas
    normalizer: LengthNormalizer
    instances: InstanceLabels | str
    box_source: str
    has_labels: bool
    image_ids: NDArray[np.int64]
    groups: tuple[str, ...] | None

    @property
    def image_of_sample(self) -> NDArray[np.int64]:
        """Return the row in `image_ids` of every sample, `[q]`."""
        rows = {image_id: row for row, image_id in enumerate(self.image_ids.tolist())}
        return np.array([rows[image_id] for image_id in self.dataset.image_ids], np.int64)

    def fingerprint(self) -> str:
        """Return twelve hex digits that stand for the images and all their labels, in any order of images."""
        table = self.dataset.table
        digest = hashlib.sha256("\n".join(table.names).encode())
        for row in np.argsort(self.image_ids).tolist():
            points, instances, crowds = (
                slice(*first[row : row + 2].tolist())
                for first in (table.first_point, table.first_instance, table.first_crowd)
            )
            owner = table.instance[points] - instances.start
            parts = [table.image_ids[row], table.image_hw[row], owner]
            parts += [part[points] for part in (table.xy, table.visibility, table.name_index)]
            parts += [part[instances] for part in (table.area, table.box, table.head_size)]
            parts += [table.crowd_box[crowds], *self._targets(int(self.image_ids[row]))]
            for part in parts:  # with its length, lest two neighbours be cut elsewhere
                digest.update(len(part.tobytes()).to_bytes(8, "little") + part.tobytes())
        return digest.hexdigest()[:12]

    def _targets(self, image_id: int) -> list[NDArray]:
        """Return what OKS-AP takes of an image: also crowds without a box, and points outside of it."""
        return [] if isinstance(self.instances, str) else list(self.instances.targets[image_id].values())


def read_labels(
    json_dataset_path: str | Path,
    detector: KeypointDetector,
    *,
    detections: str | Path | None = None,
    group_by: str | None = None,
) -> EvaluationLabels:
    """Read a COCO keypoint file, and a file of detected boxes if there is one, to score a detector on.

    Raises:
        FileNotFoundError: A file or an image is missing.
        ValueError: A file is not valid, or lacks what a score that was asked for needs; one line.
    """
    hparams = detector.hparams
    coco = read_coco(json_dataset_path)
    table = read_table(json_dataset_path, coco)
    if not len(table.xy):
        raise ValueError(f"{json_dataset_path}: expected labelled keypoints to score against, got none")
    channels = channels_of(table, hparams["keypoint_channel_configuration"])
    sigmas = sigmas_of(coco, (hparams["scoring"] or {}).get("oks_sigmas"))
    normalizer = normalizer_of(table, hparams["scoring"])
    try:
        instances = instance_labels(coco, channels, sigmas, input_mode=hparams["input_mode"])
    except ValueError as error:
        raise ValueError(f"{json_dataset_path}: {error}") from None
    if similarity_of_thresholds(hparams["maximal_gt_keypoint_pixel_distances"]) == "oks":
        table.check_areas()
    crops = _crops(coco, table, hparams, detections, instances)
    size, constants = hparams["image_size"], sigmas.by_name()
    dataset = COCOKeypointsDataset(
        table,
        channels,
        image_size=(size[0], size[1]) if size else None,
        n_channels_in=detector.backbone.in_channels,
        crops=crops,
        lengths=instance_lengths(table, normalizer),
        sigmas=np.array([constants[name] for name in table.names]),
    )
    return EvaluationLabels(
        dataset=dataset,
        sigmas=sigmas,
        normalizer=normalizer,
        instances=instances,
        box_source=_box_source(crops, detections),
        has_labels=detections is None,
        image_ids=table.image_ids,
        groups=None if group_by is None else tuple(group_labels(coco.images, group_by)),
    )


def _crops(
    coco: CocoKeypoints,
    table: KeypointTable,
    hparams: Any,
    detections: str | Path | None,
    instances: InstanceLabels | str,
) -> InstanceCrops | None:
    """Return the crops of an evaluation in instance mode, or None for whole images."""
    if hparams["input_mode"] == "image":
        if detections is not None:
            raise ValueError(
                "--detections needs a model that was trained with --input_mode instance; this one takes "
                "whole images"
            )
        return None
    if detections is None:
        return label_crops(table, hparams["box_padding"])
    if isinstance(instances, str):
        raise ValueError(
            f"--detections: crops of detected boxes have no labels of their own and are scored by OKS-AP "
            f"alone; for {table.json_path} it is not defined: {instances}"
        )
    sizes = dict(zip(table.image_ids.tolist(), map(tuple, table.image_hw.tolist()), strict=True))
    found = read_detections(
        detections,
        image_ids=table.image_ids.tolist(),
        category_ids=[category.id for category in coco.categories],
        image_sizes=sizes,
    )
    kept = found.category_id == instances.category_id
    if not kept.all():
        logger.warning(
            "%s: %d of %d boxes are left out: they are not of category %d, the one that is scored",
            detections,
            int((~kept).sum()),
            len(kept),
            instances.category_id,
        )
    boxes = (found.box[kept], found.score[kept], found.image_id[kept], found.category_id[kept])
    return detection_crops(table, *boxes, hparams["box_padding"])


def _box_source(crops: InstanceCrops | None, detections: str | Path | None) -> str:
    if crops is None:
        return WHOLE_IMAGE
    if detections is None:
        return "labels"
    digest = hashlib.sha256(Path(detections).read_bytes()).hexdigest()[:12]
    return f"detections {Path(detections).name} ({digest})"


def sample_scores(labels: EvaluationLabels, point_scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the score of every sample as an instance, `[q]`: box score times the mean of its points' scores.

    Args:
        labels: Give the boxes.
        point_scores: `[q, k]`.
    """
    crops = labels.dataset.crops
    box_scores: Any = 1.0 if crops is None else crops.score.astype(np.float64)
    return point_scores.mean(axis=1) * box_scores if len(point_scores) else np.zeros(0)
