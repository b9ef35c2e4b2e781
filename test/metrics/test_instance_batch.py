import numpy as np
import pytest
import torch

from keypoint_detection.metrics.instance_batch import InstanceBatch, rows_of_images

CPU = torch.device("cpu")


def records(k=2):
    """Return two images: one detection and two labels, then two detections and none."""
    preds = [
        {"keypoints": torch.zeros(1, k, 2), "scores": torch.tensor([0.5])},
        {"keypoints": torch.ones(2, k, 2), "scores": torch.tensor([0.25, 0.75])},
    ]
    target = [
        {"keypoints": torch.ones(2, k, 2), "visibility": torch.tensor([[2, 0]] * 2), "area": torch.ones(2)},
        {"keypoints": torch.ones(0, k, 2), "visibility": torch.zeros(0, k), "area": torch.ones(0)},
    ]
    return preds, target


def test_images_lie_one_after_the_other() -> None:
    preds, target = records()
    target[0]["keypoints"][1, 0, 1] = torch.inf
    batch = InstanceBatch.of_records(preds, target, 2, CPU)
    assert batch.scores.tolist() == [0.5, 0.25, 0.75]
    assert batch.num_detections.tolist() == [1, 2]
    assert batch.num_targets.tolist() == [2, 0]
    assert batch.labelled.tolist() == [[True, False], [False, False]]
    assert batch.boxes.shape == (2, 4)
    assert batch.boxes.isnan().all()
    assert batch.crowd.tolist() == [False, False]
    assert batch.has_id.tolist() == [False, False]
    assert {part.dtype for part in batch} == {torch.float64, torch.int64, torch.bool}


def test_boxes_and_crowds_of_some_images() -> None:
    preds, target = records()
    target = [
        {**target[1]},
        {**target[0], "boxes": np.ones((2, 4)), "iscrowd": torch.tensor([0, 1])},
        target[0],
    ]
    batch = InstanceBatch.of_records([*preds, preds[0]], target, 2, CPU)
    assert batch.boxes[:2].tolist() == [[1.0] * 4] * 2
    assert batch.boxes[2:].isnan().all()
    assert batch.crowd.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    "ids",
    [[3, 10**15], [np.int64(3), np.array(10**15)], [torch.tensor(3), 10**15], [3, torch.tensor([10**15])]],
)
def test_ids_of_any_integer_kind(ids) -> None:
    preds, target = records()
    target = [{**labels, "image_id": i} for labels, i in zip(target, ids, strict=True)]
    batch = InstanceBatch.of_records(preds, target, 2, CPU)
    assert batch.image_id.tolist() == [3, 10**15]
    assert batch.has_id.all()
    assert batch.name_of(0) == "image_id 3"


def test_mixed_types_are_exact() -> None:
    preds, target = records()
    preds[0]["scores"] = torch.tensor([0.1], dtype=torch.float64)
    preds[1]["scores"] = np.array([2**24 + 1, 3])
    scores = InstanceBatch.of_records(preds, target, 2, CPU).scores
    assert scores.tolist() == [0.1, 2.0**24 + 1, 3.0]


def test_gradients_are_not_kept() -> None:
    preds, target = records()
    preds[0]["keypoints"].requires_grad_()
    assert not InstanceBatch.of_records(preds, target, 2, CPU).keypoints.requires_grad


def test_take_reorders_images_with_their_rows() -> None:
    preds, target = records()
    batch = InstanceBatch.of_records(preds, target, 2, CPU)
    other = InstanceBatch.of_records(preds[::-1], target[::-1], 2, CPU)
    for part, expected in zip(batch.take(torch.tensor([1, 0])), other, strict=True):
        assert torch.equal(part.nan_to_num(-1), expected.nan_to_num(-1))
    assert rows_of_images(torch.tensor([1, 0, 3]), torch.tensor([2, 0, 1])).tolist() == [1, 2, 3, 0]


def test_empty_batches_have_the_types_and_axes_of_others() -> None:
    preds, target = records()
    for part, empty in zip(
        InstanceBatch.of_records(preds, target, 2, CPU), InstanceBatch.empty(2, CPU), strict=True
    ):
        assert part.dtype == empty.dtype
        assert empty.shape == (0, *part.shape[1:])


@pytest.mark.parametrize(
    ("side", "key", "value", "message"),
    [
        (0, "scores", None, r"preds\[1\] needs the keys keypoints, scores, got no 'scores'"),
        (1, "area", None, r"target\[1\] needs the keys .*, got no 'area'; without areas OKS has no scale"),
        (0, "scores", [0.1, 0.2], r"preds\[1\]\['scores'\] needs a tensor or a NumPy array, got list"),
        (0, "scores", torch.ones(3), r"preds\[1\]\['scores'\] needs shape \[2\], got \[3\]"),
        (0, "keypoints", torch.ones(2, 3, 2), r"needs shape \[2, 2, 2\], got \[2, 3, 2\]"),
        (0, "keypoints", torch.tensor(1.0), r"needs shape \[instances, 2, 2\], got \[\]"),
        (1, "visibility", torch.ones(0, 3), r"needs shape \[0, 2\], got \[0, 3\]"),
        (1, "boxes", torch.ones(1, 4), r"target\[1\]\['boxes'\] needs shape \[0, 4\], got \[1, 4\]"),
        (1, "iscrowd", torch.ones(0, 1), r"needs shape \[0\], got \[0, 1\]"),
        (1, "image_id", "7", r"target\[1\]\['image_id'\] needs one integer, got '7'"),
        (1, "image_id", torch.tensor(7.0), r"needs one integer, got tensor\(7.\)"),
    ],
)
def test_wrong_records_are_named(side: int, key: str, value, message: str) -> None:
    sides = records()
    sides[side][1][key] = value
    if value is None:
        del sides[side][1][key]
    with pytest.raises(ValueError, match=message) as error:
        InstanceBatch.of_records(*sides, 2, CPU)
    assert "\n" not in str(error.value)


def test_lists_of_different_lengths() -> None:
    preds, target = records()
    with pytest.raises(ValueError, match="a dict for each image, got 2 and 1 dicts"):
        InstanceBatch.of_records(preds, target[:1], 2, CPU)
