"""The head of `--occlusion signed`: heatmaps whose sign tells occluded keypoints from visible ones."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from keypoint_detection.data.coco_dataset import Batch
from keypoint_detection.geometry import heatmap_to_image, image_to_heatmap
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.heads import Head, create_head
from keypoint_detection.models.losses_signed import SIGNED_LOSSES, signed_map
from keypoint_detection.utils.heatmap_signed import extract_signed_keypoints, generate_signed_heatmaps


def create_occlusion_head(name: str, occlusion: str, backbone: Backbone, n_channels: int) -> Head:
    """Build the head of a detector.

    Args:
        name: As for `create_head`.
        occlusion: `ignore`: occluded keypoints are keypoints like others; `signed`: see `SignedHeatmapHead`.
        backbone: Gives the features.
        n_channels: Channels of the output.

    Raises:
        ValueError: There is no such head, or none that is signed.
    """
    if occlusion == "ignore":
        return create_head(name, backbone, n_channels)
    if occlusion != "signed" or name != "heatmap":
        raise ValueError(
            "--occlusion: expected ignore, or signed with --head heatmap, "
            f"got {occlusion} with --head {name}; leave --occlusion out"
        )
    return SignedHeatmapHead(backbone, n_channels)


def check_same_occlusion(checkpoint: Mapping[str, Any], occlusion: str) -> None:
    """Refuse to resume a training that gave its heatmaps another meaning, with a ValueError."""
    there = checkpoint.get("hyper_parameters", {}).get("occlusion", "ignore")
    if there != occlusion:
        raise ValueError(
            f"--ckpt_path: expected a run with --occlusion {occlusion}, got one with --occlusion {there}; "
            "give it the same flag, or start from its weights with --init_weights"
        )


class SignedStage(nn.Module):
    """Let the heatmaps of an earlier stage be signed: they start at 0, and its weights have other names."""

    def __init__(self, heatmaps: HeatmapConv) -> None:
        super().__init__()
        self.signed = heatmaps
        _start_at_zero(heatmaps)

    def forward(self, features: Tensor) -> Tensor:
        """Map features to logits, as the stage does."""
        return self.signed(features)


class SignedHeatmapHead(Head):
    """Predict signed heatmaps by one 3x3 convolution; any number of keypoints per channel.

    The output is logits. A logit x stands for the map's value `2 sigmoid(x) - 1 = tanh(x / 2)` in (-1, 1):
    near 1 at a visible keypoint, near -1 at an occluded one, and 0, with a logit of 0, where there is none.
    The mean of two maps is thus the mean of their sigmoids, and stages of a backbone that are given the
    sigmoid of earlier logits get the map, scaled to [0, 1].

    All maps start at 0, those of the backbone's earlier stages included. The weights have other names than
    those of a `HeatmapHead`, and of the stages before it, since they mean something else: `--init_weights`
    takes neither for the other.

    Args:
        backbone: Gives the features and their stride; its earlier stages become signed as well.
        n_channels: Heatmaps.
    """

    losses = SIGNED_LOSSES
    default_loss = "MSE"
    uses_stages = True
    is_signed = True

    def __init__(self, backbone: Backbone, n_channels: int) -> None:
        super().__init__()
        self.signed = HeatmapConv(backbone.out_channels, n_channels)
        self.heatmap_stride = backbone.stride
        _start_at_zero(self.signed)
        for name, layer in list(backbone.named_modules()):
            if isinstance(layer, HeatmapConv):
                backbone.set_submodule(name, SignedStage(layer))

    def forward(self, features: Tensor) -> Tensor:
        """Map features `[n, out_channels, h, w]` to logits `[n, n_channels, h, w]`."""
        return self.signed(features)

    def targets(
        self,
        batch: Batch | Mapping[str, Any],
        output: Tensor,
        *,
        required_visibility: int,
        sigma_px: float,
        mask_excluded: bool,
    ) -> tuple[Tensor, None]:
        """Return signed Gaussians `[n, c, h, w]` in [-1, 1], and no weights.

        Raises:
            ValueError: If occluded keypoints are to be left out: nothing would be negative.
        """
        if required_visibility > 1:
            raise ValueError(
                "--occlusion signed expects occluded keypoints in training, got "
                "--detect_only_visible_keypoints; leave one of the two out"
            )
        points = image_to_heatmap(batch["keypoints"], self.heatmap_stride)
        heatmap_hw = (output.shape[-2], output.shape[-1])
        return generate_signed_heatmaps(points, batch["visibility"], heatmap_hw, sigma_px), None

    def maps(self, output: Tensor) -> Tensor:
        """Return the maps of logits, float32 in [-1, 1]."""
        return signed_map(output.detach())

    def decode(
        self,
        output: Tensor,
        *,
        input_hw: tuple[int, int],
        max_keypoints: int,
        min_distance_px: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor]:
        """Return the best peaks of either sign; k is `max_keypoints`, and a score is the map's magnitude."""
        points, scores = self.decode_signed(
            output,
            input_hw=input_hw,
            max_keypoints=max_keypoints,
            min_distance_px=min_distance_px,
            threshold=threshold,
        )
        return points, scores.abs()

    def decode_signed(
        self,
        output: Tensor,
        *,
        input_hw: tuple[int, int],
        max_keypoints: int,
        min_distance_px: int,
        threshold: float,
    ) -> tuple[Tensor, Tensor]:
        """Return the best peaks of either sign, and the map's values there."""
        points, scores = extract_signed_keypoints(
            self.maps(output),
            max_keypoints=max_keypoints,
            min_distance_px=min_distance_px,
            threshold=threshold,
        )
        return heatmap_to_image(points, self.heatmap_stride), scores

    def probabilities(self, target: Tensor) -> Tensor:
        """Return `(t + 1) / 2` for a signed target t: what the sigmoid of the logits is to be."""
        return (target + 1.0) / 2.0

    def contract(self) -> dict[str, str]:
        """Name the head, the sub-pixel refinement, and what the sign of a map means."""
        return {"head": "heatmap", "refinement": "Gaussian fit", "occlusion": "signed"}


def _start_at_zero(heatmaps: HeatmapConv) -> None:
    if heatmaps.bias is not None:
        nn.init.zeros_(heatmaps.bias)
