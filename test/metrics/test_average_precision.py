import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.average_precision import average_precision
from reference.keypoint_cases import cases, make_case

from keypoint_detection.metrics import KeypointAveragePrecision, keypoint_average_precision
from keypoint_detection.metrics import similarity_of_thresholds as exported
from keypoint_detection.metrics.average_precision import similarity_of_thresholds

PIXELS = [1.0, 2.0, 4.5]
OKS = [0.3, 0.5, 0.9]


def test_by_hand() -> None:
    # Sorted by score: image 0 hit at 1 px; image 1 no target, false; image 0 hit at 5 px only.
    preds = torch.tensor([[[[1.0, 0.0], [53.0, 54.0]]], [[[9.0, 9.0], [torch.nan] * 2]]])
    scores = torch.tensor([[[0.9, 0.5]], [[0.7, 0.0]]])
    target = torch.tensor([[[[0.0, 0.0], [50.0, 50.0]]], [[[torch.nan] * 2] * 2]])
    ap = keypoint_average_precision(preds, scores, target, torch.full((2, 1, 2), 2), [2, 5])
    assert ap["ap"].tolist() == [[0.5, (1 + 2 / 3) / 2]]
    assert float(ap["map"]) == pytest.approx((0.5 + 5 / 6) / 2, abs=1e-15)
    assert ap["ap"].dtype == torch.float64


def test_channel_without_targets_is_nan_and_left_out() -> None:
    preds, target = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    preds[:, 2] = torch.nan
    ap = keypoint_average_precision(
        preds, torch.ones(1, 3, 1), target, torch.tensor([[[2], [0], [2]]]), [1, 2]
    )
    assert ap["ap"][0].tolist() == [1.0, 1.0]
    assert ap["ap"][1].isnan().all()
    assert ap["ap"][2].tolist() == [0.0, 0.0]
    assert float(ap["map"]) == 0.5


@pytest.mark.parametrize("sizes", [(0, 2, 3, 3), (2, 2, 0, 3), (2, 2, 3, 0), (2, 2, 0, 0)])
@pytest.mark.parametrize("similarity", ["distance", "oks"])
def test_empty_sides(sizes, similarity: str) -> None:
    case = make_case(1, sizes)
    case.visibility[:] = 2
    options = {"similarity": similarity, "scale": torch.from_numpy(case.areas), "sigmas": 0.3}
    table = keypoint_average_precision(*case.tensors(), [0.5, 0.7], **options)["ap"]
    assert table.shape == (2, 2)
    if sizes[0] and sizes[3]:
        assert table.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    else:
        assert table.isnan().all()


@pytest.mark.parametrize("interpolation", ["all", "101"])
@pytest.mark.parametrize("similarity", ["distance", "oks"])
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_equals_slow_reference_bit_for_bit(interpolation: str, similarity: str, case) -> None:
    oks = similarity == "oks"
    thresholds, areas = (OKS, case.areas) if oks else (PIXELS, None)
    options = {"similarity": similarity, "scale": torch.from_numpy(case.areas), "sigmas": 0.3}
    found = keypoint_average_precision(*case.tensors(), thresholds, interpolation=interpolation, **options)
    expected = average_precision(*case[:4], thresholds, areas=areas, sigma=0.3, interpolation=interpolation)
    np.testing.assert_array_equal(found["ap"].numpy(), expected)


@given(case=cases(), seed=st.integers(0, 999), batch=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_order_and_batches_change_no_bit(case, seed: int, batch: int) -> None:
    assume(len(case.scores) > 0)
    for similarity, thresholds in (("distance", PIXELS), ("oks", OKS)):
        options = {"similarity": similarity, "sigmas": 0.3}
        together = keypoint_average_precision(
            *case.tensors(), thresholds, scale=torch.from_numpy(case.areas), **options
        )
        metric = KeypointAveragePrecision(case.scores.shape[1], thresholds, **options)
        shuffled = case.shuffled(seed)
        for part in zip(
            *(t.split(batch) for t in (*shuffled.tensors(), torch.from_numpy(shuffled.areas))), strict=True
        ):
            metric.update(*part)
        assert torch.equal(metric.compute()["ap"].nan_to_num(-1), together["ap"].nan_to_num(-1))


def test_update_with_other_padding_changes_nothing() -> None:
    case = make_case(5, (4, 2, 5, 4))
    padded = torch.nn.functional.pad
    preds, scores, target, visibility = case.tensors()
    metric = KeypointAveragePrecision(2, PIXELS)
    metric.update(preds[:1], scores[:1], target[:1], visibility[:1])
    metric.update(
        padded(preds[1:], (0, 0, 0, 3), value=torch.nan),
        padded(scores[1:], (0, 3), value=torch.nan),
        padded(target[1:], (0, 0, 2, 0), value=7.0),
        padded(visibility[1:], (2, 0)),
    )
    expected = keypoint_average_precision(preds, scores, target, visibility, PIXELS)["ap"]
    assert torch.equal(metric.compute()["ap"], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_input_is_matched_in_float64(dtype: torch.dtype) -> None:
    # In half precision 1000.5 - 1000 and the squares would round; these numbers are exact in every type.
    case = make_case(8, (5, 2, 5, 4))
    preds, scores, target, visibility = case.tensors()
    found = keypoint_average_precision(
        preds.to(dtype), scores.to(dtype), target.to(dtype), visibility, PIXELS
    )
    assert torch.equal(found["ap"], keypoint_average_precision(*case.tensors(), PIXELS)["ap"])
    far = torch.full((1, 1, 1, 2), 1024.0, dtype=dtype)
    ap = keypoint_average_precision(far, torch.ones(1, 1, 1), far - 300, torch.ones(1, 1, 1), [424.2, 424.3])
    shift = float(((far - (far - 300)).double() ** 2).sum().sqrt())
    assert ap["ap"].tolist() == [[float(shift <= 424.2), float(shift <= 424.3)]]


@pytest.mark.parametrize("visible", [torch.uint8, torch.bool, torch.int64, torch.float32])
def test_any_type_of_visibility(visible: torch.dtype) -> None:
    point = torch.zeros(1, 1, 2, 2)
    visibility = torch.tensor([[[2, 0]]]).to(visible)
    ap = keypoint_average_precision(point, torch.tensor([[[0.9, 0.8]]]), point, visibility, [1])
    assert float(ap["map"]) == 1.0


def test_oks_by_hand() -> None:
    # k = 2 * 0.1, area 100: OKS = exp(-d^2 / 8), 0.6065 at 2 px.
    preds, target = torch.tensor([[[[2.0, 0.0]]]]), torch.zeros(1, 1, 1, 2)
    one, area = torch.ones(1, 1, 1), torch.full((1, 1, 1), 100.0)
    options = {"similarity": "oks", "scale": area, "sigmas": [0.1]}
    ap = keypoint_average_precision(preds, one, target, one, [0.5, 0.606, 0.607, 1.0], **options)
    assert ap["ap"].tolist() == [[1.0, 1.0, 0.0, 0.0]]
    ap = keypoint_average_precision(target, one, target, one, [1.0], **options)
    assert ap["ap"].tolist() == [[1.0]]


def test_oks_takes_the_most_similar_target() -> None:
    # 3 px from a large object is nearer than 2 px from a small one.
    preds, target = torch.tensor([[[[0.0, 0.0], [2.0, 1.0]]]]), torch.tensor([[[[2.0, 0.0], [-3.0, 0.0]]]])
    scores, visibility = torch.tensor([[[0.9, 0.8]]]), torch.full((1, 1, 2), 2)
    options = {"similarity": "oks", "sigmas": 0.1}
    small_and_large = torch.tensor([[[50.0, 1000.0]]])
    ap = keypoint_average_precision(
        preds, scores, target, visibility, [0.3], scale=small_and_large, **options
    )
    assert float(ap["map"]) == 1.0
    ap = keypoint_average_precision(
        preds, scores, target, visibility, [0.3], scale=small_and_large.flip(2), **options
    )
    assert float(ap["map"]) < 1.0


def test_oks_without_areas() -> None:
    point, one = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1)
    metric = KeypointAveragePrecision(1, [0.5], "oks")
    with pytest.raises(ValueError, match="OKS needs the area"):
        metric.update(point, one, point, one)
    with pytest.raises(ValueError, match="1 of 1 zero or missing"):
        metric.update(point, one, point, one, torch.zeros(1, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, [2]), "num_channels >= 1"),
        ((1, []), "got none"),
        ((1, [0]), "> 0"),
        ((1, [2], "oks"), r"\(0, 1\]"),
        ((1, [2], "iou"), "got 'iou'"),
    ],
)
def test_wrong_arguments(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeypointAveragePrecision(*arguments)


def test_wrong_interpolation_and_channels() -> None:
    with pytest.raises(ValueError, match="got '11'"):
        KeypointAveragePrecision(1, [2], interpolation="11")
    case = make_case(0, (1, 2, 3, 3))
    with pytest.raises(ValueError, match=r"expected preds \[n, 3, k, 2\], got \[1, 2, 3, 2\]"):
        KeypointAveragePrecision(3, [2]).update(*case.tensors())


def test_one_router_of_thresholds() -> None:
    assert exported is similarity_of_thresholds


@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_101_points_equal_pycocotools(seed: int, ignoring: bool) -> None:
    # An object of one keypoint makes COCO's OKS the keypoint's, so its matching and curve are the referee.
    case = make_case(seed, (12, 2, 6, 5), grid=0, score_levels=0)
    case = case._replace(regions=case.regions * 3)
    thresholds = [0.5, 0.75, 0.95]
    options = {"similarity": "oks", "scale": torch.from_numpy(case.areas * 4), "sigmas": 0.8}
    options["interpolation"] = "101"
    plain = keypoint_average_precision(*case.tensors(), thresholds, **options)["ap"]
    if ignoring:
        options |= case.ignoring()
    found = keypoint_average_precision(*case.tensors(), thresholds, **options)["ap"]
    expected = coco_precision(case, thresholds, sigma=0.8, ignoring=ignoring)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(found, plain) != ignoring
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def coco_annotations(case, image, channel, ignoring):
    """Return COCO's objects of one keypoint each, and a crowd for each region, of an image and channel."""
    labels = []
    for (x, y), seen, area, ignored in zip(
        case.target[image, channel],
        case.visibility[image, channel],
        case.areas[image, channel],
        case.ignored[image, channel],
        strict=True,
    ):
        if seen:
            # COCO ignores an object that says it has no keypoint, and yet measures the distance to it.
            count = 0 if ignoring and ignored else 1
            label = {"keypoints": [x, y, 2], "num_keypoints": count, "area": area * 4, "iscrowd": 0}
            labels.append({**label, "bbox": [x, y, 1, 1]})
    for x, y, width, height in case.regions[image] if ignoring else []:
        if np.isfinite(x):
            # Of an object without visible keypoints COCO takes the box with a margin of one box on each
            # side, without an offset of half a pixel; a tiny area makes the OKS outside of it 0.
            box = [x - 0.5 + width / 3, y - 0.5 + height / 3, width / 3, height / 3]
            crowd = {"keypoints": [0, 0, 0], "num_keypoints": 0, "area": 1e-9, "iscrowd": 1}
            labels.append({**crowd, "bbox": box})
    return labels


def coco_precision(case, thresholds, sigma, ignoring):
    """Return pycocotools' AP `[c, t]` of objects that have one keypoint; the category is the channel."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    n, c = case.scores.shape[:2]
    annotations, results = [], []
    for image, channel in np.ndindex(n, c):
        common = {"image_id": image + 1, "category_id": channel + 1}
        for label in coco_annotations(case, image, channel, ignoring):
            annotations.append({**common, **label, "id": len(annotations) + 1})
        for (x, y), score in zip(case.preds[image, channel], case.scores[image, channel], strict=True):
            if np.isfinite(x):
                results.append({**common, "keypoints": [x, y, 2], "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i + 1} for i in range(n)],
            "categories": [{"id": i + 1, "name": str(i)} for i in range(c)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([sigma])
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, 0].mean(axis=1).T
