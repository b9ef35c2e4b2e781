import pytest
import torch

from keypoint_detection.models.backbones.unet import Unet

HEAD = 32 * 9 + 1  # a 3x3 convolution to one heatmap


def parameters(backbone: Unet) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize(("blocks", "layers", "millions"), [(3, 2, 0.112), (4, 2, 0.130)])
def test_published_sizes(blocks: int, layers: int, millions: float) -> None:
    backbone = Unet(n_resnet_blocks=blocks, n_downsampling_layers=layers)
    assert (parameters(backbone) + HEAD) / 1e6 == pytest.approx(millions, rel=0.02)


def test_parameters_by_hand() -> None:
    convolution, norm = 32 * 32 * 9, 2 * 32
    stem, down, residual, up = (
        27 * 32 + norm,
        convolution + norm,
        2 * (convolution + norm),
        2 * convolution + norm,
    )
    assert parameters(Unet()) == stem + 2 * down + 3 * residual + 2 * up
    assert parameters(Unet(output_stride=2)) == stem + 2 * down + 3 * residual + up
    assert parameters(Unet(output_stride=4)) == stem + 2 * down + 3 * residual


@pytest.mark.parametrize("layers", [0, 1, 5, 6])
@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_depth_on_small_images(layers: int, blocks: int, batch: int) -> None:
    for stride in {1, 2**layers}:
        backbone = Unet(
            n_channels=8, n_resnet_blocks=blocks, n_downsampling_layers=layers, output_stride=stride
        )
        features = backbone(torch.randn(batch, 3, 64, 64))
        assert features.shape == (batch, 8, 64 // stride, 64 // stride)
        features.square().sum().backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_only_the_levels_without_skip_connection_pool_early() -> None:
    assert [block.pool for block in Unet().down_blocks] == [False, False, False]
    assert [block.pool for block in Unet(output_stride=2).down_blocks] == [True, False, False]
    assert [block.pool for block in Unet(output_stride=4).down_blocks] == [True, True, False]


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("axis", [-1, -2])
def test_sampling_is_symmetric_about_pixel_centres(stride: int, axis: int) -> None:
    torch.manual_seed(0)
    backbone, mirrored = (Unet(n_channels=8, output_stride=stride).eval() for _ in range(2))
    mirrored.load_state_dict(backbone.state_dict())
    for module in mirrored.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.data.flip(axis)
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(mirrored(image.flip(axis)).flip(axis), backbone(image), rtol=1e-4, atol=1e-4)


def test_a_point_sees_more_with_each_downsampling_layer() -> None:
    widths = []
    for layers in (1, 2, 3):
        torch.manual_seed(0)
        backbone = Unet(n_channels=8, n_resnet_blocks=1, n_downsampling_layers=layers).eval()
        image = torch.randn(1, 3, 128, 128, requires_grad=True)
        backbone(image)[0, :, 64, 64].sum().backward()
        assert image.grad is not None
        columns = image.grad.abs().amax((0, 1, 2)).nonzero().flatten()
        widths.append(int(columns.max() - columns.min()) + 1)
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_channels": 0}, "n_channels >= 1, got 0"),
        ({"n_channels_in": 0}, "n_channels_in >= 1, got 0"),
        ({"n_resnet_blocks": -1}, "n_resnet_blocks >= 0, got -1"),
        ({"n_downsampling_layers": -1}, "n_downsampling_layers >= 0, got -1"),
        ({"kernel_size": 4}, "odd kernel_size, got 4; use --kernel_size 5"),
        ({"n_downsampling_layers": 1, "output_stride": 4}, "output_stride of 1, 2, got 4"),
    ],
)
def test_bad_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"Unet needs .*{message}"):
        Unet(**options)
