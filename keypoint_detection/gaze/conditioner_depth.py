"""The depth branch of the conditioner: a third encoder, joined late with the head."""

import torch
from torch import Tensor, nn

from keypoint_detection.gaze.encoders import GridEncoder
from keypoint_detection.models.backbones.decoder import ConvBlock


class DepthBranch(nn.Module):
    """Join the head with the scene, and with the depth of the scene, each by a 1x1 convolution.

    Args:
        encoder: Of a depth map with the mask of the head: 2 channels.
        width: Channels of the features.
    """

    def __init__(self, encoder: GridEncoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.scene_fusion = ConvBlock(2 * width, width, 1)
        self.depth_fusion = ConvBlock(2 * width, width, 1)

    def forward(
        self, scene_map: Tensor, head_map: Tensor, depth: Tensor, head_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode the depth and join.

        Args:
            scene_map: `[n, width, rows, columns]`.
            head_map: `[n, width, rows, columns]`.
            depth: `[n, 1, h, w]`, 0..255, near is bright.
            head_mask: `[n, 1, h, w]`, 0..255.

        Returns:
            Scene with head, and depth with head, each `[n, width, rows, columns]`.
        """
        depth_map = self.encoder(torch.cat([depth, head_mask], dim=1))
        return (
            self.scene_fusion(torch.cat([scene_map, head_map], dim=1)),
            self.depth_fusion(torch.cat([depth_map, head_map], dim=1)),
        )
