"""Seeded splits of the images of a data set into a training and a validation part."""

import math
import random
from collections.abc import Iterable


def random_split(ids: Iterable[int], ratio: float, seed: int) -> tuple[list[int], list[int]]:
    """Split image ids at random; the same ids and seed give the same parts, in any order and on any machine.

    Args:
        ids: Image ids; one given twice counts once.
        ratio: Share of the validation part, in (0, 1); each part holds at least one id.
        seed: Seed of the split, apart from every other seed.

    Returns:
        Training ids and validation ids, each in rising order.

    Raises:
        ValueError: The ratio is outside (0, 1), or there are fewer than two ids to share out.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"expected a validation split ratio between 0 and 1 (both excluded), got {ratio}")
    ordered = sorted(set(ids))
    if len(ordered) < 2:
        raise ValueError(
            f"expected at least 2 images to split into training and validation, got {len(ordered)}; "
            "add images, or give the validation images with --json_validation_dataset_path"
        )
    n_validation = min(max(math.floor(ratio * len(ordered) + 0.5), 1), len(ordered) - 1)
    # Python promises the sequence of random() for a seed in every version, but not that of shuffle().
    generator = random.Random(seed)
    draws = {identity: generator.random() for identity in ordered}
    validation = set(sorted(ordered, key=draws.__getitem__)[:n_validation])
    return [identity for identity in ordered if identity not in validation], sorted(validation)
