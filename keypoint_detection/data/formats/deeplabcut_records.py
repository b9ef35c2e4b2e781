"""Lay COCO instances out in the columns of a DeepLabCut table, and say what does not fit into one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoKeypoints
from keypoint_detection.data.formats.assembly import labelled_points
from keypoint_detection.data.formats.deeplabcut_config import name_in_yaml
from keypoint_detection.data.formats.deeplabcut_table import UNIQUE, Point

_SYMMETRY_FIELD = "symmetric_keypoints"


@dataclass(frozen=True)
class Labels:
    """Hold labels in DeepLabCut's order.

    Attributes:
        task: Name of the project.
        individuals: The animals of a project of several; empty in one of a single animal.
        body_parts: The points of an animal.
        unique_parts: Points that a frame holds once.
        skeleton: Pairs of body parts.
        symmetries: Left/right pairs of body parts.
        points: Values `[n_columns]` by image id: x and y of every point in pixels, NaN where it is absent;
            the points of the first animal, of the second, ..., then the unique ones.
    """

    task: str
    individuals: Sequence[str]
    body_parts: Sequence[str]
    unique_parts: Sequence[str]
    skeleton: Sequence[tuple[str, str]]
    symmetries: Sequence[tuple[str, str]]
    points: Mapping[int, np.ndarray]


@dataclass
class _Losses:
    """Count what a table cannot hold, by what the note says."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int = 1) -> None:
        """Count something; nothing is not noted."""
        if count:
            self.counts[what] = self.counts.get(what, 0) + count

    def notes(self) -> list[str]:
        """Return a line per kind of loss."""
        return [f"{what} ({count})" for what, count in self.counts.items()]


def labels_of(coco: CocoKeypoints) -> tuple[Labels, list[str]]:
    """Return the labels in DeepLabCut's order, and a note for each kind of thing that has no place there.

    Raises:
        ValueError: A keypoint's name has a form that a table cannot hold.
    """
    losses = _Losses()
    used = [category for category in coco.categories if category.keypoints]
    losses.add("categories without keypoints are left out", len(coco.categories) - len(used))
    for category in used:
        check_names(category.keypoints)
    labelled = _labelled(coco, losses)
    unique = _unique_category(used, labelled)
    animals = [category for category in used if category is not unique]
    most = max([1, *(len(found) for found in _of(labelled, animals).values())])
    parts = list(dict.fromkeys(name for category in animals for name in category.keypoints))
    unique_parts = unique.keypoints if unique else []
    individuals = [f"individual{number}" for number in range(1, most + 1)] if most > 1 or unique else []
    by_id = {category.id: category for category in used}
    columns = {(slot, name): index for index, (slot, name) in enumerate(_slots(most, parts, unique_parts))}
    points = {image.id: np.full((len(columns), 2), np.nan) for image in coco.images}
    for group in (animals, [unique] if unique else []):
        for image_id, found in _of(labelled, group).items():
            for number, annotation in enumerate(found):
                slot = most if group is not animals else number
                for name, (x, y, _) in labelled_points(annotation, by_id[annotation.category_id]).items():
                    points[image_id][columns[slot, name]] = x, y
    _count_losses(coco, animals, losses)
    skeleton = [bone for category in used for bone in _bones(category, losses)]
    symmetries = [pair for category in used for pair in _symmetries(category, losses)]
    flat = {identity: values.reshape(-1) for identity, values in points.items()}
    task = animals[0].name if len(animals) == 1 else "animals"
    return Labels(task, individuals, parts, unique_parts, skeleton, symmetries, flat), losses.notes()


def check_names(names: Sequence[str]) -> None:
    """Refuse names that a table of labels cannot hold: blank, with blanks around them, or there twice.

    Raises:
        ValueError: There is such a name, or none at all.
    """
    for index, name in enumerate(names):
        if not name or name != name.strip() or not name.isprintable() or name in names[:index]:
            raise ValueError(
                f"expected names of keypoints that occur once, on one line, without blanks around them, "
                f"got {name!r}; rename it"
            )
    if not names:
        raise ValueError("expected names of keypoints, got none")


def tight_box(points: Iterable[Point]) -> tuple[float, float, float, float] | None:
    """Return the box of the points as COCO counts, from the image's corner; None where it has no area."""
    columns, rows = zip(*points, strict=True)
    width, height = max(columns) - min(columns), max(rows) - min(rows)
    return (min(columns) + 0.5, min(rows) + 0.5, width, height) if width * height > 0 else None


def _labelled(coco: CocoKeypoints, losses: _Losses) -> list[CocoAnnotation]:
    labelled = [entry for entry in coco.annotations if any(flag > 0 for flag in entry.keypoints[2::3])]
    losses.add("annotations without a labelled point are left out", len(coco.annotations) - len(labelled))
    return labelled


def _of(
    labelled: Sequence[CocoAnnotation], categories: Sequence[CocoCategory]
) -> dict[int, list[CocoAnnotation]]:
    """Return the instances of some categories by image id."""
    identities = {category.id for category in categories}
    found: dict[int, list[CocoAnnotation]] = {}
    for annotation in labelled:
        if annotation.category_id in identities:
            found.setdefault(annotation.image_id, []).append(annotation)
    return found


def _unique_category(used: Sequence[CocoCategory], labelled: Sequence[CocoAnnotation]) -> CocoCategory | None:
    """Return the category `single` beside others, where no image holds it twice."""
    named = [category for category in used if category.name == UNIQUE]
    once = len(named) == 1 < len(used) and all(len(found) == 1 for found in _of(labelled, named).values())
    return named[0] if once else None


def _slots(n_animals: int, body_parts: Sequence[str], unique_parts: Sequence[str]) -> list[tuple[int, str]]:
    """Return the order of the points: animal by animal, and the unique ones last, in a slot of their own."""
    animals = [(animal, name) for animal in range(n_animals) for name in body_parts]
    return [*animals, *((n_animals, name) for name in unique_parts)]


def _bones(category: CocoCategory, losses: _Losses) -> list[tuple[str, str]]:
    names, bones = category.keypoints, []
    for bone in category.skeleton or []:
        if len(bone) == 2 and all(1 <= number <= len(names) for number in bone):
            bones.append((names[bone[0] - 1], names[bone[1] - 1]))
        else:
            losses.add("bones that are no pair of keypoint numbers are left out")
    return bones


def _symmetries(category: CocoCategory, losses: _Losses) -> list[tuple[str, str]]:
    declared, pairs = (category.model_extra or {}).get(_SYMMETRY_FIELD) or [], []
    for pair in declared if isinstance(declared, list) else [declared]:
        if isinstance(pair, list) and len(pair) == 2 and all(part in category.keypoints for part in pair):
            pairs.append((pair[0], pair[1]))
        else:
            losses.add("symmetric keypoints that are no pair of names are left out")
    return pairs


def _count_losses(coco: CocoKeypoints, animals: Sequence[CocoCategory], losses: _Losses) -> None:
    by_id = {category.id: category for category in coco.categories}
    if len(animals) > 1:
        losses.add("categories become one: DeepLabCut's animals are all of one kind", len(animals))
    elif name_in_yaml(animals[0].name) != animals[0].name:
        losses.add("the name of the category is changed: it is blank or spread over several lines")
    losses.add(
        "supercategories are left out", sum(bool(category.supercategory) for category in by_id.values())
    )
    for annotation in coco.annotations:
        flags = annotation.keypoints[2::3]
        losses.add("occluded points (visibility 1) become plain labels", flags.count(1))
        triples = zip(annotation.keypoints[::3], annotation.keypoints[1::3], flags, strict=True)
        losses.add(
            "points of visibility 0 lose their coordinates",
            sum(not v and bool(x or y) for x, y, v in triples),
        )
        losses.add("crowd annotations become plain ones", int(bool(annotation.iscrowd)))
        points = labelled_points(annotation, by_id[annotation.category_id])
        if points:
            _count_box(annotation, tight_box((x, y) for x, y, _ in points.values()), losses)
    _count_extra_fields(coco, losses)


def _count_box(
    annotation: CocoAnnotation, tight: tuple[float, float, float, float] | None, losses: _Losses
) -> None:
    box, area = annotation.bbox, annotation.area
    if box is not None and (tight is None or not np.allclose(box, tight, rtol=0, atol=1e-6)):
        losses.add("boxes that are not the tight box of their points are left out")
    if area is not None and (tight is None or not math.isclose(area, tight[2] * tight[3], abs_tol=1e-6)):
        losses.add("areas that are not the area of that box are left out")


def _count_extra_fields(coco: CocoKeypoints, losses: _Losses) -> None:
    sections = {"the file": [coco], "images": coco.images, "categories": coco.categories}
    for section, entries in {**sections, "annotations": coco.annotations}.items():
        for entry in entries:
            for name, value in (entry.model_extra or {}).items():
                if name != _SYMMETRY_FIELD and value is not None:
                    losses.add(f"the field {name!r} of {section} is left out")
    for name in ("info", "licenses"):
        losses.add(f"the field {name!r} of the file is left out", int(bool(getattr(coco, name))))
