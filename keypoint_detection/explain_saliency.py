"""Gradient saliency: which pixels change what a detector says about a keypoint."""

import torch
from torch import Tensor

from keypoint_detection.explain_points import keypoint_scalars, run_network
from keypoint_detection.models.detector import KeypointDetector

NOISE_STD = 0.1
"""Standard deviation of SmoothGrad's noise, as a share of the range of pixel values in the image."""


def saliency(
    detector: KeypointDetector, image: Tensor, points: Tensor, *, n_smooth: int = 0, seed: int = 0
) -> Tensor:
    """Compute `sum over colours of |dy / d image|` for the numbers y of every keypoint, added up.

    With `n_smooth`, the mean of that over images with normal noise of `NOISE_STD`, the points kept: single
    pixels differ less.

    Source: Simonyan et al., Deep Inside Convolutional Networks, 2014 (the sum instead of the maximum over
    the colours is ours); Smilkov et al., SmoothGrad, 2017, section 3.

    Args:
        detector: In eval mode.
        image: uint8 `[1, c_in, h, w]`, on the device of the detector.
        points: `[c, 2]`, one per channel, in pixels of the image.
        n_smooth: Noisy images; 0 takes the image as it is.
        seed: Of the noise.

    Returns:
        `[c, h, w]`, in units of y per grey level, not negative; see `keypoint_scalars` for y.
    """
    clean = image.to(detector.image_mean.dtype)
    std = NOISE_STD * float(clean.max() - clean.min())
    generator = torch.Generator().manual_seed(seed)
    total = clean.new_zeros(len(points), *clean.shape[-2:])
    for _ in range(max(1, n_smooth)):
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype).to(clean.device)
        total += _gradients(detector, clean + std * noise if n_smooth else clean, points)
    return total / max(1, n_smooth)


def _gradients(detector: KeypointDetector, image: Tensor, points: Tensor) -> Tensor:
    """Return the saliency `[c, h, w]` of one float image."""
    input_hw = (image.shape[-2], image.shape[-1])
    with torch.enable_grad():
        image = image.detach().requires_grad_()
        output = run_network(detector, image)
        maps = []
        for channel, point in enumerate(points):
            scalars = keypoint_scalars(detector, output, channel, point, input_hw)
            found = [
                torch.autograd.grad(y, image, retain_graph=True, materialize_grads=True)[0] for y in scalars
            ]
            maps.append(torch.stack(found).abs().sum((0, 1, 2)))
    return torch.stack(maps)
