"""The ceiling of some settings: the scores of a network that answers exactly what it was asked for."""

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.instance_lengths import instance_lengths
from keypoint_detection.doctor_samples import LabelSamples, draw_positions, label_batches
from keypoint_detection.metrics.average_precision import similarity_of_thresholds
from keypoint_detection.metrics.oks_sigmas import resolve_oks_sigmas
from keypoint_detection.models.heads import Head, HeatmapHead, create_head
from keypoint_detection.models.inference import decode_batch
from keypoint_detection.models.scores import DetectionScores
from keypoint_detection.score_settings import normalizer_of, sigmas_of

MOST_PIXELS = 2**29
"""Heatmap pixels after which a ceiling is precise enough: 1,000 images of 8 channels of 256x256 pixels."""
LEAST_SAMPLES = 10


def ceiling(samples: LabelSamples, *, max_images: int = 500, seed: int = 0) -> dict[str, Any]:
    """Return the best scores that these settings allow: the true targets, decoded and scored as in `eval`.

    Args:
        samples: The samples under the settings to measure.
        max_images: With more samples, this many are drawn by the seed; of large heatmaps fewer.
        seed: Seed of the draw.

    Returns:
        `samples` (how many were scored), `of` (how many there are), `seed`, `scores` by the names of
        `DetectionScores.compute`, None where a score is not defined, and `worst`, the positions of samples
        with a missed or a displaced point, the worst first.

    Raises:
        ValueError: Thresholds are OKS and an area is missing, or what the scores are divided by is.
    """
    pixels = len(samples.channels) * float(samples.heatmap_hw.prod(axis=1).mean())
    affordable = max(LEAST_SAMPLES, int(MOST_PIXELS / pixels))
    positions = draw_positions(len(samples), min(max_images, affordable), seed)
    scores, order = perfect_scores(samples, positions)
    values = {name: None if math.isnan(value) else value for name, value in scores.compute().items()}
    return {
        "samples": len(positions),
        "of": len(samples),
        "seed": seed,
        "scores": values,
        "worst": _worst_first(scores, order),
    }


@torch.inference_mode()
def perfect_scores(
    samples: LabelSamples, positions: NDArray[np.int64]
) -> tuple[DetectionScores, NDArray[np.int64]]:
    """Return the scores of a perfect network on some samples, and the samples in the order they came in."""
    settings, table = samples.settings, samples.table
    if similarity_of_thresholds(settings.thresholds) == "oks":
        table.check_areas()
    lengths = instance_lengths(table, normalizer_of(table, settings.scoring))
    scores = DetectionScores(
        samples.channel_names, settings.thresholds, **DetectionScores.options(settings.scoring)
    )
    detector = _stand_in(samples)
    order = [np.empty(0, np.int64)]
    for part, batch in label_batches(samples, positions, lengths, _oks_sigmas(samples)):
        output = _perfect_output(detector.head, samples, batch)
        keypoints, confidence = decode_batch(cast("Any", detector), output, batch)
        scores.update(keypoints, confidence, cast("Any", batch), settings.required_visibility)
        order.append(part)
    return scores, np.concatenate(order)


def _stand_in(samples: LabelSamples) -> SimpleNamespace:
    """Return what `decode_batch` asks of a detector: the real head, without a backbone, and the settings."""
    settings = samples.settings
    backbone = SimpleNamespace(out_channels=1, stride=settings.stride)
    hparams = {
        "input_mode": settings.input_mode,
        "keypoint_channel_configuration": samples.channels,
        "max_keypoints": settings.max_keypoints,
        "minimal_keypoint_extraction_pixel_distance": settings.min_distance_px,
    }
    head = create_head(settings.head, cast("Any", backbone), len(samples.channels))
    return SimpleNamespace(head=head, hparams=hparams)


def _perfect_output(head: Head, samples: LabelSamples, batch: dict[str, Any]) -> Tensor:
    """Return the output of a network that gives its targets: logits of them, or normalised points."""
    count, settings = len(batch["image"]), samples.settings
    maps_hw = [-(-size // settings.stride) for size in batch["image"].shape[-2:]]
    shape = (count, len(samples.channels), *maps_hw)
    target, _ = head.targets(
        batch,
        torch.empty(1).expand(shape),
        required_visibility=settings.required_visibility,
        sigma_px=settings.sigma_px,
        mask_excluded=False,
    )
    # Direct regression always answers; where there is nothing, the centre is as good as anything.
    return _logits(target) if isinstance(head, HeatmapHead) else target.nan_to_num(0.5)


def _logits(probabilities: Tensor) -> Tensor:
    """Return infinite ones at 0 and 1; most pixels are 0, and to compute each one's would take longest."""
    logits = torch.full_like(probabilities, -torch.inf)
    pixels = probabilities.flatten().nonzero()[:, 0]
    logits.view(-1)[pixels] = probabilities.flatten()[pixels].logit()
    return logits


def _oks_sigmas(samples: LabelSamples) -> NDArray[np.float64]:
    """Return the OKS constant of every name of the table; only estimating them needs the file itself."""
    table, choice = samples.table, (samples.settings.scoring or {}).get("oks_sigmas")
    if choice == "estimate":
        constants = sigmas_of(read_coco(table.json_path), choice).by_name()
    else:
        constants = resolve_oks_sigmas(choice, table.names).by_name()
    return np.array([constants[name] for name in table.names])


def _worst_first(scores: DetectionScores, order: NDArray[np.int64]) -> list[int]:
    """Return the samples whose points are missed or more than half a pixel off, the worst first."""
    errors = scores.errors.compute()
    sample = torch.arange(len(order)).repeat_interleave(errors.num_targets.sum(1))
    worst = torch.zeros(len(order), dtype=torch.float64)
    worst.scatter_reduce_(0, sample, errors.distance.nan_to_num(torch.inf), "amax")
    ranked = worst.argsort(descending=True, stable=True)
    return order[ranked[worst[ranked] > 0.5].numpy()].tolist()
