"""Seeded splits of the images of a data set: at random, by group, and into folds.

Python promises the sequence of `random()` for a seed in every version, but not that of `shuffle()`: every
draw here is one `random()` per sorted name, so that neither the order of the input nor the machine matters.
"""

import math
import random
from collections.abc import Hashable, Iterable, Sequence
from typing import Any


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
            "add images (a training takes those to validate on from --json_validation_dataset_path as well)"
        )
    n_validation = min(max(math.floor(ratio * len(ordered) + 0.5), 1), len(ordered) - 1)
    validation = set(seeded_order(ordered, seed)[:n_validation])
    return [identity for identity in ordered if identity not in validation], sorted(validation)


def group_split(
    ids: Sequence[int], groups: Sequence[str], ratio: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split image ids so that no group is on both sides; see `split_parts`.

    Args:
        ids: Image ids.
        groups: The group of each id.
        ratio: Share of images of the validation part, in (0, 1); met as closely as the groups allow.
        seed: Seed of the split.

    Returns:
        Training ids and validation ids, each in rising order, neither of them empty.
    """
    training, validation = split_parts(ids, (1 - ratio, ratio), seed, groups)
    return training, validation


def k_folds(
    ids: Sequence[int], k: int, seed: int, groups: Sequence[str] | None = None
) -> list[tuple[list[int], list[int]]]:
    """Return k pairs of training and validation ids; every id is in the validation part of one of them.

    Args:
        ids: Image ids.
        k: Number of folds, at least 2. Their sizes are as equal as the groups allow, within 1 without groups.
        seed: Seed of the split.
        groups: The group of each id, which stays together; None makes each id its own group.
    """
    if k < 2:
        raise ValueError(f"expected at least 2 folds, got {k}")
    parts = split_parts(ids, (1 / k,) * k, seed, groups)
    return [
        (sorted(identity for other in parts if other is not part for identity in other), part)
        for part in parts
    ]


def split_parts(
    ids: Sequence[int], shares: Sequence[float], seed: int, groups: Sequence[str] | None = None
) -> list[list[int]]:
    """Share out image ids over parts of given sizes; a group is never in two of them.

    Largest group first (ties in seeded order), each to the part that lacks most: the usual greedy rule. The
    same ids, groups and seed give the same parts, in any order and on any machine.

    Args:
        ids: Image ids; one given twice counts once.
        shares: Share of the images of each part, above 0, 1 together.
        seed: Seed of the split.
        groups: The group of each id; None makes each id its own group.

    Returns:
        The ids of each part in rising order; no part is empty.

    Raises:
        ValueError: The shares are wrong, an id is in two groups, or there are fewer groups than parts.
    """
    _check_shares(shares)
    members = _members(ids, ids if groups is None else groups)
    if len(members) < len(shares):
        kind = "images" if groups is None else "groups of images"
        raise ValueError(f"expected at least {len(shares)} {kind} for as many parts, got {len(members)}")
    n_images = sum(map(len, members.values()))
    lacking = [share * n_images for share in shares]
    parts: list[list[int]] = [[] for _ in shares]
    by_size = sorted(seeded_order(members, seed), key=lambda group: -len(members[group]))
    for place, group in enumerate(by_size):
        empty = [index for index, part in enumerate(parts) if not part]
        choice = empty if len(empty) == len(by_size) - place else range(len(parts))
        index = max(choice, key=lacking.__getitem__)  # the first of equals
        parts[index] += members[group]
        lacking[index] -= len(members[group])
    return [sorted(part) for part in parts]


def seeded_order(names: Iterable[Any], seed: int) -> list[Any]:
    """Return the different names in an order that depends on them and the seed alone."""
    ordered = sorted(set(names))
    generator = random.Random(seed)
    draws = {name: generator.random() for name in ordered}
    return sorted(ordered, key=draws.__getitem__)


def _check_shares(shares: Sequence[float]) -> None:
    if len(shares) < 2 or not all(0 < share < 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        listed = ", ".join(f"{share:g}" for share in shares)
        raise ValueError(f"expected two or more shares between 0 and 1 that add up to 1, got {listed}")


def _members(ids: Sequence[int], groups: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Return the ids of each group; an id in two groups is a ValueError."""
    if len(ids) != len(groups):
        raise ValueError(f"expected a group for each of {len(ids)} images, got {len(groups)}")
    group_of: dict[int, Hashable] = {}
    for identity, group in zip(ids, groups, strict=True):
        if group_of.setdefault(identity, group) != group:
            raise ValueError(
                f"image {identity}: expected one group, got {group_of[identity]!r} and {group!r}"
            )
    members: dict[Hashable, list[int]] = {}
    for identity, group in group_of.items():
        members.setdefault(group, []).append(identity)
    return members
