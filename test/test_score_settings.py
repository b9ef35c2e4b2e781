import numpy as np
import pytest

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.score_settings import instance_labels, sigmas_of


def coco(n_instances: int = 1, **fields: object) -> CocoKeypoints:
    """Return two images with some instances of two keypoints each in the first."""
    annotations = [
        CocoAnnotation(
            id=i,
            image_id=1,
            category_id=4,
            keypoints=[1 + i, 2, 2, 30, 40 + 2 * i, 1],
            bbox=[0, 0, 40, 50],
            **fields,
        )
        for i in range(n_instances)
    ]
    images = [CocoImage(id=i, file_name=f"{i}.png", width=64, height=64) for i in (1, 2)]
    return CocoKeypoints(
        images=images,
        categories=[CocoCategory(id=4, name="cat", keypoints=["nose", "tail"])],
        annotations=annotations,
    )


def test_the_keypoints_of_the_category_find_their_channels() -> None:
    file = coco(2, area=900.0)
    sigmas = sigmas_of(file, {"nose": 0.1, "tail": 0.2})
    labels = instance_labels(file, [["tail"], ["nose"]], sigmas, input_mode="instance")
    assert not isinstance(labels, str)
    assert (labels.category_id, labels.channel_of_keypoint, labels.sigmas.tolist()) == (4, [1, 0], [0.1, 0.2])
    assert labels.targets[1]["keypoints"].shape == (2, 2, 2)
    assert labels.targets[2]["keypoints"].shape == (0, 2, 2)
    np.testing.assert_array_equal(labels.targets[1]["area"], [900.0, 900.0])


@pytest.mark.parametrize(
    ("channels", "n_instances", "reason"),
    [
        ([["nose", "tail"]], 1, "no channel is for 'nose' alone"),
        ([["nose"]], 1, "no channel is for 'tail' alone"),
        ([["nose"], ["tail"]], 2, "an image holds several instances"),
    ],
)
def test_where_it_is_not_defined_the_reason_is_named(channels, n_instances: int, reason: str) -> None:
    file = coco(n_instances, area=900.0)
    found = instance_labels(file, channels, sigmas_of(file, None), input_mode="image")
    assert isinstance(found, str)
    assert found.startswith(reason)


def test_an_area_of_zero_is_an_error_for_crops_and_a_reason_for_whole_images() -> None:
    file = coco(1, area=0.0)
    channels, sigmas = [["nose"], ["tail"]], sigmas_of(file, None)
    assert "area" in str(instance_labels(file, channels, sigmas, input_mode="image"))
    with pytest.raises(ValueError, match="area"):
        instance_labels(file, channels, sigmas, input_mode="instance")


def test_constants_are_estimated_from_repeated_labels_only_when_asked_for() -> None:
    file = coco(2, area=900.0, object_id=7)
    assert sigmas_of(file, None).source.startswith("default")
    estimated = sigmas_of(file, "estimate")
    # The noses are 1 px apart, the tails 2 px: E[d^2] of one label is 0.5 and 2, divided by the area.
    assert "estimated" in estimated.source
    assert estimated.by_name() == pytest.approx({"nose": (0.5 / 900) ** 0.5, "tail": (2 / 900) ** 0.5})
