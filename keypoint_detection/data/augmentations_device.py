"""The random changes of `augmentations` for a whole batch on the device that holds it."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.data.augmentations import ValueChange
from keypoint_detection.geometry import PAD_VALUE, Affine, invert, transform_points


class DeviceChange(TypedDict):
    """Hold what is to be changed in n images of c channels that are in the network's frame already.

    Attributes:
        to_source: float32 `[n, 2, 3]`, from pixels of the changed image to pixels of the given one.
        color: float32 `[n, c, c + 1]`, matrix and offset of the values, in grey levels of 255.
        blur_sigma_px: float32 `[n]`, 0 for none.
        noise_std: float32 `[n]`, grey levels, 0 for none.
        noise_seed: int64 `[n]`.
    """

    to_source: Tensor
    color: Tensor
    blur_sigma_px: Tensor
    noise_std: Tensor
    noise_seed: Tensor


def change_arrays(affine: Affine, change: ValueChange, n_channels: int, seed: int) -> dict[str, NDArray]:
    """Return the change of one image as arrays: the keys of `DeviceChange` without the first axis.

    Args:
        affine: `[2, 3]`, from pixels of the given image to pixels of the changed one.
        change: Of the values.
        n_channels: Of the image.
        seed: Of the noise.
    """
    return {
        "to_source": invert(affine).astype(np.float32),
        "color": change.matrix(n_channels).astype(np.float32),
        "blur_sigma_px": np.float32(change.blur_sigma_px),
        "noise_std": np.float32(change.noise_std),
        "noise_seed": np.int64(seed),
    }  # pyright: ignore[reportReturnType] - a NumPy number is as good as an array without axes


def stack_changes(changes: Sequence[dict[str, NDArray]]) -> DeviceChange:
    """Return the changes of a batch."""
    stacked = {key: torch.from_numpy(np.stack([one[key] for one in changes])) for key in changes[0]}
    return DeviceChange(**stacked)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def change_images(images: Tensor, input_hw: Tensor, change: DeviceChange) -> Tensor:
    """Warp a batch, change its colours, blur it and add noise.

    Args:
        images: uint8 `[n, c, h, w]` on any device.
        input_hw: `[n, 2]`, size of each image before the batch was padded; beyond it all stays padding.
        change: As drawn, on the same device.

    Returns:
        uint8 `[n, c, h, w]`.
    """
    values = warp(images.float(), change["to_source"])
    color = change["color"]
    flat = torch.baddbmm(color[:, :, -1:], color[:, :, :-1], values.flatten(2))
    values = flat.view_as(values).clamp_(0, 255)
    values = _blurred(values, change["blur_sigma_px"])
    values = _with_noise(values, change["noise_std"], change["noise_seed"])
    height, width = images.shape[2:]
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    is_image = (rows[:, None] < input_hw[:, :1, None]) & (columns < input_hw[:, 1:, None])
    return torch.where(is_image[:, None], values.round_().clamp_(0, 255), float(PAD_VALUE)).to(torch.uint8)


def warp(images: Tensor, to_source: Tensor) -> Tensor:
    """Warp `[n, c, h, w]` with bilinear interpolation into frames of the same size, grey outside.

    An image that shrinks is first averaged over boxes, as `geometry.warp_image` does.

    Args:
        images: float32, grey levels of 255.
        to_source: `[n, 2, 3]`, from pixels of the frame to pixels of the image.
    """
    height, width = images.shape[2:]
    boxes = torch.linalg.vector_norm(torch.linalg.inv(to_source[:, :, :2]), dim=1).reciprocal().round()
    shrinking = torch.nonzero((boxes > 1).any(1)).flatten().tolist()
    if shrinking:
        images = images.clone()
        for index in shrinking:
            images[index] = _box_average(images[index], [int(side) for side in boxes[index].tolist()])
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device), torch.arange(width, device=images.device), indexing="ij"
    )
    points = torch.stack([x, y], dim=-1).float().expand(len(images), -1, -1, -1)
    source = transform_points(to_source, points)
    # torch counts from -1 at the left edge of the first pixel to 1 at the right edge of the last one
    grid = (2 * source + 1) / source.new_tensor([width, height]) - 1
    warped = F.grid_sample(
        images - PAD_VALUE, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return warped + PAD_VALUE


def _box_average(image: Tensor, box_xy: list[int]) -> Tensor:
    """Average `[c, h, w]` over centred boxes; one of even length is widened by half of two outer pixels."""
    for axis, length in ((2, box_xy[0]), (1, box_xy[1])):
        if length > 1:
            taps = torch.ones(length + 1 - length % 2, device=image.device)
            if length % 2 == 0:
                taps[[0, -1]] = 0.5
            image = _filtered(image[:, None], (taps / taps.sum())[None], axis)[:, 0]
    return image


def _blurred(values: Tensor, sigma_px: Tensor) -> Tensor:
    chosen = torch.nonzero(sigma_px > 0).flatten()
    if not len(chosen):
        return values
    sigmas = sigma_px[chosen, None]
    radius = int(torch.ceil(3 * sigmas.max()))
    offsets = torch.arange(-radius, radius + 1, device=values.device)
    taps = torch.exp(offsets**2 / (-2 * sigmas**2))
    taps = taps / taps.sum(1, keepdim=True)
    part = values[chosen].transpose(0, 1)  # one filter per image: its channels become the batch
    for axis in (1, 2):
        part = _filtered(part, taps, axis)
    return values.index_copy(0, chosen, part.transpose(0, 1))


def _filtered(images: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Filter `[b, g, h, w]` along height (1) or width (2), each of the g planes with its own `[g, odd]`."""
    radius = taps.shape[1] // 2
    padding = (radius, radius, 0, 0) if axis == 2 else (0, 0, radius, radius)
    kernel = taps[:, None, None, :] if axis == 2 else taps[:, None, :, None]
    side = images.shape[axis + 1]
    mode = "reflect" if radius < side else "replicate"
    return F.conv2d(F.pad(images, padding, mode=mode), kernel, groups=len(taps))


def _with_noise(values: Tensor, std: Tensor, seeds: Tensor) -> Tensor:
    for index in torch.nonzero(std > 0).flatten().tolist():
        generator = torch.Generator(values.device).manual_seed(int(seeds[index]))
        noise = torch.randn(values.shape[1:], generator=generator, device=values.device)
        values[index] += noise * std[index]
    return values
