"""Attention by the place of the head: where in the scene to look, given whose gaze is asked for."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.encoders import fit_to_grid

FINENESS = 4
"""Mask pixels per cell of the grid along each axis, after pooling; a grid of 7 makes 28x28 of them."""


class HeadAttention(nn.Module):
    """Weigh the cells of the scene by the place and the look of the head.

    Args:
        width: Channels of the features of the head.
        grid_hw: Rows and columns of the grid of the scene.

    Source: Chong et al., Detecting Attended Visual Targets in Video, 2020, section 4.1.
    """

    def __init__(self, width: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.grid_hw = grid_hw
        n_cells = grid_hw[0] * grid_hw[1]
        self.score = nn.Linear(FINENESS**2 * n_cells + width, n_cells)

    def forward(self, scene_map: Tensor, head_map: Tensor, head_mask: Tensor) -> Tensor:
        """Weigh the features of the scene; equal weights for all cells leave them as they are.

        Args:
            scene_map: `[n, c, rows, columns]`.
            head_map: `[n, width, r, s]`.
            head_mask: `[n, 1, h, w]`, 0..255.

        Returns:
            `[n, c, rows, columns]`.
        """
        weights = self.weights(head_map, head_mask)
        return scene_map * (weights * weights[0].numel()).to(scene_map.dtype)

    def weights(self, head_map: Tensor, head_mask: Tensor) -> Tensor:
        """Return the weight of each cell.

        Args:
            head_map: `[n, width, r, s]`.
            head_mask: `[n, 1, h, w]`, 0..255.

        Returns:
            Float `[n, 1, rows, columns]`, which sum to 1 over the cells of an image.
        """
        place = pooled_mask(head_mask, self.grid_hw).flatten(1)
        scores = self.score(torch.cat([place, head_map.mean((2, 3)).float()], dim=1))
        return scores.float().softmax(1).unflatten(1, (1, *self.grid_hw))


def pooled_mask(head_mask: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Keep the largest value of a mask in each part of a cell, so that no head is too small to be seen.

    Args:
        head_mask: `[n, 1, h, w]`, 0..255.
        grid_hw: Rows and columns of the grid.

    Returns:
        Float `[n, 1, FINENESS * rows, FINENESS * columns]` in [0, 1].
    """
    fitted = fit_to_grid(head_mask.float() / 255, grid_hw, FINENESS)
    part = tuple(side // (FINENESS * cells) for side, cells in zip(fitted.shape[-2:], grid_hw, strict=True))
    return F.max_pool2d(fitted, part)
