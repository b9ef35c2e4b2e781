"""Check the symmetries that categories declare, and propose the pairs that the names suggest."""

from collections.abc import Iterator, Sequence
from itertools import chain

from keypoint_detection.data.coco_parser import CocoCategory, CocoKeypoints
from keypoint_detection.data.symmetry import Symmetry, propose_pairs, read_symmetry
from keypoint_detection.doctor_entries import CategoryEntry, one_line, show
from keypoint_detection.doctor_files import LabelFile
from keypoint_detection.doctor_findings import Finding

SHOWN_PAIRS = 3


def declared_symmetry(category: CategoryEntry) -> Symmetry | str:
    """Return what a category declares, or one line that says how it contradicts itself."""
    alone = CocoKeypoints.model_construct(images=[], annotations=[], categories=[_as_coco(category)])
    try:
        return read_symmetry(alone)
    except ValueError as error:
        return one_line(str(error))


def side_pairs(category: CategoryEntry) -> list[tuple[str, str]]:
    """Return the left and right names of a category: those that it declares, else those that names suggest.

    A declaration that contradicts itself counts as none. Cyclic and interchangeable names have no side.
    """
    symmetry = declared_symmetry(category)
    if isinstance(symmetry, str):
        symmetry = Symmetry()
    if symmetry.pairs is not None:
        return [(left, right) for left, right in symmetry.pairs]
    taken = {*chain(*symmetry.cyclic, *symmetry.interchangeable)}
    suggested = propose_pairs(_as_coco(category))
    return [(left, right) for left, right in suggested if left not in taken and right not in taken]


def proposed_pairs(category: CategoryEntry) -> list[tuple[str, str]]:
    """Return the pairs that names suggest and that the category could declare; none where it declares any."""
    symmetry = declared_symmetry(category)
    if isinstance(symmetry, str) or symmetry.pairs is not None:
        return []
    return side_pairs(category)


def symmetry_findings(labels: LabelFile) -> Iterator[Finding]:
    """Yield the categories whose declared symmetries contradict themselves."""
    for category in labels.categories.values():
        symmetry = declared_symmetry(category)
        if isinstance(symmetry, str):
            message = f"{symmetry}; correct the category, or leave the field out"
            yield Finding("symmetry-inconsistent", "error", message, file=str(labels.path))


def symmetry_proposals(files: Sequence[LabelFile]) -> tuple[str, ...]:
    """Return one line for every category that declares no sides although its names suggest some."""
    lines = []
    for category in chain.from_iterable(labels.categories.values() for labels in files):
        pairs = proposed_pairs(category)
        if pairs:
            listed = ", ".join(f"{show(left)}/{show(right)}" for left, right in pairs[:SHOWN_PAIRS])
            more = f" and {len(pairs) - SHOWN_PAIRS} more" if len(pairs) > SHOWN_PAIRS else ""
            lines.append(
                f"category {category.id} ({category.name}): by their names, {listed}{more} are the left and "
                "right of an object; if so, declare them as its symmetric_keypoints (--fix writes them)"
            )
    return tuple(dict.fromkeys(lines))  # the parts of one data set say the same


def _as_coco(category: CategoryEntry) -> CocoCategory:
    return CocoCategory.model_construct(
        id=category.id,
        name=category.name.strip("'"),  # as the file has it; `show` quotes it
        keypoints=list(category.keypoints),
        **category.symmetries,
    )
