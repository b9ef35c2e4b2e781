"""The length by which the errors of an instance are divided: one number of pixels per labelled instance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.registry import nearest_name

NORMALIZERS = ("auto", "pixels", "reference", "head_size", "box_diagonal", "box_side", "image_diagonal")

_TEXTS = {"head_size": "head size", "box_diagonal": "box diagonal", "box_side": "longer side of the box"}
_NEEDS = {
    "reference": "instances in which both reference keypoints are labelled, at different places",
    "head_size": "a 'head_box' [x, y, width, height] in the annotations",
    "box_diagonal": "a 'bbox' of positive size in the annotations",
    "box_side": "a 'bbox' of positive size in the annotations",
}


@dataclass(frozen=True)
class LengthNormalizer:
    """Name a length of an instance.

    Attributes:
        name: One of `NORMALIZERS`.
        reference: The two keypoint names of "reference", else None.
    """

    name: str
    reference: tuple[str, str] | None = None

    def describe(self) -> str:
        """Return a text for tables and contracts, such as `distance "eye top" - "eye bottom"`."""
        if self.reference is not None:
            return 'distance "{}" - "{}"'.format(*self.reference)
        return _TEXTS.get(self.name, self.name.replace("_", " "))


def resolve_normalizer(table: KeypointTable, normalizer: LengthNormalizer) -> LengthNormalizer:
    """Return the normaliser that a data set gets: a checked one, and a definite one for "auto".

    "auto" is "box_side" where every labelled instance has a box of positive size, else "image_diagonal".

    Raises:
        ValueError: The name is unknown, or the reference is not two different keypoint names of the file.
    """
    if normalizer.name not in NORMALIZERS:
        hint = nearest_name(normalizer.name, NORMALIZERS)
        raise ValueError(f"expected a normaliser of {', '.join(NORMALIZERS)}, got {normalizer.name!r}.{hint}")
    if normalizer.name == "reference" or normalizer.reference is not None:
        _check_reference(table, normalizer)
    if normalizer.name != "auto":
        return normalizer
    labelled = np.unique(table.instance)
    has_boxes = (table.box[labelled, 2:] > 0).all()  # NaN is not above 0
    return LengthNormalizer("box_side" if len(labelled) and has_boxes else "image_diagonal")


def instance_lengths(table: KeypointTable, normalizer: LengthNormalizer) -> NDArray[np.float32]:
    """Return the length of each of m instances.

    Args:
        table: The data set.
        normalizer: Which length; see `resolve_normalizer` for "auto".

    Returns:
        float32 `[m]`, pixels of the original image, above 0; NaN where the instance does not have this length
        or it is 0. "pixels" gives 1, so that errors stay in pixels.

    Raises:
        ValueError: The normaliser is wrong, or no labelled instance has this length.
    """
    normalizer = resolve_normalizer(table, normalizer)
    lengths = _lengths(table, normalizer).astype(np.float32)  # before the comparison: 1e-200 becomes 0
    lengths[~(lengths > 0)] = np.nan
    labelled = np.unique(table.instance)
    if len(labelled) and np.isnan(lengths[labelled]).all():
        need = _NEEDS.get(normalizer.name, "a positive length")
        raise ValueError(
            f"{table.json_path}: the normaliser {normalizer.describe()} expected {need}, got none in "
            f"{len(labelled)} labelled instances; add it to the file, or use another normaliser such as "
            "'image_diagonal'"
        )
    return lengths


def _lengths(table: KeypointTable, normalizer: LengthNormalizer) -> NDArray[np.floating]:
    """Return the lengths `[m]` as they are: NaN or 0 where an instance has none."""
    match normalizer.name:
        case "reference":
            return _reference_distances(table, normalizer.reference or ())
        case "head_size":
            return table.head_size
        case "box_diagonal":
            return _positive_box_sides(table, np.hypot)
        case "box_side":
            return _positive_box_sides(table, np.maximum)
        case "image_diagonal":
            diagonals = np.hypot(*table.image_hw.T.astype(np.float64))
            return np.repeat(diagonals, np.diff(table.first_instance))
    return np.ones(len(table.box))


def _positive_box_sides(table: KeypointTable, combine: np.ufunc) -> NDArray[np.floating]:
    sides = table.box[:, 2:].astype(np.float64)
    return combine(*np.where((sides > 0).all(1, keepdims=True), sides, np.nan).T)


def _reference_distances(table: KeypointTable, names: tuple[str, ...]) -> NDArray[np.float64]:
    ends = np.full((2, len(table.box), 2), np.nan)
    for end, name in enumerate(names):
        points = table.name_index == table.names.index(name)
        ends[end, table.instance[points]] = table.xy[points]
    return np.hypot(*(ends[0] - ends[1]).T)


def _check_reference(table: KeypointTable, normalizer: LengthNormalizer) -> None:
    names = normalizer.reference
    if normalizer.name != "reference":
        raise ValueError(
            f"expected reference keypoints with the normaliser 'reference' only, got {names} with "
            f"{normalizer.name!r}; leave out one of them"
        )
    if names is None or len(names) != 2 or names[0] == names[1]:
        raise ValueError(
            f"the normaliser 'reference' expected two different keypoint names of {table.json_path}, got "
            f"{names}; it has {', '.join(table.names)}"
        )
    for name in names:
        if name not in table.names:
            raise ValueError(
                f"expected reference keypoints of {table.json_path}, got {name!r}; it has "
                f"{', '.join(table.names)}.{nearest_name(name, table.names)}"
            )
