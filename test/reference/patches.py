"""Patches, written slowly: a crop of the full-resolution image, resized by plain averaging."""

import math

import numpy as np


def block_mean(picture, top, left, side):
    """Return the mean over the pixels of a square that exist and are not NaN, `[c]`; NaN without any."""
    inside = picture[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    pixels = inside.reshape(-1, picture.shape[2])
    pixels = pixels[np.isfinite(pixels).all(1)]
    return pixels.mean(0) if len(pixels) else np.full(picture.shape[2], np.nan)


def resized_crop(picture, xy, factor, patch_px):
    """Return the crop around a point `[patch_px, patch_px, c]`, each pixel the mean of factor x factor."""
    column, row = (math.floor(((value + 0.5) / factor - 0.5) + 0.5) - patch_px // 2 for value in xy)
    return np.array(
        [
            [block_mean(picture, (row + i) * factor, (column + j) * factor, factor) for j in range(patch_px)]
            for i in range(patch_px)
        ]
    )


def patch(image, depth_m, xy, factor, patch_px):
    """Return float `[3 or 4, patch_px, patch_px]`, unrounded; depth_m is None or `[h, w]`, NaN for none."""
    color = np.nan_to_num(resized_crop(image.astype(float), xy, factor, patch_px), nan=0.0)
    if depth_m is None:
        return color.transpose(2, 0, 1)
    is_there = np.isfinite(depth_m) & (depth_m > 0)
    logs = np.where(is_there, np.log(np.clip(np.where(is_there, depth_m, 1).astype(float), 1, 1e5)), np.nan)
    mean = resized_crop(logs[..., None], xy, factor, patch_px)
    code = np.nan_to_num(1 + 254 * mean / math.log(1e5), nan=0.0)
    return np.concatenate([color, code], axis=2).transpose(2, 0, 1)


def patches(image, depth_m, xy, factors, patch_px):
    """Return float `[levels * channels, patch_px, patch_px]` of one point, finest level first."""
    return np.concatenate([patch(image, depth_m, xy, factor, patch_px) for factor in factors])
