"""Small heatmaps to decode, drawn with the library's own encoder, which is tested by itself."""

import torch
from torch import Tensor

from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def visible(keypoints: Tensor) -> Tensor:
    """Return the flag 2 for every keypoint."""
    return torch.full(keypoints.shape[:-1], 2, dtype=torch.uint8)


def draw(points: list[list[float]], size: int = 24, sigma_px: float = 2.0) -> Tensor:
    """Draw one map `[1, 1, size, size]` with the points."""
    keypoints = torch.tensor(points)[None, None]
    return generate_heatmaps(keypoints, visible(keypoints), (size, size), sigma_px)


def found(maps: Tensor, *arguments, **options) -> list[list[float]]:
    """Return the detections `[x, y]` of a batch of one map."""
    keypoints, _ = extract_keypoints(maps, *arguments, **options)
    return keypoints[0, 0][~keypoints[0, 0, :, 0].isnan()].tolist()
