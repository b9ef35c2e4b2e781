import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.geometry import PAD_VALUE
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import forward_with_flip, mean_of_logits, mirrored_channels
from keypoint_detection.models.heads import create_head

SIDED = [["left_ear"], ["right_ear"], ["nose"]]


@pytest.mark.parametrize(
    ("channels", "pairs", "order"),
    [
        (SIDED, None, [1, 0, 2]),
        (SIDED, [], [0, 1, 2]),
        ([["nose"], ["a"], ["tail"], ["b"]], [("a", "b")], [0, 3, 2, 1]),
        ([["left_ear", "right_ear"], ["nose"]], None, [0, 1]),
        ([["left_ear", "left_eye"], ["right_eye", "right_ear"]], None, [1, 0]),
        ([["left_ear"], ["right_ear"], ["right_ear", "left_ear"]], None, [1, 0, 2]),
        ([["nose"]], [("left_ear", "right_ear")], [0]),
        ([["left_ear", "nose"], ["nose", "right_ear"]], None, [1, 0]),
    ],
)
def test_channels_change_places(channels, pairs, order: list[int]) -> None:
    assert mirrored_channels(channels, pairs) == order


@pytest.mark.parametrize(
    ("channels", "pairs", "named"),
    [
        ([["nose"], ["left_ear"]], None, "'left_ear'"),
        ([["nose"], ["a"]], [("a", "b")], "'a'"),
        ([["left_ear", "nose"], ["right_ear"]], None, "'left_ear=nose'"),
        ([["nose", "left_eye"], ["right_ear"]], None, "'nose=left_eye'"),
    ],
)
def test_a_channel_without_a_partner(channels, pairs, named: str) -> None:
    with pytest.raises(ValueError, match=f"channel {named}, got none.*--symmetric_keypoints") as error:
        mirrored_channels(channels, pairs)
    assert "\n" not in str(error.value)


def test_a_wrong_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="mirror pairs of two"):
        mirrored_channels([["a"], ["b"]], ["ab", "abc"])


class Blur(Backbone):
    """Averages over blocks of the stride, then a symmetric blur: a mirror commutes with all of it."""

    def __init__(self, stride: int, size_multiple: int) -> None:
        super().__init__(3, 3, stride, size_multiple)
        axis = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(axis, axis).expand(3, 1, 3, 3).clone())

    def forward_features(self, image: Tensor) -> Tensor:
        assert image.shape[-1] % self.size_multiple == image.shape[-2] % self.size_multiple == 0
        pooled = F.pad(F.avg_pool2d(image, self.stride), (1, 1, 1, 1), mode="replicate")
        return F.conv2d(pooled, self.get_buffer("kernel"), groups=3)


def toy_detector(
    stride: int, size_multiple: int = 8, *, sided: bool = False, seed: int = 0
) -> KeypointDetector:
    """Return a detector whose heatmaps a mirror only mirrors, or whose first two also change places."""
    torch.manual_seed(seed)
    detector = KeypointDetector(SIDED, "Unet", {"n_channels": 4, "n_resnet_blocks": 0})
    detector.backbone = Blur(stride, size_multiple)
    detector.head = create_head("heatmap", detector.backbone, 3)
    weight = torch.randn(3, 3, 3, 3)
    weight = (weight + weight.flip(-1)) / 2
    if sided:
        weight[0] = torch.randn(3, 3, 3)
        weight[1] = weight[0].flip(-1)
    detector.head.load_state_dict({"weight": weight, "bias": torch.tensor([-1.0, -1.0, -2.0])})
    return detector.eval()


def noise(image_hw: tuple[int, int], n: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, *image_hw), dtype=torch.uint8, generator=generator)


def dots(image_hw: tuple[int, int]) -> Tensor:
    """Return an image of soft dots on the grey of the padding, one colour each, between the pixels."""
    y, x = torch.meshgrid(torch.arange(image_hw[0]), torch.arange(image_hw[1]), indexing="ij")
    centres = [(13.3, 11.8), (30.6, 20.1), (38.2, 12.4)]
    spots = [torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 3.0**2)) for a, b in centres]
    return (PAD_VALUE + 140 * torch.stack(spots)).round().to(torch.uint8)[None]


def decode(detector: KeypointDetector, output: Tensor, image: Tensor) -> Tensor:
    points, _ = detector.head.decode(
        output,
        input_hw=(image.shape[-2], image.shape[-1]),
        max_keypoints=1,
        min_distance_px=1,
        threshold=0.0,
    )
    return points


def colour_detector(stride: int, size_multiple: int) -> KeypointDetector:
    """Return a detector whose channel i answers to colour i."""
    detector = toy_detector(stride, size_multiple)
    weight = torch.zeros(3, 3, 3, 3)
    weight[range(3), range(3), 1, 1] = 4.0
    detector.head.load_state_dict({"weight": weight, "bias": torch.full((3,), -8.0)})
    return detector


@pytest.mark.parametrize("image_hw", [(37, 53), (40, 56), (33, 49), (36, 52)])
@pytest.mark.parametrize(("stride", "size_multiple"), [(1, 1), (1, 8), (4, 4), (4, 8)])
@torch.no_grad()
def test_points_of_an_equivariant_detector_stay(stride: int, size_multiple: int, image_hw) -> None:
    detector, image = colour_detector(stride, size_multiple), dots(image_hw)
    plain, both = detector(image), forward_with_flip(detector, image, [0, 1, 2])
    assert both.shape == plain.shape
    points = decode(detector, plain, image)
    assert points[0, :, 0].flatten().tolist() == pytest.approx(
        [13.3, 11.8, 30.6, 20.1, 38.2, 12.4], abs=0.15 * stride
    )
    assert torch.allclose(decode(detector, both, image), points, atol=1e-4)


@torch.no_grad()
def test_a_mirror_without_padding_would_shift() -> None:
    detector, image = colour_detector(4, 8), dots((37, 53))
    careless = mean_of_logits(detector(image), detector(image.flip(-1)).flip(-1))
    shift_px = (decode(detector, careless, image) - decode(detector, detector(image), image)).abs().amax()
    assert shift_px > 1  # half of 56 - 53


@pytest.mark.parametrize("image_hw", [(37, 53), (40, 56)])
@pytest.mark.parametrize("stride", [1, 4])
@torch.no_grad()
def test_sides_change_channels(stride: int, image_hw: tuple[int, int]) -> None:
    detector, image = toy_detector(stride, sided=True), noise(image_hw)
    alone = detector(image)[..., :-1, :-1]  # the head sees the padding beside the last row and column
    swapped, kept = (forward_with_flip(detector, image, order) for order in ([1, 0, 2], [0, 1, 2]))
    assert torch.allclose(swapped[..., :-1, :-1], alone, atol=1e-4)
    assert not torch.allclose(kept[..., :-1, :-1], alone, atol=0.05)


@torch.no_grad()
def test_it_is_the_mean_of_both_probabilities() -> None:
    detector, image = toy_detector(4, sided=True, seed=3), noise((40, 56))
    detector.head.load_state_dict({"weight": torch.randn(3, 3, 3, 3), "bias": torch.zeros(3)})
    first, second = detector(image).double().sigmoid(), detector(image.flip(-1)).double().sigmoid()
    expected = torch.empty_like(first)
    for channel, partner in enumerate([1, 0, 2]):
        for column in range(14):
            mirrored = second[:, partner, :, 13 - column]
            expected[:, channel, :, column] = (first[:, channel, :, column] + mirrored) / 2
    found = forward_with_flip(detector, image, [1, 0, 2])
    assert torch.allclose(found.double().sigmoid(), expected, atol=1e-6)
    assert (first - expected).abs().max() > 0.1


def test_mean_of_logits_by_hand() -> None:
    # probabilities 0.8 and 0.5: the mean 0.65 has a logit of ln(0.65 / 0.35)
    mean = mean_of_logits(torch.tensor([math.log(4)]), torch.tensor([0.0]))
    assert mean.item() == pytest.approx(math.log(0.65 / 0.35), abs=1e-6)


def test_mean_of_logits_is_safe_far_out() -> None:
    first = torch.tensor([-200.0, 200.0, -200.0, 200.0, 1e4, -100.0])
    second = torch.tensor([-200.0, 200.0, 200.0, -200.0, 1e4, -50.0])
    expected = torch.tensor([-200.0, 200.0, 0.0, 0.0, 1e4, -50.0 - math.log(2)])
    assert torch.allclose(mean_of_logits(first, second), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_mean_of_logits_keeps_the_type(dtype: torch.dtype) -> None:
    first, second = torch.tensor([-3.0, 1.0], dtype=dtype), torch.tensor([2.0, 1.0], dtype=dtype)
    mean = mean_of_logits(first, second)
    exact = (first.double().sigmoid() + second.double().sigmoid()) / 2
    assert mean.dtype == dtype
    assert torch.allclose(mean.double(), exact.logit(), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def make_detector(backbone: str, options: dict, head: str = "heatmap") -> KeypointDetector:
    torch.manual_seed(1)
    detector = KeypointDetector(SIDED, backbone, options, head=head).eval()
    with torch.no_grad():  # the initial weights of a head hardly look at the features
        for parameter in detector.head.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.1)
    return detector


LIGHT = {
    "Unet": {"n_channels": 8},
    "strided Unet": {"n_channels": 8, "output_stride": 4},
    "ResNetUnet": {"output_stride": 4},
}


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_real_backbones(name: str) -> None:
    detector = make_detector(name.removeprefix("strided "), LIGHT[name])
    for image_hw in [(37, 53), (64, 96)]:
        image = noise(image_hw)
        plain, both = detector(image), forward_with_flip(detector, image, [1, 0, 2])
        assert both.shape == plain.shape
        assert both.dtype == plain.dtype
        assert (both - plain).abs().max() > 1e-3
    of_mirrored = forward_with_flip(detector, image.flip(-1), [1, 0, 2])
    mirrored = both.flip(-1)[:, [1, 0, 2]]
    assert torch.allclose(of_mirrored, mirrored, atol=1e-5)
    assert not torch.allclose(detector(image.flip(-1)), plain.flip(-1)[:, [1, 0, 2]], atol=1e-3)


@torch.no_grad()
def test_regression_averages_points() -> None:
    detector = make_detector("Unet", {"n_channels": 4, "output_stride": 4}, head="regression")
    image = noise((40, 56))
    plain, other = detector(image), detector(image.flip(-1))
    both = forward_with_flip(detector, image, [1, 0, 2])
    assert both.shape == plain.shape == (2, 3, 2)
    for channel, partner in enumerate([1, 0, 2]):
        x = (plain[:, channel, 0] + 1 - other[:, partner, 0]) / 2
        y = (plain[:, channel, 1] + other[:, partner, 1]) / 2
        assert torch.allclose(both[:, channel], torch.stack([x, y], 1), atol=1e-6)
    # in pixels: x' = W - 1 - x
    mirrored = decode(detector, forward_with_flip(detector, image.flip(-1), [1, 0, 2]), image)[:, [1, 0, 2]]
    points = decode(detector, both, image)
    assert torch.allclose(mirrored[..., 0], 55 - points[..., 0], atol=1e-4)
    assert torch.allclose(mirrored[..., 1], points[..., 1], atol=1e-4)
    assert (plain - both).abs().max() > 1e-3


@torch.no_grad()
def test_regression_gets_the_image_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_detector("Unet", {"n_channels": 4}, head="regression")
    seen: list[tuple[int, ...]] = []
    forward_stages = detector.backbone.forward_stages

    def note(image: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen.append(tuple(image.shape))
        return forward_stages(image)

    monkeypatch.setattr(detector.backbone, "forward_stages", note)
    forward_with_flip(detector, noise((37, 53)), [1, 0, 2])
    assert seen == [(2, 3, 37, 53)] * 2
