"""The conditioner: from scene, head and mask to the tokens and features that everything else looks at."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.attention import TokenMixing
from keypoint_detection.gaze.conditioner_depth import DepthBranch
from keypoint_detection.gaze.encoders import FIFTH_STAGE, encoder
from keypoint_detection.gaze.gaze_frame import GazeFrame
from keypoint_detection.gaze.head_attention import HeadAttention
from keypoint_detection.gaze.positions import encode_places, mask_centre, sine_positions
from keypoint_detection.models.backbones.base_backbone import check_at_least


class Conditioning(NamedTuple):
    """Hold what the conditioner found in a batch.

    Attributes:
        tokens: `[n, t, d]`: first those of the scene, row by row, then those of the head.
        features: `[n, 2 d, rows, columns]`, the maps of scene and head over each other.
        direction: Unit vector of the gaze, relative to the sides of the scene, float `[n, 2]`; only with
            `gaze_frame`.
    """

    tokens: Tensor
    features: Tensor
    direction: Tensor | None = None

    def repeat(self, s: int) -> "Conditioning":
        """Repeat every item s times, one after the other: item i becomes items `i * s` to `i * s + s - 1`."""
        repeated = (None if part is None else part.repeat_interleave(s, dim=0) for part in self)
        return Conditioning(*repeated)  # pyright: ignore[reportArgumentType]


class Conditioner(nn.Module):
    """Encode the scene with the place of the head, and the head, and line both up as tokens.

    The defaults are the published network. What the others add helps a small one to find the first object on
    the ray: `head_position` and `gaze_frame` say where everything is relative to the head, and
    `mixing_layers` compare places with each other before anything is drawn.

    Args:
        scene_encoder: Name for `gaze.encoders.encoder`.
        scene_options: Options of that encoder.
        head_encoder: Name likewise; None: that of the scene.
        head_options: Options of that encoder; None, without a `head_encoder`: those of the scene.
        width: Channels of a token, a multiple of 4.
        grid_hw: Rows and columns of the tokens of the scene.
        head_grid_hw: Rows and columns of the tokens of the head; None: as the scene.
        head_attention: Weigh the scene by the place and the look of the head.
        depth: Take depth maps, encoded as the scene is.
        head_position: Add the place of the head in the scene to its tokens.
        gaze_frame: Read a direction from the head, and add to every token of the scene where it lies from it.
        mixing_layers: Transformer layers over all tokens; 0: none.
        mixing_heads: Attention heads of those.
        dropout: Probability of leaving out a hidden channel of those in training.

    Attributes:
        token_width: Channels of a token.
        n_tokens: Tokens of an image.
        feature_channels: Channels of the features.
        grid_hw: Rows and columns of the features, and of the first tokens.

    Raises:
        ValueError: If a value is out of its range, or some do not fit together.
    """

    scene_positions: Tensor
    head_positions: Tensor

    def __init__(  # noqa: PLR0913  plain values are what a checkpoint can restore
        self,
        *,
        scene_encoder: str = FIFTH_STAGE,
        scene_options: Mapping[str, Any] | None = None,
        head_encoder: str | None = None,
        head_options: Mapping[str, Any] | None = None,
        width: int = 1024,
        grid_hw: tuple[int, int] = (7, 7),
        head_grid_hw: tuple[int, int] | None = None,
        head_attention: bool = False,
        depth: bool = False,
        head_position: bool = False,
        gaze_frame: bool = False,
        mixing_layers: int = 0,
        mixing_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        grid, head_grid = _grids(grid_hw, head_grid_hw, same=depth)
        check_at_least("Conditioner", 0, mixing_layers=mixing_layers)
        if head_encoder is None:
            head_encoder, head_options = (
                scene_encoder,
                scene_options if head_options is None else head_options,
            )
        self.grid_hw, self.head_grid_hw, self.token_width = grid, head_grid, width
        self.n_scene_tokens = grid[0] * grid[1]
        self.n_tokens = self.n_scene_tokens + head_grid[0] * head_grid[1]
        self.feature_channels = 2 * width
        self.scene_encoder = encoder(scene_encoder, 4, grid_hw=grid, width=width, options=scene_options)
        self.head_encoder = encoder(head_encoder, 3, grid_hw=head_grid, width=width, options=head_options)
        self.head_attention = HeadAttention(width, grid) if head_attention else None
        self.gaze_frame = GazeFrame(width, head_grid, grid) if gaze_frame else None
        self.head_place = nn.Linear(width, width) if head_position else None
        self.depth_branch = None
        if depth:
            depth_encoder = encoder(scene_encoder, 2, grid_hw=grid, width=width, options=scene_options)
            self.depth_branch = DepthBranch(depth_encoder, width)
        self.mixing = None
        if mixing_layers:
            self.mixing = TokenMixing(width, mixing_layers, heads=mixing_heads, dropout=dropout)
        for name, cells in (("scene_positions", grid), ("head_positions", head_grid)):
            self.register_buffer(name, sine_positions(cells, width), persistent=False)

    def forward(
        self, scene: Tensor, head: Tensor, head_mask: Tensor, depth: Tensor | None = None
    ) -> Conditioning:
        """Encode a batch; the images may have any sizes, see `GridEncoder`.

        Args:
            scene: uint8 `[n, 3, H, W]`.
            head: uint8 `[n, 3, h, w]`, the crop of the head.
            head_mask: uint8 `[n, 1, H, W]`, 255 inside the box of the head.
            depth: uint8 `[n, 1, H, W]`, near is bright; only with the option `depth`.

        Returns:
            Tokens, features, and the direction if there is one.

        Raises:
            ValueError: If an input has another type or shape, or depth is missing or not expected.
        """
        self._check(scene, head, head_mask, depth)
        scene_map = self.scene_encoder(torch.cat([scene, head_mask], dim=1))
        head_map = self.head_encoder(head)
        head_xy, direction = mask_centre(head_mask), None
        if self.head_attention is not None:
            scene_map = self.head_attention(scene_map, head_map, head_mask)
        if self.gaze_frame is not None:
            frame, direction = self.gaze_frame(head_map, head_xy)
            scene_map = scene_map + frame
        if self.depth_branch is not None and depth is not None:
            scene_map, head_map = self.depth_branch(scene_map, head_map, depth, head_mask)
        tokens = self._tokens(scene_map, head_map, head_xy)
        if self.mixing is not None:
            tokens = self.mixing(tokens)
            scene_map = to_map(tokens[:, : self.n_scene_tokens], self.grid_hw)
            head_map = to_map(tokens[:, self.n_scene_tokens :], self.head_grid_hw)
        if self.head_grid_hw != self.grid_hw:
            head_map = F.interpolate(head_map, size=self.grid_hw, mode="nearest")
        return Conditioning(tokens, torch.cat([scene_map, head_map], dim=1), direction)

    def _tokens(self, scene_map: Tensor, head_map: Tensor, head_xy: Tensor) -> Tensor:
        """Line up both maps, with their positions, as `[n, n_tokens, token_width]`."""
        scene_tokens = to_tokens(scene_map) + self.scene_positions
        head_tokens = to_tokens(head_map) + self.head_positions
        if self.head_place is not None:
            cells = head_xy * head_xy.new_tensor(self.grid_hw[::-1]) - 0.5
            head_tokens = head_tokens + self.head_place(encode_places(cells, self.token_width))[:, None]
        return torch.cat([scene_tokens, head_tokens], dim=1)

    def _check(self, scene: Tensor, head: Tensor, head_mask: Tensor, depth: Tensor | None) -> None:
        n, height, width = scene.shape[0], scene.shape[-2], scene.shape[-1]  # len() would fix an export
        of_scene = f"{height}, {width}"
        expected = {
            "scene": (scene, (n, 3, height, width), "3, H, W"),
            "head": (head, (n, 3, *head.shape[-2:]), "3, h, w"),
            "head_mask": (head_mask, (n, 1, height, width), f"1, {of_scene}"),
        }
        if (depth is None) != (self.depth_branch is None):
            got, fix = ("none", "pass depth maps") if depth is None else ("some", "set the option depth")
            raise ValueError(f"Conditioner was given {got} where depth maps matter; {fix}.")
        if depth is not None:
            expected["depth"] = (depth, (n, 1, height, width), f"1, {of_scene}")
        for name, (image, shape, listed) in expected.items():
            if image.dtype != torch.uint8 or image.shape != shape or 0 in image.shape:
                raise ValueError(
                    f"Conditioner needs {name} as uint8 of shape [{n}, {listed}], got {image.dtype} "
                    f"{list(image.shape)}; normalisation happens inside."
                )


def to_tokens(features: Tensor) -> Tensor:
    """Line up a map `[n, c, h, w]` as tokens `[n, h * w, c]`, row by row; each keeps its channels."""
    return features.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Lay tokens `[n, h * w, c]` out as a map `[n, c, h, w]`, as they were before `to_tokens`."""
    return tokens.transpose(1, 2).unflatten(2, grid_hw)


def _grids(
    grid_hw: tuple[int, int], head_grid_hw: tuple[int, int] | None, *, same: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return both grids as pairs, where YAML may hold lists; `same` refuses grids that differ."""
    rows, columns = (int(cells) for cells in grid_hw)
    head_rows, head_columns = (int(cells) for cells in head_grid_hw or grid_hw)
    if same and (rows, columns) != (head_rows, head_columns):
        raise ValueError(
            f"depth joins scene and head cell by cell, but grid_hw is {rows}, {columns} and head_grid_hw "
            f"{head_rows}, {head_columns}; use the same."
        )
    return (rows, columns), (head_rows, head_columns)
