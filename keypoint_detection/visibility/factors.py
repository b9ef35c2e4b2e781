"""What the demagnifications of the levels must be, known without any library."""

from collections.abc import Sequence
from itertools import pairwise


def check_factors(factors: Sequence[int], *, align_features: bool) -> None:
    """Check the demagnification of each level.

    Raises:
        ValueError: There is none, they do not rise from 1 or more, or do not double where they need to.
    """
    if not factors or factors[0] < 1 or any(coarse <= fine for fine, coarse in pairwise(factors)):
        raise ValueError(f"factors need to be rising whole numbers from 1, got {list(factors)}")
    if not align_features:
        return
    if len(factors) < 2 or any(coarse != 2 * fine for fine, coarse in pairwise(factors)):
        raise ValueError(
            "align_features needs two factors or more that double, such as 2 4 8, got "
            f"{list(factors)}; change them, or do not align"
        )
