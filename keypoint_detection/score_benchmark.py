"""Time the metrics against named references in one run, and print the ratios."""

import contextlib
import copy
import io
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keypoint_detection.benchmark import Row, median_seconds
from keypoint_detection.metrics import KeypointAveragePrecision, OKSAveragePrecision
from keypoint_detection.metrics.average_precision_statistic import AveragePrecisionStatistic
from keypoint_detection.metrics.bootstrap import bootstrap_statistics
from keypoint_detection.metrics.oks_sigmas import COCO_SIGMAS
from keypoint_detection.models.backbones.backbone_factory import create_backbone

SIGMAS = tuple(COCO_SIGMAS.values())


def metric_rows() -> Iterator[Row]:
    """Yield every row; about two minutes on two cores."""
    yield from time_oks_average_precision()
    yield time_distance_average_precision()
    yield time_share_of_forward()
    yield time_bootstrap()


def people(n_images: int, n_people: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Draw a COCO file's annotations and keypoint results: people of 17 points with errors of some size."""
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for image_id in range(1, n_images + 1):
        for _ in range(n_people):
            side = float(rng.uniform(20, 200))
            corner = rng.uniform(0, 400, 2)
            points = corner + rng.uniform(0, side, (17, 2))
            flags = np.where(rng.random(17) < 0.7, 2, 0)
            common = {"image_id": image_id, "category_id": 1}
            annotations.append(
                {
                    **common,
                    "id": len(annotations) + 1,
                    "keypoints": np.column_stack([points, flags]).ravel().tolist(),
                    "num_keypoints": int((flags > 0).sum()),
                    "area": side * side * 0.6,
                    "bbox": [*corner.tolist(), side, side],
                    "iscrowd": 0,
                }
            )
            found = points + rng.normal(0, 0.04 * side, (17, 2))
            keypoints = np.column_stack([found, np.ones(17)]).ravel().tolist()
            results.append({**common, "keypoints": keypoints, "score": float(rng.random())})
    return annotations, results


def time_oks_average_precision(n_images: int = 5000, n_people: int = 5) -> Iterator[Row]:
    """Time OKS-AP end to end against pycocotools and, where it is installed, faster-coco-eval."""
    annotations, results = people(n_images, n_people)
    dataset = {
        "images": [{"id": image_id} for image_id in range(1, n_images + 1)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_SIGMAS)}],
        "annotations": annotations,
        "info": {},
    }
    preds, targets = _as_arrays(annotations, results, n_images)

    def ours() -> float:
        metric = OKSAveragePrecision(SIGMAS)
        for start in range(0, n_images, 16):
            metric.update(preds[start : start + 16], targets[start : start + 16])
        return float(metric.compute()["ap"])

    seconds = median_seconds(ours, 3)
    name = f"OKS-AP {n_images} images x {n_people} people"
    reference, value = _time_coco("pycocotools.coco:COCO", "pycocotools.cocoeval:COCOeval", dataset, results)
    yield Row(f"{name} | pycocotools", seconds, reference, ">= 8x", _note(value, ours()))
    try:
        reference, value = _time_coco(
            "faster_coco_eval:COCO", "faster_coco_eval:COCOeval_faster", dataset, results
        )
    except ModuleNotFoundError:
        yield Row(f"{name} | faster-coco-eval", seconds, note="pip install 'keypoint-detection[fast]'")
        return
    yield Row(f"{name} | faster-coco-eval", seconds, reference, ">= 1x", _note(value, ours()))


def _as_arrays(
    annotations: list[dict[str, Any]], results: list[dict[str, Any]], n_images: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the same people as a model and a data set give them: tensors per image."""
    shape = (n_images, -1, 17, 3)
    labels = torch.tensor([one["keypoints"] for one in annotations], dtype=torch.float64).reshape(shape)
    found = torch.tensor([one["keypoints"] for one in results], dtype=torch.float64).reshape(shape)
    scores = torch.tensor([one["score"] for one in results], dtype=torch.float64).reshape(n_images, -1)
    area = torch.tensor([one["area"] for one in annotations], dtype=torch.float64).reshape(n_images, -1)
    boxes = torch.tensor([one["bbox"] for one in annotations], dtype=torch.float64)
    boxes = boxes.reshape(n_images, -1, 4)
    preds = [{"keypoints": found[i, :, :, :2], "scores": scores[i]} for i in range(n_images)]
    targets = [
        {
            "keypoints": labels[i, :, :, :2],
            "visibility": labels[i, :, :, 2],
            "area": area[i],
            "boxes": boxes[i],
            "image_id": i + 1,
        }
        for i in range(n_images)
    ]
    return preds, targets


def _time_coco(coco: str, evaluation: str, dataset: dict[str, Any], results: Any) -> tuple[float, float]:
    """Return the seconds of loadRes, evaluate and accumulate, the median of three, and the AP."""
    reader, scorer = (_imported(name) for name in (coco, evaluation))
    times, value = [], math.nan
    for _ in range(3):
        entries = copy.deepcopy(results)
        with contextlib.redirect_stdout(io.StringIO()):
            truth = reader()
            truth.dataset = copy.deepcopy(dataset)
            truth.createIndex()
            start = time.perf_counter()
            scored = scorer(truth, truth.loadRes(entries), "keypoints")
            scored.evaluate()
            scored.accumulate()
            times.append(time.perf_counter() - start)
            scored.summarize()
        value = float(scored.stats[0])
    return sorted(times)[1], value


def _imported(name: str) -> Any:
    import importlib

    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


def _note(value: float, ours: float) -> str:
    return "AP equal to 1e-9" if abs(value - ours) < 1e-9 else f"AP DIFFERS: {ours} and {value}"


def points(n: int, c: int, k: int, size: float = 512.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw detections near targets, some absent: preds `[n, c, k, 2]`, scores, target and visibility."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(n, c, k, 2, generator=generator) * size
    visibility = (torch.rand(n, c, k, generator=generator) < 0.8).to(torch.uint8) * 2
    preds = target + torch.randn(target.shape, generator=generator) * 2
    scores = torch.rand(n, c, k, generator=generator, dtype=torch.float64)  # so fine that none are equal
    preds[torch.rand(n, c, k, generator=generator) < 0.2] = torch.nan
    return preds, scores, target, visibility


def distance_ap(
    case: tuple[Tensor, ...], thresholds: list[float], batch: int = 16
) -> KeypointAveragePrecision:
    """Score a case in batches and return the metric."""
    metric = KeypointAveragePrecision(case[0].shape[1], thresholds)
    for part in zip(*(tensor.split(batch) for tensor in case), strict=True):
        metric.update(*part)
    metric.compute()
    return metric


def per_image_ap(case: tuple[Tensor, ...], thresholds: list[float]) -> list[list[float]]:
    """Compute distance-AP as plain Python does: one image, one channel, one threshold, one pair at a time."""
    lists = [tensor.tolist() for tensor in case]
    table = []
    for channel in range(case[0].shape[1]):
        rows = [[part[channel] for part in image] for image in zip(*lists, strict=True)]
        table.append([_channel_ap(rows, threshold) for threshold in thresholds])
    return table


def _channel_ap(images: list[list[Any]], threshold: float) -> float:
    found, total = [], 0
    for preds, scores, target, visibility in images:
        free = [xy for xy, seen in zip(target, visibility, strict=True) if seen]
        total += len(free)
        detections = [(s, xy) for s, xy in zip(scores, preds, strict=True) if not math.isnan(xy[0])]
        for score, xy in sorted(detections, reverse=True):
            distance, best = min(
                ((math.dist(xy, other), j) for j, other in enumerate(free)), default=(9e9, -1)
            )
            if distance <= threshold:
                free.pop(best)
            found.append((score, distance <= threshold))
    found.sort(reverse=True)
    hits, curve = 0, []
    for rank, (_, hit) in enumerate(found, start=1):
        hits += hit
        curve.append((hits, hits / rank))
    area, best = 0.0, 0.0
    for (hits, precision), (before, _) in zip(curve[::-1], [*curve[-2::-1], (0, 0.0)], strict=True):
        best = max(best, precision)
        area += (hits - before) * best
    return area / max(total, 1)


def time_distance_average_precision() -> Row:
    """Time distance-AP with 100 keypoints per channel against plain Python."""
    case, thresholds = points(200, 8, 100), [1.0, 2.0, 4.0]
    seconds = median_seconds(lambda: distance_ap(case, thresholds), 3)
    start = time.perf_counter()
    expected = per_image_ap(case, thresholds)
    reference = time.perf_counter() - start
    value = distance_ap(case, thresholds).compute()["ap"]
    same = torch.allclose(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    return Row(
        "AP 200 images x 8 x 100, 3 thresholds | per image, Python",
        seconds,
        reference,
        ">= 40x",
        "equal to 1e-12" if same else "VALUES DIFFER",
    )


def time_share_of_forward(n_images: int = 2000, side: int = 256) -> Row:
    """Time AP over images against the forward pass of the default U-Net over them."""
    case = points(n_images, 8, 10, side)
    seconds = median_seconds(lambda: distance_ap(case, [2.0, 4.0]), 3)
    backbone, images = create_backbone("Unet").eval(), torch.rand(8, 3, side, side)
    with torch.inference_mode():
        forward = median_seconds(lambda: backbone(images), 3) * n_images / len(images)
    note = f"{100 * seconds / forward:.2f} % of the forward pass; wanted < 3 %"
    return Row(
        f"AP {n_images} images x 8 x 10 | U-Net forward {side}x{side}", seconds, forward, "> 33x", note
    )


def time_bootstrap(n_images: int = 2000, n_resamples: int = 1000) -> Row:
    """Time the BCa intervals of AP from stored matches."""
    matches = distance_ap(points(n_images, 8, 10), [2.0, 4.0]).matches()
    names = tuple(f"channel{i}" for i in range(8))
    statistic = AveragePrecisionStatistic(
        *matches, interpolation="all", channel_names=names, threshold_names=("ap@2px", "ap@4px")
    )
    work: Callable[[], object] = lambda: bootstrap_statistics(  # noqa: E731
        [statistic], n_images=n_images, n_resamples=n_resamples
    )
    return Row(
        f"intervals of AP, {n_resamples} resamples, {n_images} images x 8 x 10", median_seconds(work, 1)
    )
