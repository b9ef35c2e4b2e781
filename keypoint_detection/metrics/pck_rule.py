"""When a keypoint counts as correct: the lengths of PCK, and the counting."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from keypoint_detection.metrics.assignment import check_ignored
from keypoint_detection.metrics.error_sums import fixed_point, floating_point
from keypoint_detection.metrics.keypoint_errors import KeypointErrors, closeness, keypoint_errors
from keypoint_detection.metrics.matching import check_shapes, present_targets

LengthName = Literal["pixels", "scale", "head_size", "box_diagonal", "box_side", "image_diagonal"]
Normalizer = LengthName | tuple[int, int]

HEAD_SHARE = 0.6
"""PCKh takes this share of the diagonal of the head's box, as the MPII evaluation does."""


def box_diagonal(boxes: Tensor) -> Tensor:
    """Return the diagonals of boxes (x, y, width, height) `[..., 4]` in pixels, float64 `[...]`.

    Example:
        >>> box_diagonal(torch.tensor([[10.0, 10.0, 30.0, 40.0]])).tolist()
        [50.0]
    """
    width, height = boxes.double()[..., 2:].unbind(-1)
    return torch.hypot(width, height)


def box_side(boxes: Tensor) -> Tensor:
    """Return the longer sides of boxes (x, y, width, height) `[..., 4]` in pixels, float64 `[...]`.

    Example:
        >>> box_side(torch.tensor([[10.0, 10.0, 30.0, 40.0]])).tolist()
        [40.0]
    """
    return boxes.double()[..., 2:].amax(-1)


def head_size(head_boxes: Tensor) -> Tensor:
    """Return 0.6 diagonals of boxes of heads (x, y, width, height) `[..., 4]` in pixels, float64 `[...]`.

    Source: PCKh of Andriluka et al., CVPR 2014; the factor is that of the MPII evaluation.

    Example:
        >>> head_size(torch.tensor([[10.0, 10.0, 30.0, 40.0]])).tolist()
        [30.0]
    """
    return HEAD_SHARE * box_diagonal(head_boxes)


def image_diagonal(image_hw: Tensor) -> Tensor:
    """Return the diagonals of images of (height, width) `[..., 2]` in pixels, float64 `[...]`.

    Example:
        >>> image_diagonal(torch.tensor([[480, 640]])).tolist()
        [800.0]
    """
    height, width = image_hw.double().unbind(-1)
    return torch.hypot(height, width)


@dataclass(frozen=True)
class PCKRule:
    """Hold when a keypoint is correct, and count.

    Attributes:
        alphas: Limits, > 0, in lengths.
        normalizer: Name of the length, or the two channels between whose points it is measured.
        visible_only: Whether targets of another visibility than 2 are ignored.
    """

    alphas: tuple[float, ...]
    normalizer: Normalizer
    visible_only: bool

    @classmethod
    def create(cls, alpha: float | Sequence[float], normalizer: Normalizer, visible_only: bool) -> "PCKRule":
        """Check the values and return the rule."""
        alphas = (alpha,) if isinstance(alpha, int | float) else tuple(alpha)
        if not alphas or not all(0 < limit < math.inf for limit in alphas):
            raise ValueError(f"expected at least one finite alpha > 0, got {list(alphas) or 'none'}")
        return cls(tuple(map(float, alphas)), _checked(normalizer), visible_only)

    @property
    def width(self) -> int:
        """Return the number of columns of the table."""
        return len(self.alphas) + 5

    def numbers(self) -> list[float]:
        """Return the rule as numbers, different for different rules."""
        names = get_args(LengthName)
        named = isinstance(self.normalizer, str)
        length = (names.index(self.normalizer), -1) if named else self.normalizer
        return [float(named), *map(float, length), float(self.visible_only), *self.alphas]

    @torch.no_grad()
    def table(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        *,
        scale: Tensor | None,
        ignored: Tensor | None,
    ) -> Tensor:
        """Count the targets of each channel; for the arguments see `percentage_of_correct_keypoints`.

        Returns:
            int64 `[c, a + 5]`: correct at each alpha; targets with a length that have and have not a
            detection; targets without a length; sum of the `closeness` in fixed-point, whole and fraction.
        """
        check_shapes(preds, scores, target, visibility)
        if ignored is not None:
            check_ignored(ignored, visibility)
        if self.visible_only:
            occluded = visibility != 2
            ignored = occluded if ignored is None else occluded | ignored
        length = self._length(target, visibility, scale)
        return self._count(keypoint_errors(preds, scores, target, visibility, length=length, ignored=ignored))

    def summary(self, table: Tensor) -> dict[str, Tensor | int]:
        """Return the shares from summed tables; for the values see `percentage_of_correct_keypoints`."""
        table = torch.cat([table.sum(0, keepdim=True), table])
        a = len(self.alphas)
        found, missed, undefined = table[:, a : a + 3].unbind(-1)
        measured = found + missed
        share = table[:, :a].double() / measured[:, None]
        area = floating_point(table[:, a + 3 :]) / measured
        return {
            "pck": share[0],
            "per_channel": share[1:],
            "auc": area[0],
            "auc_per_channel": area[1:],
            "count": int(found[0]),
            "missed": int(missed[0]),
            "undefined": int(undefined[0]),
        }

    def _length(self, target: Tensor, visibility: Tensor, scale: Tensor | None) -> Tensor | None:
        """Return the lengths `[n]` or `[n, c, m]`, or None for pixels."""
        if self.normalizer == "pixels":
            return None
        if not isinstance(self.normalizer, str):
            return reference_length(target, present_targets(target, visibility), self.normalizer)
        if scale is None:
            raise ValueError(
                f"PCK in units of {self.normalizer!r} needs scale, the length in pixels per image "
                f"{list(visibility.shape[:1])} or per target {list(visibility.shape)}, got none"
            )
        return scale

    def _count(self, errors: KeypointErrors) -> Tensor:
        distance, length, num_targets = errors[:3]
        missed, undefined = distance.isnan(), length.isnan()
        limits = torch.tensor(self.alphas, dtype=torch.float64, device=distance.device) * length[:, None]
        area = closeness(distance, length, max(self.alphas))
        columns = [distance[:, None] < limits]
        columns += [flag[:, None] for flag in (~missed & ~undefined, missed & ~undefined, undefined)]
        columns += [fixed_point(area)]
        n, c = num_targets.shape
        channel = torch.arange(c, device=distance.device).repeat(n).repeat_interleave(num_targets.flatten())
        table = torch.zeros(c, self.width, dtype=torch.int64, device=distance.device)
        return table.index_add_(0, channel, torch.cat(columns, dim=1))


def reference_length(target: Tensor, present: Tensor, channels: tuple[int, int]) -> Tensor:
    """Return the distance between the points of two channels in each image, `[n]` pixels, NaN without both.

    Args:
        target: `[n, c, m, 2]` pixels.
        present: `[n, c, m]`, which targets are there.
        channels: The two.

    Raises:
        ValueError: There is no such channel, or it has several points in an image.
    """
    if max(channels) >= target.shape[1]:
        raise ValueError(f"expected reference channels below {target.shape[1]}, got {channels}")
    ends = list(channels)
    most = int(present[:, ends].sum(-1).max()) if present.numel() else 0
    if most > 1:
        raise ValueError(
            f"expected at most one labelled point per image in the reference channels {channels}, got {most} "
            "in one; take other channels, or a length that the updates bring"
        )
    there = present[:, ends, :, None]
    points = target[:, ends].double().masked_fill(~there, 0.0).sum(2)
    first, second = points.masked_fill(~there.any(2), torch.nan).unbind(1)
    return torch.linalg.vector_norm(first - second, dim=-1)


def _checked(normalizer: Normalizer) -> Normalizer:
    names = get_args(LengthName)
    if isinstance(normalizer, str) and normalizer in names:
        return normalizer
    if isinstance(normalizer, tuple | list) and len(normalizer) == 2:
        first, second = normalizer
        if isinstance(first, int) and isinstance(second, int) and first != second and min(first, second) >= 0:
            return first, second
    raise ValueError(
        f"expected a normalizer of {', '.join(names)}, or two different channels, got {normalizer!r}"
    )
