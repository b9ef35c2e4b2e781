"""The frame of the gaze: each cell of the scene as seen from the head, along its gaze and across it."""

import math

import torch
from torch import Tensor, nn

from keypoint_detection.gaze.positions import cell_centres

BEAM_WIDTHS = (0.03, 0.06, 0.12)
"""Standard deviations of the beams around the ray, relative to the sides of the scene."""

N_OCTAVES = 4
"""Sines of the coordinates in the frame have periods of 2, 1, 1/2 .. of the sides of the scene."""

N_FEATURES = 5 + len(BEAM_WIDTHS) + 4 * N_OCTAVES
"""Numbers that `frame_features` gives for a cell."""

REDUCED_WIDTH = 16
"""Channels of a head token for finding the direction."""


class GazeFrame(nn.Module):
    """Tell the cells of the scene where they lie relative to the gaze.

    A direction is read from the head; every cell gets its coordinates in the frame whose origin is the head
    and whose first axis is that direction. So "the first object on the ray" becomes a comparison of cells
    that attention can do: on the ray is a small second coordinate, first the smallest first coordinate.

    Directions and distances are relative to the sides of the scene image, as the network gets it.

    Args:
        width: Channels of the features of head and scene.
        head_grid_hw: Rows and columns of the features of the head.
        grid_hw: Rows and columns of the features of the scene.
        n_hidden: Channels of the hidden layers.

    Source: ours; a field of angles to the gaze is known from Lian et al., Believe It or Not, We Know What You
    Are Looking at!, 2018.
    """

    centres: Tensor

    def __init__(
        self, width: int, head_grid_hw: tuple[int, int], grid_hw: tuple[int, int], *, n_hidden: int = 64
    ) -> None:
        super().__init__()
        self.grid_hw = grid_hw
        self.direction = nn.Sequential(
            nn.Conv2d(width, REDUCED_WIDTH, 1),
            nn.Flatten(),  # the places in the crop are kept: where nose and eyes are is the direction
            nn.Linear(REDUCED_WIDTH * head_grid_hw[0] * head_grid_hw[1], n_hidden),
            nn.SiLU(),
            nn.Linear(n_hidden, 2),
        )
        self.encode = nn.Sequential(nn.Linear(N_FEATURES, n_hidden), nn.SiLU(), nn.Linear(n_hidden, width))
        self.register_buffer("centres", cell_centres(grid_hw), persistent=False)

    def forward(self, head_map: Tensor, head_xy: Tensor) -> tuple[Tensor, Tensor]:
        """Find the direction, and encode the cells in its frame.

        Args:
            head_map: `[n, width, r, s]`.
            head_xy: `[n, 2]`, the centre of the head relative to the scene (0 to 1).

        Returns:
            `[n, width, rows, columns]`, to be added to the features of the scene; and the unit vector of the
            direction, float `[n, 2]`.
        """
        raw = self.direction(head_map).float()
        direction = raw * (raw.square().sum(1, keepdim=True) + 1e-6).rsqrt()
        features = frame_features(self.centres - head_xy[:, None], direction)
        return self.encode(features).transpose(1, 2).unflatten(2, self.grid_hw), direction


def frame_features(offsets: Tensor, direction: Tensor) -> Tensor:
    """Describe offsets from the head relative to a direction.

    Args:
        offsets: `[n, t, 2]`, relative to the sides of the scene.
        direction: Unit vectors, `[n, 2]`.

    Returns:
        `[n, t, N_FEATURES]`: the way along the ray, across it (positive to the right of the one who looks
        along it, in an image with y down), and in all; cosine and sine of the angle; how much it is in beams
        of some widths, before the head only; and sines and cosines of the first two.
    """
    dx, dy = direction[:, None, :1], direction[:, None, 1:]
    x, y = offsets[..., :1], offsets[..., 1:]
    along, across = x * dx + y * dy, y * dx - x * dy
    distance = (along.square() + across.square() + 1e-8).sqrt()
    ahead = torch.sigmoid(along / min(BEAM_WIDTHS))
    beams = [ahead * torch.exp(-0.5 * (across / width).square()) for width in BEAM_WIDTHS]
    both = torch.cat([along, across], dim=-1)
    angles = [both * (math.pi * 2**octave) for octave in range(N_OCTAVES)]
    waves = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
    return torch.cat([both, distance, both / distance, *beams, *waves], dim=-1)
