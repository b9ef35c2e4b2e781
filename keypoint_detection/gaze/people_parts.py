"""Parts of a table of people: fewer of them, both sides of a split, annotators without the outliers.

A person is one row with all its annotators: no part ever holds some of them.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.splits import group_split, seeded_order
from keypoint_detection.gaze.people_table import GazeTable

_FEWEST_TO_JUDGE = 3
"""Of two annotators who disagree neither is the outlier."""


def subsample(
    table: GazeTable,
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int,
    whole_groups: bool = False,
) -> GazeTable:
    """Return some of the people at random, in the order of the table.

    The same names and seed give the same choice, in any order of the rows and on any machine.

    Args:
        table: The people.
        share: Share of the people to keep, in (0, 1]; at least one of them stays.
        count: Number of people to keep instead, at least 1; all of them if there are fewer.
        seed: Seed of the choice.
        whole_groups: Choose whole groups (clips or images) instead: share and count are of groups.

    Raises:
        ValueError: Not exactly one of share and count is given, or it is out of range.
    """
    names = table.group if whole_groups else table.person
    kept = set(_chosen(names, share, count, seed))
    return table.select(np.array([name in kept for name in names], dtype=bool))


def split(table: GazeTable, ratio: float, seed: int) -> tuple[GazeTable, GazeTable]:
    """Return people to train on and to validate on; no group is on both sides.

    Args:
        table: The people.
        ratio: Share of people to validate on, in (0, 1); met as closely as the groups allow.
        seed: Seed of the split.

    Raises:
        ValueError: The ratio is out of range, or there are fewer than two groups.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"expected a validation split ratio between 0 and 1 (both excluded), got {ratio}")
    n_groups = len(set(table.group))
    if n_groups < 2:
        raise ValueError(
            f"expected people of at least 2 clips or images to split into two parts, got {n_groups}; "
            "add data, or give the people to validate on as a file of their own"
        )
    training, validation = group_split(range(len(table)), table.group, ratio, seed)
    return table.select(training), table.select(validation)


def sample_frames(images: Sequence[str], groups: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose images at random within each group: the people of an image are chosen together.

    The choice within a group depends on its name, its images and the seed, not on the other groups.

    Args:
        images: Image of each person, `[p]`.
        groups: Group (clip) of each person, `[p]`.
        share: Share of the images of each group, in (0, 1]; at least one of them stays.
        seed: Seed of the choice.

    Returns:
        True for the people of the images chosen, `[p]`.
    """
    frames_of: dict[str, set[str]] = {}
    for image, group in zip(images, groups, strict=True):
        frames_of.setdefault(group, set()).add(image)
    kept = {
        (group, frame)
        for group, frames in frames_of.items()
        for frame in _chosen(frames, share, None, zlib.crc32(f"{seed}/{group}".encode()))
    }
    pairs = zip(groups, images, strict=True)
    return np.array([pair in kept for pair in pairs], dtype=bool)


def drop_outliers(table: GazeTable, percentile: float) -> GazeTable:
    """Drop the points of annotators who are far from the others who looked at the same person.

    Of each person, points are dropped that are farther from the mean of its points (in shares of width and
    height of the image) than the given percentile of these distances. People with fewer than three annotators
    stay as they are; one point of every person stays at least.

    Args:
        table: The people.
        percentile: In [0, 100]; 100 drops nothing.

    Returns:
        The same people; the points that remain come first, the rest is NaN.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"expected a percentile of distances from 0 to 100, got {percentile}")
    counts, is_point = table.n_annotators, np.isfinite(table.gaze_xy).all(-1)
    relative = table.gaze_xy / table.person_hw[:, None, ::-1]
    mean = np.nansum(relative, axis=1) / np.maximum(counts, 1)[:, None]
    distance = np.linalg.norm(relative - mean[:, None], axis=-1)
    limit = _percentile(distance, counts, percentile)
    # equal distances differ by rounding: the limit gives way by a hair
    is_kept = is_point & ((distance <= limit[:, None] + 1e-9) | (counts < _FEWEST_TO_JUDGE)[:, None])
    order = np.argsort(~is_kept, axis=1, kind="stable")[..., None]
    kept = np.where(is_kept[..., None], table.gaze_xy, np.nan)
    return replace(table, gaze_xy=np.take_along_axis(kept, order, axis=1))


def _percentile(
    distance: NDArray[np.float64], counts: NDArray[np.int64], percentile: float
) -> NDArray[np.float64]:
    """Return the percentile of each row's first `counts` sorted values, NaN last, interpolated, `[p]`."""
    if not distance.shape[1]:
        return np.full(len(distance), np.nan)
    ordered = np.sort(distance, axis=1)
    place = np.maximum(counts - 1, 0) * (percentile / 100)
    low, high = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
    rows = np.arange(len(distance))
    below, above = ordered[rows, low], ordered[rows, high]
    return below + (place - low) * (above - below)


def _chosen(names: Sequence[str] | set[str], share: float | None, count: int | None, seed: int) -> list[str]:
    """Return a share or a number of the different names, at random."""
    if (share is None) == (count is None):
        raise ValueError("expected a share or a count of what to keep, and not both")
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"expected a share above 0 and up to 1, got {share}")
    if count is not None and count < 1:
        raise ValueError(f"expected a count of 1 or more, got {count}")
    ordered = seeded_order(names, seed)
    wanted = max(math.floor((share or 0) * len(ordered) + 0.5), 1) if count is None else count
    return ordered[:wanted]
