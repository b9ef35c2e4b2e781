"""Numbers that can be computed again for any multiset of images, which is what resampling needs."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class ImageStatistic(Protocol):
    """Give s numbers for any weighting of n images, from what was stored of each image.

    An implementation is a frozen dataclass whose fields are tensors on the CPU, tuples of texts or numbers,
    texts, booleans or None, so that it can be written to a file.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of each of the s numbers."""
        ...

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the numbers when image i counts `weights[:, i]` times.

        Args:
            weights: int64 `[b, n]`, >= 0.

        Returns:
            float64 `[b, s]`, NaN where undefined.
        """
        ...

    def value(self) -> Tensor:
        """Return the numbers with every image counted once, float64 `[s]`: the same bits in any order."""
        ...


@dataclass(frozen=True)
class RatioStatistic:
    """Hold sums over images: `sum(w * numerator) / sum(w * denominator)` per column.

    Attributes:
        columns: Names of the s numbers.
        numerator: float64 `[n, s]`, finite.
        denominator: float64 `[n, s]`, >= 0; None gives the plain sum of the numerators.
        root: Take the square root at the end.

    Example:
        >>> mean = RatioStatistic(("error",), torch.tensor([[3.0], [5.0]]), torch.tensor([[1.0], [1.0]]))
        >>> mean.value().tolist(), mean(torch.tensor([[2, 0], [0, 0]])).tolist()
        ([4.0], [[3.0], [nan]])
    """

    columns: tuple[str, ...]
    numerator: Tensor
    denominator: Tensor | None = None
    root: bool = False

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the ratios for weights `[b, n]`, `[b, s]`; NaN where the denominator is 0."""
        counts = weights.double()
        bottom = None if self.denominator is None else counts @ self.denominator.double()
        return self._ratio(counts @ self.numerator.double(), bottom)

    def value(self) -> Tensor:
        """Return the ratios over all images, `[s]`."""
        bottom = None if self.denominator is None else sorted_sum(self.denominator)
        return self._ratio(sorted_sum(self.numerator), bottom)

    def _ratio(self, top: Tensor, bottom: Tensor | None) -> Tensor:
        ratio = top if bottom is None else (top / bottom).masked_fill(bottom == 0, torch.nan)
        return ratio.sqrt() if self.root else ratio


def sorted_sum(values: Tensor) -> Tensor:
    """Add up `[n, s]` over n in rising order, so that the order of the images changes no bit; `[s]`."""
    ordered = values.double().sort(dim=0).values
    return ordered.cumsum(0)[-1] if len(ordered) else ordered.new_zeros(ordered.shape[1:])
