"""What a DeepLabCut project's `config.yaml` says about its labels: task, scorer, skeleton, left and right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

SYMMETRY_KEYS = ("symmetric_keypoints", "symmetric_pairs", "symmetries", "symmetry")
"""DeepLabCut has no field of its own for left and right in config.yaml; these are the ones in use."""

_ABSENT = frozenset(("", "null", "Null", "NULL", "~"))
_Group = TypeVar("_Group")


@dataclass(frozen=True)
class ProjectConfig:
    """Hold the settings that matter for labels.

    Attributes:
        path: The file, which need not exist.
        task: Name of the project, or None.
        scorer: Whose labels the project is about, or None.
        skeleton: As the file has it: pairs of body parts, if it is right.
        symmetries: As the file has it: pairs of body parts, or of their positions in `body_parts` from 0.
        body_parts: The body parts in the file's order.
    """

    path: Path
    task: str | None = None
    scorer: str | None = None
    skeleton: Any = None
    symmetries: Any = None
    body_parts: tuple[str, ...] = ()


def read_config(path: Path) -> ProjectConfig:
    """Read the settings; a file that is not there gives none.

    Every scalar stays the text that it is: a body part may be called `1` or `no`.

    Raises:
        ValueError: The file is no YAML.
    """
    if not path.is_file():
        return ProjectConfig(path)
    try:
        fields = yaml.load(
            path.read_bytes(), Loader=yaml.BaseLoader
        )  # makes nothing but text, lists and maps
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected DeepLabCut's settings as YAML; {reason}") from None
    if not isinstance(fields, dict):
        return ProjectConfig(path)
    parts = fields.get("bodyparts")
    if not isinstance(parts, list):  # a project of several animals says `MULTI!` there
        parts = fields.get("multianimalbodyparts")
    return ProjectConfig(
        path,
        task=name_in_yaml(fields.get("Task")),
        scorer=name_in_yaml(fields.get("scorer")),
        skeleton=fields.get("skeleton"),
        symmetries=next((fields[key] for key in SYMMETRY_KEYS if key in fields), None),
        body_parts=tuple(map(str, parts)) if isinstance(parts, list) else (),
    )


def skeleton_pairs(
    config: ProjectConfig, names: Mapping[_Group, Sequence[str]]
) -> tuple[dict[_Group, list[tuple[str, str]]], list[str]]:
    """Return the bones of each group of body parts, and a line for everything that is no bone of one."""
    return _pairs(f"{config.path} skeleton", config.skeleton, names)


def symmetric_pairs(
    config: ProjectConfig, names: Mapping[_Group, Sequence[str]]
) -> tuple[dict[_Group, list[tuple[str, str]]], list[str]]:
    """Return the declared left/right pairs of each group of body parts, and a line for what is no such pair.

    Positions (as in DeepLabCut's training settings) become names where no body part is called so.
    """
    every = {name for group in names.values() for name in group}
    declared = config.symmetries
    if isinstance(declared, list):
        numbered = {
            str(index): name for index, name in enumerate(config.body_parts) if str(index) not in every
        }
        declared = [
            [numbered.get(part, part) if isinstance(part, str) else part for part in pair]
            if isinstance(pair, list)
            else pair
            for pair in declared
        ]
    pairs, notes = _pairs(f"{config.path} symmetries", declared, names)
    seen: set[str] = set()
    for group in pairs.values():
        for pair in list(group):
            if seen.intersection(pair):
                group.remove(pair)
                notes.append(
                    f"{config.path} symmetries: left out {list(pair)!r}: one of them is in a pair already"
                )
            seen.update(pair)
    return pairs, notes


def _pairs(
    where: str, declared: Any, names: Mapping[_Group, Sequence[str]]
) -> tuple[dict[_Group, list[tuple[str, str]]], list[str]]:
    pairs: dict[_Group, list[tuple[str, str]]] = {group: [] for group in names}
    if declared is None or (isinstance(declared, str) and declared in _ABSENT):
        return pairs, []
    if not isinstance(declared, list):
        return pairs, [f"{where}: left out, it is no list of pairs of body parts: {declared!r:.80}"]
    notes = []
    for pair in declared:
        problem = _problem(pair, names)
        if problem:
            notes.append(f"{where}: left out {pair!r:.80}: {problem}")
            continue
        group = next(group for group, parts in names.items() if set(pair) <= set(parts))
        pairs[group].append((pair[0], pair[1]))
    return pairs, notes


def _problem(pair: Any, names: Mapping[_Group, Sequence[str]]) -> str | None:
    """Return what keeps an entry from being a pair of two body parts of one group."""
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        return "it is no pair of body parts"
    every = {name for group in names.values() for name in group}
    unknown = [part for part in pair if part not in every]
    if unknown:
        return f"there are no labels of {' and '.join(map(repr, unknown))}"
    if pair[0] == pair[1]:
        return "it names one body part twice"
    if not any(set(pair) <= set(parts) for parts in names.values()):
        return "it joins an animal's body part and a unique one"
    return None


def name_in_yaml(value: Any) -> str | None:
    """Return a name on one line, or None for a blank."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return None if text in _ABSENT else text
