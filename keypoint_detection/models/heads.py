"""Heads of the detector: what the features of a backbone are turned into, and what that is trained on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.data.coco_dataset import Batch
from keypoint_detection.geometry import heatmap_to_image, image_to_heatmap
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.heads_grid import average_to_grid
from keypoint_detection.models.losses import LOSSES
from keypoint_detection.models.point_losses import POINT_LOSSES
from keypoint_detection.registry import Registry
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps

GRID_SIDE = 4
"""Cells along each side of the grid that direct regression averages feature maps to."""

INITIAL_WEIGHT_STD = 0.001
"""Spread of the regression's weights: all points start near the image centre.

Not exactly 0, because then the backbone would get no gradient in the first step.
"""


class Head(nn.Module, ABC):
    """Turn features `[n, out_channels, h, w]` of a backbone into the output that the losses compare.

    A subclass is built from the backbone and the number of channels, and writes `forward`.

    Attributes:
        losses: The losses that can be chosen for the output.
        default_loss: The one that is taken when none is chosen.
        uses_stages: Whether heatmaps of a backbone's earlier stages are outputs too.
        is_signed: Whether it tells occluded keypoints from visible ones; see `decode_signed`.
    """

    losses: ClassVar[Registry[Any]]
    default_loss: ClassVar[str]
    uses_stages: ClassVar[bool]
    is_signed: ClassVar[bool] = False

    @abstractmethod
    def targets(
        self,
        batch: Batch | Mapping[str, Any],
        output: Tensor,
        *,
        required_visibility: int,
        sigma_px: float,
        mask_excluded: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the output of a batch should be, and the weights for the loss.

        Args:
            batch: With `image` `[n, c_in, H, W]`, `keypoints` `[n, c, k, 2]` in its pixels, and `visibility`
                `[n, c, k]`.
            output: What `forward` gave for it.
            required_visibility: Lowest flag that counts as a keypoint, 1 or 2.
            sigma_px: Standard deviation of Gaussians, in heatmap pixels.
            mask_excluded: Leave the surroundings of keypoints with a lower flag out of the loss.

        Returns:
            The target, as the output, and the weights that the losses of this head take, or None.
        """

    @abstractmethod
    def decode(
        self,
        output: Tensor,
        *,
        input_hw: tuple[int, int],
        max_keypoints: int,
        min_distance_px: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor]:
        """Turn an output into keypoints.

        Args:
            output: What `forward` gave.
            input_hw: Height and width of the images that the features were computed from.
            max_keypoints: Most detections per channel and image.
            min_distance_px: Radius of suppression, in heatmap pixels.
            threshold: Scores of detections are above this.

        Returns:
            Keypoints `[n, c, k, 2]` in pixels of those images, float32, NaN where there is none, and scores
            `[n, c, k]` in [0, 1], best first, 0 where there is none.
        """

    def decode_signed(
        self,
        output: Tensor,
        *,
        input_hw: tuple[int, int],
        max_keypoints: int,
        min_distance_px: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor]:
        """Do as `decode`, with scores in [-1, 1]: that of an occluded keypoint has a minus.

        A head that cannot tell takes every keypoint for visible.
        """
        return self.decode(
            output,
            input_hw=input_hw,
            max_keypoints=max_keypoints,
            min_distance_px=min_distance_px,
            threshold=threshold,
        )

    def probabilities(self, target: Tensor) -> Tensor:
        """Return a target for heatmaps as the probabilities in [0, 1] that its cross-entropy is of."""
        return target

    def maps(self, output: Tensor) -> Tensor:
        """Return the heatmaps that logits `[n, c, h, w]` stand for, float32: probabilities in [0, 1]."""
        return output.detach().float().sigmoid()

    @abstractmethod
    def contract(self) -> dict[str, str]:
        """Return the definitions of this head that scores depend on, as plain values."""


HEADS: Registry[type[Head]] = Registry("head")


def create_head(name: str, backbone: Backbone, n_channels: int) -> Head:
    """Build a head by its name, `heatmap` or `regression`.

    Args:
        name: A registered name; another one is a ValueError.
        backbone: Gives the features.
        n_channels: Channels of the output.
    """
    return HEADS[name](backbone, n_channels)


@HEADS.register("heatmap")
class HeatmapHead(HeatmapConv, Head):
    """Predict logits of heatmaps `[n, c, h, w]` by one 3x3 convolution; any number of keypoints per channel.

    Args:
        backbone: Gives the features and their stride.
        n_channels: Heatmaps.
    """

    losses = LOSSES
    default_loss = "BCE"
    uses_stages = True

    def __init__(self, backbone: Backbone, n_channels: int) -> None:
        super().__init__(backbone.out_channels, n_channels)
        self.heatmap_stride = backbone.stride  # `stride` is that of the convolution

    def targets(
        self,
        batch: Batch | Mapping[str, Any],
        output: Tensor,
        *,
        required_visibility: int,
        sigma_px: float,
        mask_excluded: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return Gaussians `[n, c, h, w]`, and with `mask_excluded` weights `[n, c, h, w]`, see `Head`."""
        visibility, heatmap_hw = batch["visibility"], (output.shape[-2], output.shape[-1])
        points = image_to_heatmap(batch["keypoints"], self.heatmap_stride)
        included = visibility * (visibility >= required_visibility)
        target = generate_heatmaps(points, included, heatmap_hw, sigma_px)
        if not (mask_excluded and required_visibility == 2):
            return target, None
        excluded = generate_heatmaps(points, visibility * (visibility == 1), heatmap_hw, sigma_px)
        return target, 1.0 - excluded * (1.0 - target)

    def decode(
        self,
        output: Tensor,
        *,
        input_hw: tuple[int, int],
        max_keypoints: int,
        min_distance_px: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor]:
        """Return the best peaks of the maps; k is `max_keypoints`, and a score is the peak's probability."""
        points, scores = extract_keypoints(
            output.detach().float().sigmoid(),
            max_keypoints=max_keypoints,
            min_distance_px=min_distance_px,
            threshold=threshold,
        )
        return heatmap_to_image(points, self.heatmap_stride), scores

    def contract(self) -> dict[str, str]:
        """Name the head and the sub-pixel refinement."""
        return {"head": "heatmap", "refinement": "Gaussian fit"}


@HEADS.register("regression")
class RegressionHead(Head):
    """Predict one normalised point per channel, `[n, c, 2]`, from the image as a whole.

    The image spans [0, 1] in x and y. The features are the class token of a backbone that was built with
    `class_token=True`, or else feature maps averaged to a grid of 4x4 cells, which keeps where things are;
    then come layer normalisation and one linear layer.

    Points are computed in float32 under any precision: half a step of bfloat16 at the right border is 0.4 px
    of 224.

    Args:
        backbone: Gives the features.
        n_channels: Points.

    Source: ViT_facemap (a linear layer on the class token); the grid is ours.
    """

    losses = POINT_LOSSES
    default_loss = "SmoothL1"
    uses_stages = False

    def __init__(self, backbone: Backbone, n_channels: int) -> None:
        super().__init__()
        self.grid_side = 1 if getattr(backbone, "class_token", False) else GRID_SIDE
        self.norm = nn.LayerNorm(backbone.out_channels * self.grid_side**2)
        self.linear = nn.Linear(backbone.out_channels * self.grid_side**2, 2 * n_channels)
        nn.init.normal_(self.linear.weight, std=INITIAL_WEIGHT_STD)
        nn.init.constant_(self.linear.bias, 0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map features `[n, out_channels, h, w]` of any size to points `[n, n_channels, 2]`, float32."""
        with torch.autocast(features.device.type, enabled=False):
            pooled = average_to_grid(features.float(), self.grid_side).flatten(1)
            vector = self.norm(pooled.to(self.norm.weight.dtype)).float()
            points = F.linear(vector, self.linear.weight.float(), self.linear.bias.float())
        return points.unflatten(1, (-1, 2))

    def targets(
        self,
        batch: Batch | Mapping[str, Any],
        output: Tensor,
        *,
        required_visibility: int,
        sigma_px: float,
        mask_excluded: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return normalised points `[n, c, 2]`, NaN without a keypoint, and weights `[n, c]`, 0 there.

        Neither `sigma_px` nor `mask_excluded` changes anything: there is no Gaussian, and an excluded
        keypoint has no surroundings. Points outside the image stay outside.

        Raises:
            ValueError: If a channel of an image holds more than one keypoint.
        """
        points, visibility = batch["keypoints"].float(), batch["visibility"]
        present = (visibility >= required_visibility) & points.isfinite().all(-1)
        if present.shape[-1] > 1:  # else there is nothing to check, and no need to wait for the device
            _check_one_each(present)
        point = torch.where(present[..., None], points, 0.0).sum(dim=2)  # at most one term is not 0
        found = present.any(dim=2)
        height, width = batch["image"].shape[-2:]
        target = torch.stack([(point[..., 0] + 0.5) / width, (point[..., 1] + 0.5) / height], dim=-1)
        return torch.where(found[..., None], target, torch.nan), found.float()

    def decode(
        self,
        output: Tensor,
        *,
        input_hw: tuple[int, int],
        max_keypoints: int,
        min_distance_px: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor]:
        """Return the one point of each channel, k = 1, with a score of 1.

        Direct regression has no confidence: it always answers, also where there is nothing to see. The other
        arguments change nothing.
        """
        (height, width), output = input_hw, output.detach().float()
        points = torch.stack([output[..., 0] * width - 0.5, output[..., 1] * height - 0.5], dim=-1)
        return points[:, :, None], points.new_ones(*points.shape[:2], 1)

    def contract(self) -> dict[str, str]:
        """Name the head, and say that there is no refinement and no confidence."""
        return {"head": "regression", "refinement": "none", "score": "constant 1"}


def _check_one_each(present: Tensor) -> None:
    """Raise a ValueError if more than one keypoint of a channel is present in an image, `[n, c, k]`."""
    most = present.sum(dim=2).amax(dim=0)
    count = int(most.max()) if len(most) else 0
    if count > 1:
        raise ValueError(
            f"--head regression predicts one point per channel, got an image with {count} keypoints in "
            f"channel {int(most.argmax()) + 1} of {len(most)}; use --head heatmap"
        )
