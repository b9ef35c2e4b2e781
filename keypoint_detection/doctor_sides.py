"""The mirror test: instances whose left and right lie the other way round than in nearly all others.

For a pair such as left ear and right ear, the line from left to right is compared with a direction of the
same instance: towards another keypoint or the middle of another pair. The sine of the angle between them
keeps its sign when the animal turns, moves or bends a little, and changes it when the two names are
exchanged; which sign is right is learned from the majority. Where an object is seen from the front and from
behind in turn there is no majority; then pairs are compared with each other (eyes with shoulders), which does
not depend on the view.
Source: ours.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.doctor_entries import show
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.doctor_labels import InstanceTable
from keypoint_detection.doctor_symmetry import side_pairs

MIN_INSTANCES = 20
"""Fewer instances say nothing about which side is right."""
MIN_AGREEMENT = 0.9
"""Share of the clear instances that must agree before the others are doubted."""
CLEAR = 0.3
"""A sine (or cosine) of at least this size is clear; smaller ones may have any sign by chance."""
DOUBTFUL = -0.5
"""Mean over all comparisons at or below which an instance is reported; the majority is positive."""
MAX_UNCLEAR = 0.3
"""A comparison that is unclear for a larger share of instances varies too much to accuse any."""
NARROW_SHARE = 0.5
"""A pair that is narrower than this share of its usual width, as a part of its instance, is seen edge-on."""
_SHORTEST_PX = 2.0


class _Majority(NamedTuple):
    """Hold what m comparisons of n instances say: `agreement` `[n, m]` is positive where one is with most."""

    agreement: NDArray[np.float64]
    trusted: NDArray[np.bool_]


def side_findings(tables: Sequence[InstanceTable]) -> Iterator[Finding]:
    """Yield the instances whose left and right look swapped; tables of one kind judge together.

    The sides are those that the category declares, else those that its names suggest.
    """
    alike: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], list[InstanceTable]] = {}
    for table in tables:
        key = (table.category.keypoints, tuple(side_pairs(table.category)))
        alike.setdefault(key, []).append(table)
    for (names, pairs), same in alike.items():
        if pairs:
            columns = [(names.index(left), names.index(right)) for left, right in pairs]
            yield from _group_findings(same, columns)


def _group_findings(tables: Sequence[InstanceTable], pairs: list[tuple[int, int]]) -> Iterator[Finding]:
    xy = np.concatenate([table.xy for table in tables])
    owner = [(table, row) for table in tables for row in range(len(table.xy))]
    doubted = np.stack([doubted_instances(xy, pairs, index) for index in range(len(pairs))], axis=1)
    for number in np.flatnonzero(doubted.any(1)):
        table, row = owner[number]
        names = table.category.keypoints
        swapped = [pairs[index] for index in np.flatnonzero(doubted[number])]
        listed = ", ".join(f"{show(names[left])}/{show(names[right])}" for left, right in swapped[:3])
        more = f" and {len(swapped) - 3} more" if len(swapped) > 3 else ""
        message = (
            f"expected {listed}{more} on the sides where they are in nearly all of {len(xy)} instances, got "
            "them the other way round; look, and exchange the names unless it is seen from its other side"
        )
        yield table.finding("sides-swapped", "warning", row, message)


def doubted_instances(
    xy: NDArray[np.float64], pairs: Sequence[tuple[int, int]], index: int
) -> NDArray[np.bool_]:
    """Return which instances hold one pair the other way round than most.

    Args:
        xy: `[n, k, 2]`, NaN where not labelled.
        pairs: Columns of the two keypoints of each pair.
        index: The pair to judge.

    Returns:
        `[n]`.
    """
    left, right = pairs[index]
    across, middle = _across(xy, (left, right)), (xy[:, right] + xy[:, left]) / 2
    others = [pair for number, pair in enumerate(pairs) if number != index]
    paired = {column for pair in pairs for column in pair}
    single = [column for column in range(xy.shape[1]) if column not in paired]
    places = [xy[:, column] for column in single] + [(xy[:, a] + xy[:, b]) / 2 for a, b in others]
    sines = [_angle_parts(across, place - middle)[0] for place in places]
    cosines = [_angle_parts(across, _across(xy, pair))[1] for pair in others]
    for columns in (sines, cosines):
        majority = _majority(columns, len(xy))
        if majority.trusted.any():
            return _disagrees(majority)
    return np.zeros(len(xy), bool)


def _across(xy: NDArray[np.float64], pair: tuple[int, int]) -> NDArray[np.float64]:
    """Return the way from the left to the right keypoint, `[n, 2]`; NaN where it is seen nearly edge-on."""
    across = xy[:, pair[1]] - xy[:, pair[0]]
    known = np.isfinite(xy)
    high, low = np.where(known, xy, -np.inf).max(1), np.where(known, xy, np.inf).min(1)
    extent = np.hypot(*np.maximum(high - low, _SHORTEST_PX).T)
    width = np.hypot(*across.T) / extent
    both = np.isfinite(width)
    usual = float(np.median(width[both])) if both.any() else 0.0
    return np.where((width >= NARROW_SHARE * usual)[:, None], across, np.nan)


def _angle_parts(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sine and cosine of the angle from `first` to `second`, each `[n]`; NaN if one is too short."""
    lengths = np.hypot(*first.T), np.hypot(*second.T)
    product = np.where(
        (lengths[0] >= _SHORTEST_PX) & (lengths[1] >= _SHORTEST_PX), lengths[0] * lengths[1], np.nan
    )
    cross = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    return cross / product, (first * second).sum(1) / product


def _majority(columns: Sequence[NDArray[np.float64]], num_instances: int) -> _Majority:
    values = np.stack(columns, 1) if columns else np.zeros((num_instances, 0))
    clear = np.abs(values) >= CLEAR  # NaN is not clear
    positive, negative = (clear & (values > 0)).sum(0), (clear & (values < 0)).sum(0)
    most, num_clear = np.maximum(positive, negative), positive + negative
    unclear = np.isfinite(values).sum(0) - num_clear
    trusted = (
        (num_clear >= MIN_INSTANCES)
        & (most >= MIN_AGREEMENT * num_clear)
        & (unclear <= MAX_UNCLEAR * (num_clear + unclear))
    )
    return _Majority(values * np.where(positive >= negative, 1.0, -1.0), trusted)


def _disagrees(majority: _Majority) -> NDArray[np.bool_]:
    """Return which instances have no clear comparison with the majority, and a mean clearly against it."""
    votes = majority.agreement[:, majority.trusted]
    counts = np.isfinite(votes).sum(1)
    mean = np.where(np.isfinite(votes), votes, 0.0).sum(1) / np.maximum(counts, 1)
    return (counts > 0) & (mean <= DOUBTFUL) & ~(votes >= CLEAR).any(1)
