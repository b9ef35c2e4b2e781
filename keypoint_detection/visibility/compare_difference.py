"""How far each of several groups is from the best one, on the same resamples of the same points."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keypoint_detection.compare_folds import differences_of_folds
from keypoint_detection.fold_scores import FoldUnit, Resampling, mean_over_folds
from keypoint_detection.metrics.binary_classification import SCORES
from keypoint_detection.metrics.bootstrap import Resamples
from keypoint_detection.metrics.paired_bootstrap import Difference

LOWER_IS_BETTER = ("loss", "brier", "ece", "ece_equal_mass")
"""The numbers that get better downwards; all others get better upwards."""


class GroupDifference(NamedTuple):
    """Hold how far a group is from the best one.

    Attributes:
        group: Name of the group.
        metric: One of `SCORES`.
        best: The group whose mean over the folds is best.
        difference: Of the means: that of `group` minus that of `best`.
    """

    group: str
    metric: str
    best: str
    difference: Difference

    @property
    def is_shown(self) -> bool:
        """Return whether the interval leaves out 0: the two differ by more than chance."""
        return self.difference.low > 0 or self.difference.high < 0


def differences_to_best(
    resamples: Mapping[str, list[Resamples]], unit: FoldUnit, resampling: Resampling
) -> tuple[GroupDifference, ...]:
    """Return how far every group is from the best one, for each of `SCORES`.

    Args:
        resamples: By group, a part per fold with the numbers of `SCORES`; a fold is drawn alike for all
            groups. The best group may be another one for each number.
        unit: What was drawn.
        resampling: Gives the level, and the seed where whole folds are drawn.
    """
    means = {
        group: mean_over_folds(folds, SCORES, unit, resampling).estimate for group, folds in resamples.items()
    }
    found = []
    for place, metric in enumerate(SCORES):
        values = {group: float(mean[place]) for group, mean in means.items()}
        best = best_group(metric, values)
        others = [] if best is None else [group for group in values if group != best]
        for group in others:
            one, other = (_of_one_number(resamples[side], place) for side in (best or "", group))
            difference = differences_of_folds(one, other, [metric], unit, resampling)[metric]
            found.append(GroupDifference(group, metric, best or "", difference))
    return tuple(found)


def best_group(metric: str, values: Mapping[str, float]) -> str | None:
    """Return the group with the best number, the first of equals; None where no group has it."""
    defined = {group: value for group, value in values.items() if not math.isnan(value)}
    choose = min if metric in LOWER_IS_BETTER else max
    return choose(defined, key=defined.__getitem__) if defined else None


def _of_one_number(folds: Sequence[Resamples], place: int) -> list[Resamples]:
    return [Resamples(*(part[..., [place]] for part in fold)) for fold in folds]
