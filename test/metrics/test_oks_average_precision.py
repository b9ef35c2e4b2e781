import copy
import json
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from reference.oks_cases import (
    NAMES,
    OKSCase,
    coco_numbers,
    evaluate_with_pycocotools,
    make_oks_case,
    oks_cases,
)

from keypoint_detection.metrics.oks_average_precision import OKSAveragePrecision, oks_average_precision
from keypoint_detection.metrics.oks_sigmas import COCO_SIGMAS

REAL_RESULTS = Path(__file__).parents[3] / "shared/data/coco_results"
SIGMAS = list(COCO_SIGMAS.values())
FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])

pytestmark = pytest.mark.filterwarnings("ignore:.*labelled instances have area 0:UserWarning")
CASE = make_oks_case(3, 9, 5)


def one_instance(offset, area, sigmas, score=0.9):
    """Return a dict of each side: keypoints that are all `offset` px away."""
    points = np.full((1, len(sigmas), 2), 50.0)
    visibility = np.full((1, len(sigmas)), 2)
    found = {"keypoints": points + np.array([offset, 0.0]), "scores": np.array([score])}
    return found, {"keypoints": points, "visibility": visibility, "area": np.array([area])}


def numbers_of(case, batch=2, metric=None):
    metric = metric or OKSAveragePrecision(case.sigmas)
    for start in range(0, len(case.preds), batch):
        metric.update(case.preds[start : start + batch], case.target[start : start + batch])
    return {name: float(value) for name, value in metric.compute().items()}


def assert_equal_to_coco(case):
    expected = coco_numbers(case)
    found = numbers_of(case)
    assert list(found) == NAMES
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=1e-9)
    together = oks_average_precision(case.preds, case.target, case.sigmas)
    assert {name: float(value) for name, value in together.items()} == found


@FEW
@given(oks_cases())
def test_generated_cases_equal_pycocotools(case: OKSCase) -> None:
    assert_equal_to_coco(case)


@pytest.mark.slow
@MANY
@given(oks_cases())
def test_many_generated_cases_equal_pycocotools(case: OKSCase) -> None:
    assert_equal_to_coco(case)


def test_generated_cases_are_worth_it() -> None:
    scores = np.array([coco_numbers(make_oks_case(seed, 6, 3)) for seed in range(20)])
    assert ((scores[:, 0] > 0.05) & (scores[:, 0] < 0.95)).mean() > 0.8
    assert (scores == -1).any()
    assert (scores[:, 3] != scores[:, 4]).any()


@pytest.mark.parametrize("side", ["preds", "target", "both"])
def test_empty_sides_equal_pycocotools(side: str) -> None:
    case = make_oks_case(5, 4, 2)
    preds = [{key: rows[:0] for key, rows in found.items()} for found in case.preds]
    target = [{key: rows[:0] for key, rows in labels.items()} for labels in case.target]
    assert_equal_to_coco(
        OKSCase(
            case.preds if side == "target" else preds, case.target if side == "preds" else target, case.sigmas
        )
    )


def test_real_results_equal_pycocotools() -> None:
    if not REAL_RESULTS.is_dir():
        pytest.skip(f"needs the example results in {REAL_RESULTS}")
    dataset = json.loads((REAL_RESULTS / "example_coco_val.json").read_text())
    results = json.loads((REAL_RESULTS / "example_coco_preds.json").read_text())
    found, labels = defaultdict(list), defaultdict(list)
    for result in results:
        found[result["image_id"]].append(result)
    for annotation in dataset["annotations"]:
        labels[annotation["image_id"]].append(annotation)
    preds, target = [], []
    for image_id in (image["id"] for image in dataset["images"]):
        points = np.array([one["keypoints"] for one in found[image_id]]).reshape(-1, 17, 3)
        truth = np.array([one["keypoints"] for one in labels[image_id]]).reshape(-1, 17, 3)
        scores = np.array([one["score"] for one in found[image_id]])
        preds.append({"keypoints": points[..., :2], "scores": scores})
        columns = {"area": "area", "iscrowd": "iscrowd", "boxes": "bbox"}
        columns = {name: np.array([a[key] for a in labels[image_id]]) for name, key in columns.items()}
        points = {"keypoints": truth[..., :2], "visibility": truth[..., 2], "image_id": image_id}
        target.append({**points, **columns})
    case = OKSCase(preds, target, SIGMAS)
    expected = evaluate_with_pycocotools(copy.deepcopy(dataset), copy.deepcopy(results)).stats
    assert 0.3 < expected[0] < 0.9
    np.testing.assert_allclose(list(numbers_of(case).values()), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("sigma", "oks"), [(0.062, 0.72), (0.025, 0.14), (0.1, 0.88), (0.25, 0.98)])
def test_published_similarity_of_a_tenth_of_the_side(sigma: float, oks: float) -> None:
    # The number of thresholds that an instance reaches tells its OKS within 0.05.
    found, labels = one_instance(10.0, 100.0**2, [sigma] * 3)
    ar = float(oks_average_precision([found], [labels], [sigma] * 3)["ar"])
    reached = sum(limit <= oks for limit in np.linspace(0.5, 0.95, 10))
    assert ar == pytest.approx(reached / 10)


def test_numbers_by_hand() -> None:
    # OKS = exp(-9 / (2 * 2500 * 0.01)) = 0.835: found at 0.5 ... 0.8, 7 of 10 thresholds. The other is
    # missed, and the false detection has the best score, so that the precision is 1/2 up to a recall of 1/2
    # (51 of 101 levels).
    near, label = one_instance(3.0, 2500.0, [0.05])
    _, other = one_instance(0.0, 10_000.0, [0.05])
    false, _ = one_instance(400.0, 2500.0, [0.05], score=0.95)
    nothing = {key: rows[:0] for key, rows in near.items()}
    preds = [near, nothing, {key: np.concatenate([false[key]]) for key in false}]
    target = [label, other, {key: rows[:0] for key, rows in label.items()}]
    found = {
        name: float(value) for name, value in oks_average_precision(preds, target, [0.05]).items() if value
    }
    ap = 51 / 101 / 2
    assert found["ap50"] == pytest.approx(ap, abs=1e-12)
    assert found["ap75"] == pytest.approx(ap, abs=1e-12)
    assert found["ap"] == pytest.approx(0.7 * ap, abs=1e-12)
    assert found["ar"] == pytest.approx(0.35, abs=1e-12)
    # The false detection spans no area, so it is ignored among medium objects.
    assert found["ap_medium"] == pytest.approx(0.7, abs=1e-12)
    assert found["ar_medium"] == pytest.approx(0.7, abs=1e-12)
    assert "ap_large" not in found
    assert "ar_large" not in found


def test_undefined_is_minus_one() -> None:
    found, labels = one_instance(0.0, 2500.0, [0.05])
    numbers = oks_average_precision([found], [labels], [0.05])
    assert {name for name, value in numbers.items() if value == -1} == {"ap_large", "ar_large"}
    assert set(numbers_of(OKSCase([], [], [0.05])).values()) == {-1.0}
    assert all(value.dtype == torch.float64 and value.ndim == 0 for value in numbers.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_of_any_type_are_scored_in_float64(dtype: torch.dtype) -> None:
    case = make_oks_case(7, 6, 4, grid=True)
    scores = [{**found, "scores": np.round(found["scores"] * 5)} for found in case.preds]
    as_tensors = [
        [{key: torch.from_numpy(rows).to(dtype) for key, rows in record.items()} for record in side]
        for side in (scores, case.target)
    ]
    # What does not fit the type is rounded on the way in, never while scoring.
    rounded = [
        [{key: rows.double().numpy() for key, rows in one.items()} for one in side] for side in as_tensors
    ]
    found = numbers_of(OKSCase(*as_tensors, case.sigmas))
    assert found == numbers_of(OKSCase(*rounded, case.sigmas))
    np.testing.assert_allclose(
        list(found.values()), coco_numbers(OKSCase(*rounded, case.sigmas)), rtol=0, atol=1e-9
    )


def test_ids_decide_the_order_of_equal_scores() -> None:
    hit, labels = one_instance(0.0, 2500.0, [0.05])
    miss, _ = one_instance(400.0, 2500.0, [0.05])
    for ids, ap in (((7, 3), 0.5), ((3, 7), 1.0)):
        target = [{**labels, "image_id": ids[0]}, {**labels, "image_id": torch.tensor(ids[1])}]
        case = OKSCase([hit, miss], target, [0.05])
        assert numbers_of(case)["ap50"] == pytest.approx(ap * 51 / 101, abs=1e-12)
        np.testing.assert_allclose(
            list(numbers_of(case).values())[:3],
            coco_numbers(
                case._replace(
                    target=[{**one, "iscrowd": np.zeros(1), "boxes": np.zeros((1, 4))} for one in target]
                )
            )[:3],
            atol=1e-9,
        )
    assert numbers_of(OKSCase([miss, hit], [labels, labels], [0.05]))["ap50"] < 0.3


def test_an_image_given_twice_counts_once() -> None:
    case = CASE.with_ids(range(9))
    expected = numbers_of(case)
    padded = OKSCase([*case.preds, case.preds[2]], [*case.target, case.target[2]], case.sigmas)
    assert numbers_of(padded, batch=3) == expected
    assert numbers_of(padded._replace(target=[*CASE.target, CASE.target[2]])) != expected
    moved = {**case.preds[2], "keypoints": case.preds[2]["keypoints"] + 1}
    with pytest.raises(ValueError, match="got image_id 2 twice with different instances"):
        numbers_of(padded._replace(preds=[*case.preds, moved]))
    with pytest.raises(ValueError, match="got image_id 2 twice with different instances"):
        numbers_of(padded._replace(target=[*case.target, {**case.target[3], "image_id": 2}]))


def test_keypoints_that_were_not_found() -> None:
    # Three of four keypoints are exact and one is missing: OKS 0.75, found at 0.50 ... 0.75.
    found, labels = one_instance(0.0, 2500.0, [0.05] * 4)
    found["keypoints"][0, 1] = np.nan
    assert float(oks_average_precision([found], [labels], [0.05] * 4)["ar"]) == pytest.approx(0.6)
    # A missing one is left out of the extent: 60 x 60 px is medium, so that this one counts as false.
    spread = np.array([[[0.0, 0.0], [60.0, 60.0], [np.nan, 900.0], [30.0, 30.0]]])
    false = {"keypoints": spread + 500, "scores": np.array([0.95])}
    both = {key: np.concatenate([found[key], false[key]]) for key in found}
    assert float(oks_average_precision([both], [labels], [0.05] * 4)["ap_medium"]) == pytest.approx(0.3)
    false["keypoints"][0, 2] = 900.0
    both = {key: np.concatenate([found[key], false[key]]) for key in found}
    assert float(oks_average_precision([both], [labels], [0.05] * 4)["ap_medium"]) == pytest.approx(0.6)


def test_unlabelled_instances_need_a_box_to_be_ignored() -> None:
    found, labels = one_instance(0.0, 2500.0, [0.05])
    stranger, hidden = one_instance(60.0, 2500.0, [0.05], score=0.95)
    hidden["keypoints"], hidden["visibility"] = np.full((1, 1, 2), np.nan), np.zeros((1, 1))
    boxes = np.array([[20.0, 20.0, 60.0, 60.0], [100.0, 40.0, 5.0, 5.0]])
    both = {key: np.concatenate([found[key], stranger[key]]) for key in found}
    target = {key: np.concatenate([labels[key], hidden[key]]) for key in labels}
    # Doubled, the box of the unlabelled instance reaches from 95 to 110; the stranger is at 110.
    assert float(oks_average_precision([both], [{**target, "boxes": boxes}], [0.05])["ap50"]) == (
        pytest.approx(1.0)
    )
    assert float(oks_average_precision([both], [target], [0.05])["ap50"]) == pytest.approx(0.5)


def test_zero_areas_are_not_passed_over_in_silence() -> None:
    exact, labels = one_instance(0.0, 0.0, [0.05])
    near, _ = one_instance(0.1, 0.0, [0.05])
    with pytest.warns(UserWarning, match="1 of 1 labelled instances have area 0") as caught:
        assert float(oks_average_precision([exact], [labels], [0.05])["ap"]) == pytest.approx(1.0)
    assert len(caught) == 1
    metric = OKSAveragePrecision([0.05])
    metric.update([near, exact], [labels, {**labels, "area": np.array([4.0])}])
    with pytest.warns(UserWarning, match="1 of 2 labelled instances have area 0") as caught:
        assert float(metric.compute()["ar"]) == 0.5
    assert len(caught) == 1
    hidden = {**labels, "visibility": np.zeros((1, 1))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oks_average_precision([exact], [hidden], [0.05])
        oks_average_precision([exact], [{**labels, "iscrowd": np.ones(1)}], [0.05])


@pytest.mark.parametrize("sigmas", [[], [0.05, 0.0], [-0.1], [float("nan")], [float("inf")], [1e-200]])
def test_wrong_sigmas(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="expected a sigma for each keypoint, finite and > 0, got"):
        OKSAveragePrecision(sigmas)


@pytest.mark.parametrize("ids", [[None, None], [17, 4]])
@pytest.mark.parametrize(
    ("side", "key", "value", "message"),
    [
        ("preds", "scores", np.nan, "expected a score for every detection, got NaN in"),
        ("target", "area", np.nan, "got nan in"),
        ("target", "area", -1.0, "got -1.0 in"),
        ("target", "area", np.inf, "got inf in"),
    ],
)
def test_values_are_checked_when_computing(ids, side, key, value, message: str) -> None:
    records = dict(zip(("preds", "target"), one_instance(0.0, 2500.0, [0.05]), strict=True))
    wrong = {**records, side: {**records[side], key: np.array([value])}}
    target = [records["target"], wrong["target"]]
    if ids[0] is not None:
        target = [{**labels, "image_id": i} for labels, i in zip(target, ids, strict=True)]
    metric = OKSAveragePrecision([0.05])
    metric.update([records["preds"], wrong["preds"]], target)
    name = "image number 1" if ids[0] is None else "image_id 4"
    with pytest.raises(ValueError, match=f"{message} {name}"):
        metric.compute()


def test_ids_of_some_images() -> None:
    case = make_oks_case(1, 3, 2).with_ids(range(3))
    del case.target[1]["image_id"]
    with pytest.raises(ValueError, match=r"got none for image number 1 \(from 0\)"):
        numbers_of(case)
