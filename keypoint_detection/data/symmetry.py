"""Which keypoints of a category change places: declared once, in the COCO category, and used everywhere.

A category may carry three fields, each a list of lists of its keypoint names:

- `symmetric_keypoints`: pairs such as `["left_eye", "right_eye"]` that change places in a mirror. An empty
  list says that no name has a side. Without the field the pairs are found from the names.
- `cyclic_keypoints`: points that go around an outline in one direction, such as the corners of a sheet, where
  the first one is arbitrary. A mirror turns the direction round, so that the names are reversed.
- `interchangeable_keypoints`: points that nothing tells apart, such as the leaves of a plant.

Points whose names are arbitrary must share a channel: a network cannot learn which of them is the first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from keypoint_detection.data.channels import Channels, MirrorMap, channel_name, mirror_names
from keypoint_detection.data.coco_parser import CocoCategory, CocoKeypoints
from keypoint_detection.registry import nearest_name

FIELDS = ("symmetric_keypoints", "cyclic_keypoints", "interchangeable_keypoints")

Names = tuple[str, ...]


@dataclass(frozen=True)
class Symmetry:
    """Hold what the categories of a file declare.

    Attributes:
        pairs: Names that change places in a mirror; None where no category declares any.
        cyclic: Sets of names around an outline, the first one arbitrary.
        interchangeable: Sets of names that nothing tells apart.
    """

    pairs: tuple[Names, ...] | None = None
    cyclic: tuple[Names, ...] = ()
    interchangeable: tuple[Names, ...] = ()

    def mirror(self, names: Sequence[str], pairs: Iterable[Sequence[str]] | None = None) -> MirrorMap:
        """Return what each name becomes in a mirror.

        Args:
            names: Keypoint names of the data set.
            pairs: Pairs that replace the declared ones; None takes those, or finds them from the names.
        """
        chosen = self.pairs if pairs is None else pairs
        found = mirror_names(names, chosen)
        grouped = {*chain(*self.cyclic, *self.interchangeable)}
        swap = {name: name if name in grouped else other for name, other in found.swap.items()}
        for group in self.cyclic:
            swap |= dict(zip(group, (group[0], *group[:0:-1]), strict=True))
        return MirrorMap(swap, [name for name in found.unpaired if name not in grouped])

    def check_channels(self, channels: Channels) -> None:
        """Raise a ValueError when points whose names are arbitrary are in different channels."""
        for kind, groups in (("cyclic", self.cyclic), ("interchangeable", self.interchangeable)):
            for group in groups:
                apart = [channel for channel in channels if {*channel} & {*group} and {*group} - {*channel}]
                if apart:
                    raise ValueError(
                        f"the category declares {', '.join(group)} {kind}, so they must share a channel, got "
                        f"the channel {channel_name(apart[0])!r}; join them as "
                        f"{' = '.join(group)!r} in --keypoint_channel_configuration"
                    )


def read_symmetry(coco: CocoKeypoints) -> Symmetry:
    """Return what the categories of a file declare, all together.

    Raises:
        ValueError: A field is not a list of lists of keypoint names of its category, a pair does not have two
            names, or a name is declared twice; one line that names the category.
    """
    declared: dict[str, list[Names]] = {}
    for category in coco.categories:
        seen: set[str] = set()
        for field in FIELDS:
            groups = (category.model_extra or {}).get(field)
            if groups is None:
                continue
            declared.setdefault(field, []).extend(_checked(category, field, groups, seen))
    pairs = declared.get("symmetric_keypoints")
    return Symmetry(
        None if pairs is None else tuple(dict.fromkeys(pairs)),
        tuple(dict.fromkeys(declared.get("cyclic_keypoints", []))),
        tuple(dict.fromkeys(declared.get("interchangeable_keypoints", []))),
    )


def propose_pairs(category: CocoCategory) -> list[list[str]]:
    """Return the pairs that the names of a category suggest, in its order, each once."""
    swap = mirror_names(category.keypoints, None).swap
    order = {name: index for index, name in enumerate(category.keypoints)}
    return [[name, swap[name]] for name in category.keypoints if order[name] < order[swap[name]]]


def _checked(category: CocoCategory, field: str, groups: object, seen: set[str]) -> list[Names]:
    """Return the groups of a field; names that are wrong or in `seen` raise, and `seen` grows."""
    where = f"category {category.id} ({category.name!r}), field {field!r}"
    is_list = isinstance(groups, list) and all(isinstance(group, list) for group in groups)
    if not is_list:
        raise ValueError(f"{where}: expected a list of lists of keypoint names, got {str(groups)[:60]}")
    checked: list[Names] = []
    for group in groups:  # pyright: ignore[reportGeneralTypeIssues]
        least = 2 if field != "cyclic_keypoints" else 3
        if len(group) < least or (field == "symmetric_keypoints" and len(group) != 2):
            expected = "two names" if field == "symmetric_keypoints" else f"{least} names or more"
            raise ValueError(f"{where}: expected {expected} in each list, got {str(group)[:60]}")
        for name in group:
            if name not in category.keypoints:
                hint = nearest_name(str(name), category.keypoints)
                raise ValueError(f"{where}: expected keypoint names of the category, got {name!r}.{hint}")
            if name in seen:
                raise ValueError(f"{where}: expected every name once in all symmetries, got {name!r} twice")
            seen.add(name)
        checked.append(tuple(group))
    return checked
