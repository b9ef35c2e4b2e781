"""Images with detected and labelled instances, and their score by pycocotools, the referee of OKS-AP."""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ["ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large"]
SIDES = [0.0, 8.0, 32.0, 60.0, 96.0, 150.0]


class OKSCase(NamedTuple):
    """Hold what `OKSAveragePrecision` is given: a dict of NumPy arrays for each image, and the sigmas."""

    preds: list[dict[str, Any]]
    target: list[dict[str, Any]]
    sigmas: list[float]

    def repeated(self, counts):
        """Return each image as many times as `counts` says, one copy after the other, without ids."""
        rows = np.repeat(np.arange(len(self.preds)), counts).tolist()
        return OKSCase([self.preds[row] for row in rows], [self.target[row] for row in rows], self.sigmas)

    def with_ids(self, ids):
        """Return the images with these ids."""
        target = [{**labels, "image_id": i} for labels, i in zip(self.target, ids, strict=True)]
        return self._replace(target=target)


def make_oks_case(seed, num_images=4, k=3, *, most=4, distinct_scores=False, grid=False):
    """Draw images with crowds, unlabelled instances, areas of 0 and at the limits, ties and duplicates.

    Args:
        seed: Seed of the draw.
        num_images: Number of images.
        k: Number of keypoints.
        most: Greatest number of instances of an image, on each side.
        distinct_scores: Draw no score twice.
        grid: Whole pixels and equal sigmas, for many equal similarities.
    """
    rng = np.random.default_rng(seed)
    sigmas = np.full(k, 0.05) if grid else rng.uniform(0.02, 0.15, k)
    target = [_make_targets(rng, k, int(rng.integers(0, most + 1)), grid) for _ in range(num_images)]
    preds = []
    for labels in target:
        count = int(rng.integers(0, most + 1))
        keypoints = [_make_detection(rng, labels, row, sigmas, grid) for row in range(count)]
        keypoints = np.stack(keypoints) if count else np.zeros((0, k, 2))
        for row in range(1, count):
            if rng.random() < 0.15:
                keypoints[row] = keypoints[row - 1]
        scores = rng.random(count) if distinct_scores else rng.integers(0, 5, count) / 5
        preds.append({"keypoints": keypoints, "scores": scores})
    return OKSCase(preds, target, sigmas.tolist())


def _make_targets(rng, k, count, grid):
    side = rng.choice(SIDES, count, p=[0.08, 0.12, 0.15, 0.3, 0.15, 0.2])
    area = np.where(rng.random(count) < 0.5, side**2, side**2 * rng.uniform(0.8, 1.2, count))
    corner = rng.uniform(0, 120, (count, 1, 2))
    keypoints = corner + rng.random((count, k, 2)) * np.maximum(side, 5)[:, None, None]
    keypoints = keypoints.round() if grid else keypoints
    visibility = rng.integers(0, 3, (count, k)) * (rng.random((count, 1)) < 0.85)
    for row in range(1, count):
        if rng.random() < 0.15:
            keypoints[row], visibility[row], area[row] = (
                keypoints[row - 1],
                visibility[row - 1],
                area[row - 1],
            )
    boxes = np.concatenate([corner[:, 0], rng.uniform(1, 60, (count, 2))], axis=1)
    keypoints[(visibility == 0) & (rng.random((count, k)) < 0.5)] = np.nan
    crowd = (rng.random(count) < 0.12).astype(np.int64)
    return {
        "keypoints": keypoints,
        "visibility": visibility,
        "area": area,
        "boxes": boxes,
        "iscrowd": crowd,
    }


def _make_detection(rng, labels, row, sigmas, grid):
    """Return keypoints `[k, 2]` near those of a target, or anywhere."""
    if not len(labels["area"]) or rng.random() < 0.1:
        points = rng.uniform(0, 200, (len(sigmas), 2))
        return points.round() if grid else points
    row = row if row < len(labels["area"]) else rng.integers(len(labels["area"]))
    error = rng.choice([0.0, 0.1, 0.2, 0.4, 0.7, 1.2]) * 2 * sigmas * np.sqrt(labels["area"][row])
    points = labels["keypoints"][row] + rng.normal(0, 1, (len(sigmas), 2)) * error[:, None]
    points = np.where(np.isnan(points), rng.uniform(0, 200, points.shape), points)
    return points.round() if grid else points


def oks_cases():
    """Return a hypothesis strategy of cases with 1 to 133 keypoints and up to 30 instances of an image."""
    sizes = st.sampled_from([(0, 4), (1, 30), (2, 24), (3, 8), (6, 4), (8, 3), (5, 1)])
    counts = st.one_of(st.integers(1, 4), st.sampled_from([9, 17, 40, 133]), st.integers(1, 133))
    return st.builds(
        lambda seed, size, k, grid: make_oks_case(seed, size[0], k, most=size[1], grid=grid),
        st.integers(0, 10**6),
        sizes,
        counts,
        st.booleans(),
    )


def evaluate_with_pycocotools(dataset, results, sigmas=None):
    """Return pycocotools' evaluation of a COCO data set and a list of results, without printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        if results:
            found = truth.loadRes(results)
        else:
            found = COCO()
            found.dataset = {**dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def evaluate_case(case):
    """Return pycocotools' evaluation of a case; image i has the id i + 1, or its own."""
    annotations, results = [], []
    ids = [int(labels.get("image_id", i + 1)) for i, labels in enumerate(case.target)]
    for image_id, found, labels in zip(ids, case.preds, case.target, strict=True):
        common = {"image_id": image_id, "category_id": 1}
        for row, area in enumerate(labels["area"]):
            annotation = {
                "id": len(annotations) + 1,
                "keypoints": _flat(labels["keypoints"][row], labels["visibility"][row]),
                "num_keypoints": int((labels["visibility"][row] > 0).sum()),
                "area": float(area),
                "bbox": labels["boxes"][row].tolist(),
                "iscrowd": int(labels["iscrowd"][row]),
            }
            annotations.append({**common, **annotation})
        for points, score in zip(found["keypoints"], found["scores"], strict=True):
            results.append(
                {**common, "keypoints": _flat(points, np.ones(len(points))), "score": float(score)}
            )
    dataset = {
        "info": {},
        "images": [{"id": image_id} for image_id in ids],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": annotations,
    }
    return evaluate_with_pycocotools(dataset, results, case.sigmas)


def coco_numbers(case):
    """Return pycocotools' ten numbers of a case."""
    return evaluate_case(case).stats


def _flat(points, visibility):
    points = np.where(visibility[:, None] > 0, points, 0)
    return np.column_stack([points, visibility]).astype(float).ravel().tolist()
