"""Fewer keypoints of a category, or another order: names, bones, symmetries and labels together."""

from collections.abc import Sequence
from typing import Any

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory
from keypoint_detection.data.symmetry import FIELDS


def choose_keypoints(category: CocoCategory, names: Sequence[str]) -> tuple[CocoCategory, list[str]]:
    """Return a category with these of its keypoints, in this order, and notes on what went with the others.

    Bones are kept where both ends are; so are pairs of symmetric names. Sets of cyclic or interchangeable
    names shrink. Any other list with one entry per keypoint, such as `sigmas`, is chosen from likewise.
    """
    where = f"category {category.name!r}"
    place = {name: category.keypoints.index(name) for name in names}
    number = {old + 1: new for new, old in enumerate(place.values(), start=1)}
    changes: dict[str, Any] = {"keypoints": list(names)}
    notes: list[str] = []
    if category.skeleton is not None:
        bones = [bone for bone in category.skeleton if all(end in number for end in bone)]
        changes["skeleton"] = [[number[end] for end in bone] for bone in bones]
        if len(bones) < len(category.skeleton):
            notes.append(f"{where}: {len(category.skeleton) - len(bones)} bones ended at a keypoint left out")
    chosen = category.model_copy(update=changes, deep=True)
    extra = chosen.model_extra or {}
    for field, value in list(extra.items()):
        if field in FIELDS:
            notes += _shrink_sets(extra, field, number, category, where)
        elif isinstance(value, list) and len(value) == len(category.keypoints):
            extra[field] = [value[old] for old in place.values()]
    return chosen, notes


def choose_labels(annotation: CocoAnnotation, old: Sequence[str], new: Sequence[str]) -> CocoAnnotation:
    """Return an annotation with the points of other names; those that are not among the old are absent."""
    values = annotation.keypoints
    triples = {name: values[3 * index : 3 * index + 3] for index, name in enumerate(old)}
    chosen = [number for name in new for number in triples.get(name, [0.0, 0.0, 0.0])]
    changes: dict[str, Any] = {"keypoints": chosen}
    if annotation.num_keypoints is not None:
        changes["num_keypoints"] = sum(flag > 0 for flag in chosen[2::3])
    return annotation.model_copy(update=changes)


def _shrink_sets(
    extra: dict[str, Any], field: str, number: dict[int, int], category: CocoCategory, where: str
) -> list[str]:
    """Take the names that go out of the sets of a symmetry field; return a note on sets that end."""
    groups = extra[field]
    if not (isinstance(groups, list) and all(isinstance(group, list) for group in groups)):
        return []  # not ours to read: `read_symmetry` says what is wrong with it
    kept_names = [category.keypoints[old - 1] for old in number]
    least = {"symmetric_keypoints": 2, "cyclic_keypoints": 3}.get(field, 2)
    shrunk = [[name for name in group if name in kept_names] for group in groups]
    whole = [group for group in shrunk if len(group) >= least]
    ended = sum(0 < len(group) < least for group in shrunk)
    extra[field] = whole
    if groups and not whole:
        del extra[field]  # an empty list of pairs would say that no name has a side
    return [f"{where}: {ended} sets of {field} lost a name and are left out"] if ended else []
