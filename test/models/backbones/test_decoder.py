import pytest
import torch
from torch import nn

from keypoint_detection.models.backbones.decoder import BatchNorm, ConvBlock, SkipDecoder, UpBlock


def with_statistics(block: ConvBlock) -> ConvBlock:
    """Give the normalisation random statistics and scales, negative ones too."""
    torch.manual_seed(0)
    norm = block.norm
    nn.init.uniform_(norm.running_mean, -1, 1)  # pyright: ignore[reportArgumentType]
    nn.init.uniform_(norm.running_var, 0.5, 2)  # pyright: ignore[reportArgumentType]
    nn.init.uniform_(norm.weight, -1, 1)
    nn.init.uniform_(norm.bias, -1, 1)
    return block.eval()


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_eval_equals_the_layers_one_by_one(pool: bool, relu: bool, kernel_size: int) -> None:
    block = with_statistics(ConvBlock(3, 5, kernel_size, pool=pool, relu=relu))
    image = torch.randn(2, 3, 8, 10)
    expected = block.conv(image)
    if pool:
        expected = expected.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    expected = block.norm(expected)
    if relu:
        expected = expected.clamp(min=0)
    torch.testing.assert_close(block(image), expected, rtol=1e-5, atol=1e-5)


def test_training_normalizes_by_the_batch_and_learns_statistics() -> None:
    block = ConvBlock(3, 5, relu=False)
    values = block(torch.randn(2, 3, 8, 8))
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.var((0, 2, 3), unbiased=False), torch.ones(5), rtol=0, atol=1e-3)
    assert block.norm.running_mean is not None
    assert block.norm.running_mean.abs().max() > 0


def test_the_input_is_left_alone() -> None:
    block, features, skip = UpBlock(3, 2, 4), torch.randn(1, 3, 4, 4), torch.randn(1, 2, 8, 8)
    before = features.clone(), skip.clone()
    block(features, skip)
    assert torch.equal(features, before[0])
    assert torch.equal(skip, before[1])


def test_a_single_value_per_channel() -> None:
    norm = BatchNorm(3).train()
    nn.init.constant_(norm.running_mean, 1.0)  # pyright: ignore[reportArgumentType]
    value = norm(torch.full((1, 3, 1, 1), 3.0))
    torch.testing.assert_close(value, torch.full((1, 3, 1, 1), 2.0), rtol=1e-4, atol=1e-4)
    assert (norm.running_mean == 1.0).all()


def test_upsampling_copies_each_pixel_to_2x2() -> None:
    block = UpBlock(1, 1, 1, kernel_size=1).eval()
    block.conv.weight.data = torch.tensor([1.0, 10.0]).reshape(1, 2, 1, 1)
    block.norm.eps = 0.0
    features, skip = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 2, 3, 4], [5, 6, 7, 8]]]])
    assert block(features, skip)[0, 0].tolist() == [[11, 21, 32, 42], [51, 61, 72, 82]]


@pytest.mark.parametrize("axis", [-1, -2])
def test_upsampling_is_symmetric(axis: int) -> None:
    block, mirrored = with_statistics(UpBlock(3, 2, 4)), with_statistics(UpBlock(3, 2, 4))
    mirrored.load_state_dict(block.state_dict())
    mirrored.conv.weight.data = block.conv.weight.data.flip(axis)
    features, skip = torch.randn(1, 3, 4, 6), torch.randn(1, 2, 8, 12)
    torch.testing.assert_close(
        mirrored(features.flip(axis), skip.flip(axis)).flip(axis), block(features, skip), rtol=1e-5, atol=1e-5
    )


def test_a_decoder_of_one_map_and_no_block_hands_it_on() -> None:
    decoder, features = SkipDecoder([6], [4], 3, 4), torch.randn(1, 6, 8, 8)
    assert decoder([features], torch.randn(1, 3, 32, 32)) is features
    assert decoder.out_channels == 6
    assert not list(decoder.parameters())


@pytest.mark.parametrize("output_stride", [1, 2, 4])
def test_one_map_is_mixed_and_then_refined_by_the_image(output_stride: int) -> None:
    torch.manual_seed(0)
    decoder = SkipDecoder([6], [4], 3, output_stride, bottom_width=10, fine_width=5)
    features = decoder([torch.randn(2, 6, 8, 8)], torch.randn(2, 3, 32, 32))
    assert features.shape == (2, 10 if output_stride == 4 else 5, 32 // output_stride, 32 // output_stride)
    assert decoder.out_channels == features.shape[1]
    assert features.min() < 0 < features.max(), "the last block has no ReLU"
    blocks = [decoder.bottom, *decoder.up_blocks, *decoder.fine_blocks]
    assert [block.relu for block in blocks] == [True] * (len(blocks) - 1) + [False]
    assert len(blocks) == {1: 3, 2: 2, 4: 1}[output_stride]


def test_the_fine_width_is_half_the_finest_map_unless_it_is_given() -> None:
    assert SkipDecoder([40, 80], [4, 8], 3, 1).out_channels == 20
    assert SkipDecoder([24, 80], [4, 8], 3, 1).out_channels == 16
    assert SkipDecoder([40, 80], [4, 8], 3, 1, fine_width=7).out_channels == 7
    assert SkipDecoder([40, 80], [4, 8], 3, 4, fine_width=7).out_channels == 40


@pytest.mark.parametrize("output_stride", [1, 4, 8])
def test_a_light_decoder_narrows_every_map_that_it_uses(output_stride: int) -> None:
    torch.manual_seed(0)
    decoder = SkipDecoder([40, 80], [4, 8], 3, output_stride, bottom_width=60, width=6)
    features = decoder([torch.randn(2, 40, 8, 8), torch.randn(2, 80, 4, 4)], torch.randn(2, 3, 32, 32))
    assert features.shape == (2, 6, 32 // output_stride, 32 // output_stride)
    assert decoder.out_channels == 6
    assert features.min() < 0 < features.max(), "the last block has no ReLU"
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())
    # 1x1 convolutions, then 3x3 ones of the map before and the skip connection; two values to normalise
    upward = 9 * 12 * 6 + 12
    wanted = {
        8: 80 * 6 + 12,
        4: (40 + 80) * 6 + 24 + upward,
        1: (40 + 80) * 6 + 24 + upward + 9 * (6 + 12) * 6 + 12 + 9 * (6 + 3) * 6 + 12,
    }
    assert sum(parameter.numel() for parameter in decoder.parameters()) == wanted[output_stride]


def test_strides_that_do_not_double_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a SkipDecoder needs strides that double, got \[4, 16\]"):
        SkipDecoder([4, 8], [4, 16], 3, 1)
