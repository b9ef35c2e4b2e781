import pytest
import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.base_backbone import (
    Backbone,
    check_at_least,
    check_output_stride,
    default_normalization,
)


class BlockMean(Backbone):
    """Average blocks of 4x4 pixels, and remember the size it was given."""

    def __init__(self) -> None:
        super().__init__(2, 2, stride=4, size_multiple=8, image_mean=(0.1, 0.2), image_std=(0.3, 0.4))

    def forward_features(self, image: Tensor) -> Tensor:
        self.given_hw = tuple(image.shape[-2:])
        return nn.functional.avg_pool2d(image, 4)


def test_pads_by_the_last_row_and_column_and_crops() -> None:
    image = torch.arange(2 * 9 * 6, dtype=torch.float32).reshape(1, 2, 9, 6)
    backbone = BlockMean()
    features = backbone(image)
    assert backbone.given_hw == (16, 8)
    assert features.shape == (1, 2, 3, 2)
    assert features[0, 0, 0, 0] == image[0, 0, :4, :4].mean()
    assert features[0, 1, 2, 1] == (image[0, 1, 8, 4] + 3 * image[0, 1, 8, 5]) / 4


def test_an_image_smaller_than_the_multiple() -> None:
    features = BlockMean()(torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1))
    assert features.flatten().tolist() == [1.0, 2.0]


def test_normalization() -> None:
    assert BlockMean().image_mean == (0.1, 0.2)
    assert default_normalization(3)[0] == (0.485, 0.456, 0.406)
    assert default_normalization(1) == ((0.5,), (0.25,))
    assert default_normalization(4) == ((0.5,) * 4, (0.25,) * 4)


def test_forward_features_must_be_written() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Backbone(3, 8, 1, 1)  # pyright: ignore[reportAbstractUsage]


def test_checks_of_options() -> None:
    check_at_least("B", 1, width=1)
    with pytest.raises(ValueError, match=r"B needs width >= 1, got 0; use --width 1 or more"):
        check_at_least("B", 1, width=0)
    for stride in (1, 2, 4, 8):
        check_output_stride("B", stride, largest=8)
    with pytest.raises(ValueError, match="B needs an output_stride of 1, 2, 4, 8, got 6"):
        check_output_stride("B", 6, largest=8)
