"""Saliency against finite differences, and what noise does to it."""

from typing import Any

import pytest
import torch

from keypoint_detection.explain_points import keypoint_scalars, run_network
from keypoint_detection.explain_saliency import NOISE_STD, saliency
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.heads import average_to_grid

POINTS = torch.tensor([[4.25, 6.5], [9.0, 3.0]], dtype=torch.float64)


def tiny(head: str = "heatmap") -> KeypointDetector:
    """Return a smooth float64 network: finite differences must not step over the kinks of a leaky ReLU."""
    torch.manual_seed(3)
    detector = KeypointDetector([["a"], ["b"]], "DilatedCnn", {"n_channels": 4}, head=head).double().eval()
    if head == "regression":  # the head computes in float32 whatever the network does: here in its type
        layers: Any = detector.head
        layers.forward = lambda features: layers.linear(
            layers.norm(average_to_grid(features, layers.grid_side).flatten(1))
        ).unflatten(1, (-1, 2))
    for module in detector.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.LeakyReLU):
                setattr(module, name, torch.nn.Softplus())
            if isinstance(child, torch.nn.Conv2d):
                child.weight.data.mul_(2.0)  # or twelve layers of a slope near 1/2 would leave no gradient
    return detector


def image() -> torch.Tensor:
    return torch.randint(
        0, 256, (1, 3, 11, 13), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


@pytest.mark.parametrize("head", ["heatmap", "regression"])
def test_equals_finite_differences(head: str) -> None:
    detector, pixels = tiny(head), image()
    found = saliency(detector, pixels, POINTS)
    assert found.shape == (2, 11, 13)
    assert found.dtype == torch.float64
    step = 1e-3
    for channel, point in enumerate(POINTS):
        for x, y in [(0, 0), (4, 6), (9, 3), (12, 10), (5, 7)]:
            total = 0.0
            for color in range(3):
                values = []
                for sign in (1, -1):
                    nudged = pixels.double()
                    nudged[0, color, y, x] += sign * step
                    with torch.no_grad():
                        output = run_network(detector, nudged)
                    values.append(
                        [float(v) for v in keypoint_scalars(detector, output, channel, point, (11, 13))]
                    )
                total += sum(abs(a - b) / (2 * step) for a, b in zip(*values, strict=True))
            assert float(found[channel, y, x]) == pytest.approx(total, rel=1e-4, abs=1e-9)
    assert float(found.max()) > 1e-6


def test_noise_is_seeded_and_averaged() -> None:
    detector, pixels = tiny(), image()
    clean = saliency(detector, pixels, POINTS)
    one, three = (saliency(detector, pixels, POINTS, n_smooth=n) for n in (1, 3))
    assert torch.equal(one, saliency(detector, pixels, POINTS, n_smooth=1))
    assert not torch.allclose(one, clean)
    generator = torch.Generator().manual_seed(0)
    std = NOISE_STD * float(pixels.max() - pixels.min())
    expected = torch.zeros_like(clean)
    for _ in range(3):
        noisy = (
            pixels + std * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        ).requires_grad_()
        output = run_network(detector, noisy)
        for channel, point in enumerate(POINTS):
            (scalar,) = keypoint_scalars(detector, output, channel, point, (11, 13))
            expected[channel] += torch.autograd.grad(scalar, noisy, retain_graph=True)[0][0].abs().sum(0) / 3
    torch.testing.assert_close(three, expected)


def test_the_detector_keeps_no_gradient() -> None:
    detector = tiny()
    saliency(detector, image(), POINTS)
    assert all(parameter.grad is None for parameter in detector.parameters())
