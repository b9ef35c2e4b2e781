import pytest
import torch

from keypoint_detection.metrics.image_order import check_values, ordered_images
from keypoint_detection.metrics.instance_batch import InstanceBatch


def images(ids, scores, areas=None):
    """Return images with one detection and one label each."""
    areas = areas or [100.0] * len(scores)
    points, seen = torch.zeros(1, 1, 2), torch.ones(1, 1)
    preds = [{"keypoints": points, "scores": torch.tensor([score])} for score in scores]
    target = [{"keypoints": points, "visibility": seen, "area": torch.tensor([area])} for area in areas]
    if ids:
        target = [{**labels, "image_id": i} for labels, i in zip(target, ids, strict=True)]
    return InstanceBatch.of_records(preds, target, 1, torch.device("cpu"))


def test_by_position_without_ids() -> None:
    # Two processes saw images 0, 2, 4 and 1, 3.
    batch = images(None, [0.0, 2.0, 4.0, 1.0, 3.0])
    ordered = ordered_images(batch, torch.tensor([0, 1, 2, 0, 1]))
    assert ordered.scores.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_by_id_and_each_once() -> None:
    batch = images([5, -2, 9, 5], [0.5, 0.2, 0.9, 0.5])
    ordered = ordered_images(batch, torch.arange(4))
    assert ordered.image_id.tolist() == [-2, 5, 9]
    assert ordered.scores.tolist() == pytest.approx([0.2, 0.5, 0.9])
    assert ordered.num_targets.tolist() == [1, 1, 1]


def test_the_same_id_with_other_content() -> None:
    with pytest.raises(ValueError, match="got image_id 5 twice"):
        ordered_images(images([5, 3, 5], [0.5, 0.2, 0.25]), torch.arange(3))
    with pytest.raises(ValueError, match="got image_id 5 twice"):
        ordered_images(images([3, 5, 5], [0.5] * 3, [9.0, 9.0, 8.0]), torch.arange(3))
    same = images([5, 5], [torch.nan] * 2)
    assert len(ordered_images(same, torch.arange(2)).scores) == 1


def test_no_images() -> None:
    batch = InstanceBatch.empty(1, torch.device("cpu"))
    assert len(ordered_images(batch, torch.arange(0)).has_id) == 0
    check_values(batch)


def test_wrong_values_name_the_first_image() -> None:
    with pytest.raises(ValueError, match="got NaN in image_id 8"):
        check_values(images([4, 8, 9], [0.1, torch.nan, torch.nan]))
    with pytest.raises(ValueError, match=r"got -4.0 in image number 2; give each instance the area"):
        check_values(images(None, [0.1] * 3, [0.0, 1e9, -4.0]))
