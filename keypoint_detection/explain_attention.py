"""Roll the attention of a detector out for every keypoint of an image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from keypoint_detection.explain_maps import tokens_to_frame
from keypoint_detection.explain_points import keypoint_scalars, run_network
from keypoint_detection.explain_rollout import (
    HeadFusion,
    patch_map,
    positive_contributions,
    rollout,
    token_weights,
)
from keypoint_detection.models.attention import AttentionRecord, record_attention, token_grid
from keypoint_detection.models.detector import KeypointDetector


def rollout_maps(
    detector: KeypointDetector,
    image: Tensor,
    points: Tensor,
    *,
    with_gradient: bool,
    head_fusion: HeadFusion = "mean",
    discard_ratios: Sequence[float] = (0.0,),
) -> dict[str, Tensor]:
    """Roll the attention out, once per keypoint and discard ratio, and resample the maps to the image.

    Args:
        detector: In eval mode.
        image: uint8 `[1, c_in, h, w]`, on its device.
        points: `[c, 2]`, one per channel, in pixels of `image`.
        with_gradient: Weigh attention by what it adds to the keypoint.
        head_fusion: As in `rollout`.
        discard_ratios: As in `rollout`; each gives a map.

    Returns:
        Name, `rollout` or `gradient_rollout`, and with a ratio above 0 such as `rollout_0.5` -> maps
        `[c, h, w]`, float64.
    """
    frame_hw = (image.shape[-2], image.shape[-1])
    patch_px = token_grid(detector.backbone, frame_hw).patch_px
    method = "gradient_rollout" if with_gradient else "rollout"
    arguments = {"with_gradient": with_gradient, "head_fusion": head_fusion, "discard_ratios": discard_ratios}
    patches = patch_maps(detector, image, points, **arguments).cpu()
    return {
        (f"{method}_{ratio}" if ratio else method): torch.stack(
            [torch.from_numpy(tokens_to_frame(tokens.numpy(), patch_px, frame_hw)) for tokens in maps]
        )
        for ratio, maps in zip(discard_ratios, patches, strict=True)
    }


def patch_maps(
    detector: KeypointDetector,
    image: Tensor,
    points: Tensor,
    *,
    with_gradient: bool,
    head_fusion: HeadFusion = "mean",
    discard_ratios: Sequence[float] = (0.0,),
) -> Tensor:
    """Roll the attention out, see `rollout_maps`.

    For each number y of a keypoint (the logit at the point, or x and then y), the rollout starts from the
    tokens of the last block by how much y depends on each (`token_weights`). Without gradients it takes the
    attention as it is, with them what it adds to y (`positive_contributions`). The maps of x and y are
    averaged. Of a decoder that also reads earlier blocks, as DinoV2Up's does, the last block is followed.

    Returns:
        `[ratios, c, rows, columns]`, float64: not negative; each map sums to 1, padding of the backbone
        included.
    """
    frame_hw = (image.shape[-2], image.shape[-1])
    grid = token_grid(detector.backbone, frame_hw)
    found = []
    with torch.enable_grad(), record_attention(detector.backbone) as record:
        output = run_network(detector, image.to(detector.image_mean.dtype))
        for channel, point in enumerate(points):
            scalars = keypoint_scalars(detector, output, channel, point, frame_hw)
            rolled = [_blocks(record, scalar, with_gradient=with_gradient) for scalar in scalars]
            for ratio in discard_ratios:
                options: dict[str, Any] = {"head_fusion": head_fusion, "discard_ratio": ratio}
                rows = [rollout(*pair, **options, n_prefix=grid.n_prefix) for pair in rolled]
                found.append(torch.stack([patch_map(row, grid) for row in rows]).mean(0))
    return torch.stack(found).unflatten(0, (len(points), -1)).transpose(0, 1)


def _blocks(record: AttentionRecord, scalar: Tensor, *, with_gradient: bool) -> tuple[list[Tensor], Tensor]:
    """Return what is rolled out, `[heads, tokens, tokens]` per block, and the row to start from, `[tokens]`.

    In float64: gradients may be tiny, and their sums have to stay 1.
    """
    gradients, token_gradient = record.gradients(scalar)
    weights = [block[0].detach().double() for block in record.weights]
    if with_gradient:
        weights = [
            positive_contributions(block, gradient[0].double())
            for block, gradient in zip(weights, gradients, strict=True)
        ]
    return weights, token_weights(token_gradient[0].double())
