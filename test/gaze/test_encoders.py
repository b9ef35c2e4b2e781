"""Encoders: parameters, sizes, places, cost."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from keypoint_detection.gaze.encoders import GridEncoder, encoder, fit_to_grid

SMALL = {
    "resnet50_fifth_stage": {"trunk": "resnet10t"},
    "light": {"stride": 8},
    "ResNetUnet": {"encoder": "resnet10t", "output_stride": 4, "decoder_width": 8},
    "S3K": {"output_stride": 4},
}


def small(name: str, in_channels: int = 4, grid_hw: tuple[int, int] = (4, 4), width: int = 16) -> GridEncoder:
    torch.manual_seed(0)
    return encoder(name, in_channels, grid_hw=grid_hw, width=width, options=SMALL[name])


@pytest.mark.parametrize(("in_channels", "expected"), [(3, 28_103_744), (4, 28_106_880)])
def test_the_published_encoder_has_28_million_parameters(in_channels: int, expected: int) -> None:
    # ResNet-50 without its classifier: 23,508,032. Bottlenecks 2048 -> 256 -> 256 -> 1024 with a projection
    # (524,288 + 589,824 + 262,144 + 2,097,152 and 2 * 2,560 of the norms) and 1024 -> 256 -> 256 -> 1024
    # (262,144 + 589,824 + 262,144 and 2 * 1,536). A fourth input channel adds 7 * 7 * 64.
    first, second = 3_473_408 + 5_120, 1_114_112 + 3_072
    assert 23_508_032 + first + second + (in_channels - 3) * 3_136 == expected
    built = encoder("resnet50_fifth_stage", in_channels)
    assert sum(parameter.numel() for parameter in built.parameters()) == expected
    assert built.out_channels == 1024


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("image_hw", [(128, 128), (193, 257), (65, 97), (31, 20), (1, 1)])
def test_any_size_gives_the_same_grid(name: str, image_hw: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (1, 4, *image_hw), dtype=torch.uint8)
    features = small(name)(image)  # a batch of one, in training mode
    assert features.shape == (1, 16, 4, 4)
    assert features.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name: str) -> None:
    built = small(name, grid_hw=(3, 5))
    built(torch.randint(0, 256, (2, 4, 96, 160), dtype=torch.uint8)).square().sum().backward()
    for parameter_name, parameter in built.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(
    ("image_hw", "expected"),
    [((224, 224), (224, 224)), ((193, 257), (224, 224)), ((65, 97), (224, 224)), ((337, 335), (448, 224))],
)
def test_images_are_resized_to_the_nearest_size_that_fits(
    image_hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = torch.rand(1, 2, *image_hw)
    fitted = fit_to_grid(image, (7, 7), 32)
    assert tuple(fitted.shape[-2:]) == expected
    assert (fitted is image) == (image_hw == expected)


@pytest.mark.parametrize("image_hw", [(128, 128), (193, 257), (65, 97)])
def test_a_token_sees_the_same_part_of_an_image_of_any_size(image_hw: tuple[int, int]) -> None:
    """The light trunk sees only its surroundings, so a bright part changes its own cell the most."""
    built = small("light").eval()
    height, width = image_hw
    for row, column in ((0, 0), (1, 2), (3, 3)):
        dark = torch.zeros(1, 4, height, width, dtype=torch.uint8)
        bright = dark.clone()
        top, bottom = round(row * height / 4), round((row + 1) * height / 4)
        left, right = round(column * width / 4), round((column + 1) * width / 4)
        bright[:, :, top:bottom, left:right] = 255
        with torch.no_grad():
            change = (built(bright) - built(dark)).abs().sum(1).flatten()
        assert change.argmax() == row * 4 + column


def test_images_are_normalised_once_and_masks_keep_their_zero() -> None:
    seen = []
    built = small("light", in_channels=5).eval()
    built.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.zeros(1, 5, 32, 32, dtype=torch.uint8)
    image[:, 3] = 255
    built(image)
    expected = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225, 1.0, 0.0])
    torch.testing.assert_close(seen[0][0, :, 3, 4], expected)


@pytest.mark.parametrize(("stride", "grid_hw"), [(8, (16, 16)), (16, (8, 8))])
def test_the_light_encoder_is_light(stride: int, grid_hw: tuple[int, int]) -> None:
    built = encoder("light", 4, grid_hw=grid_hw, width=64, options={"stride": stride})
    assert sum(parameter.numel() for parameter in built.parameters()) <= 500_000
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built.train()(torch.zeros(1, 4, 128, 128, dtype=torch.uint8))
    assert 5e6 < counter.get_total_flops() < 40e6  # a multiplication and an addition are two


@pytest.mark.parametrize("name", SMALL)
def test_pixels_in_any_memory_order_give_the_same(name: str) -> None:
    built = small(name).eval()
    image = torch.randint(0, 256, (2, 4, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        plain = built(image)
        built.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        turned = built(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(turned, plain, rtol=1e-4, atol=1e-4)


def test_a_backbone_sees_the_same_as_alone() -> None:
    built = small("S3K", in_channels=3, grid_hw=(8, 8)).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    trunk = built.trunk
    with torch.no_grad():
        normalised = (image - built.image_mean) / built.image_std
        alone = F.leaky_relu(trunk.backbone(normalised), 0.1)  # pyright: ignore
        expected = built.project(F.avg_pool2d(alone, 2))
        torch.testing.assert_close(built(image), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lihgt", {}, "Did you mean 'light'"),
        ("light", {"strid": 8}, "Did you mean 'stride'"),
        ("light", {"stride": 5}, "4, 8 or 16"),
        ("light", {"stride": 8, "widths": (4,)}, "2 widths"),
        ("resnet50_fifth_stage", {"trunk": "resnet51"}, "resnet51"),
        ("resnet50_fifth_stage", {"out_channels": 1022}, "multiples of 4"),
        ("S3K", {"depth": 2}, "no option 'depth'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(name, 3, options=options)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[n, 4, h, w\]"):
        small("light")(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
