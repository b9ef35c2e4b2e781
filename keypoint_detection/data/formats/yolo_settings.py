"""The `data.yaml` of a YOLO pose data set, checked field by field."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from keypoint_detection.data.formats.json_fields import shorten

SPLITS = ("train", "val", "test")
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_FIELDS = frozenset((*SPLITS, "path", "kpt_shape", "flip_idx", "names", "kpt_names", "nc"))
_EMPTY = frozenset(("", "~", "null", "None"))
_MOST = 10_000  # classes, or keypoints of one class: more is a slip, not a data set


@dataclass(frozen=True)
class YoloSettings:
    """Hold what `data.yaml` says.

    Attributes:
        path: The file.
        roots: Folders that the splits may be relative to, the likeliest first.
        splits: Paths of images as the file spells them, by split.
        class_names: Name of every class.
        keypoint_names: Names of the keypoints of every class, k each.
        n_values: Numbers per keypoint: 2, or 3 with a visibility.
        flip_idx: Number of the keypoint that each becomes in a mirror; None where the file does not say.
        unknown: Fields that mean nothing here.
    """

    path: Path
    roots: tuple[Path, ...]
    splits: dict[str, list[str]]
    class_names: list[str]
    keypoint_names: list[list[str]]
    n_values: int
    flip_idx: list[int] | None
    unknown: list[str]


def read_yolo_settings(source: Path) -> YoloSettings:
    """Read the settings of a data set.

    Args:
        source: `data.yaml`, or the folder that holds it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or a field is missing or makes no sense; one line that names the field.
    """
    path = _find(Path(os.path.abspath(source)))
    content = _load(path)
    n_keypoints, n_values = _kpt_shape(content.get("kpt_shape"), f"{path}, field 'kpt_shape'")
    class_names = _class_names(content, path)
    splits = {split: _entries(content.get(split), f"{path}, field {split!r}") for split in SPLITS}
    if not any(splits.values()):
        raise ValueError(f"{path}: expected the images of {', '.join(SPLITS)}, got none of these fields")
    named_root = content.get("path")
    roots = [path.parent / named_root] if isinstance(named_root, str) and not _is_empty(named_root) else []
    keypoint_names = _keypoint_names(content.get("kpt_names"), len(class_names), n_keypoints, path)
    return YoloSettings(
        path=path,
        roots=tuple(Path(os.path.abspath(root)) for root in (*roots, path.parent)),
        splits=splits,
        class_names=class_names,
        keypoint_names=keypoint_names,
        n_values=n_values,
        flip_idx=_flip_idx(content.get("flip_idx"), n_keypoints, f"{path}, field 'flip_idx'"),
        unknown=[str(name) for name in content if name not in _FIELDS],
    )


def _find(source: Path) -> Path:
    if os.path.isfile(source):
        return source
    if not os.path.isdir(source):
        raise FileNotFoundError(
            f"expected a YOLO pose data set at {source}, found nothing; give its data.yaml"
        )
    known = [source / name for name in _NAMES if (source / name).is_file()]
    found = known[:1] or sorted(path for path in source.glob("*.y*ml") if path.is_file())
    if len(found) != 1:
        raise FileNotFoundError(
            f"expected data.yaml in {source}, found {len(found)} other YAML files; give the file itself"
        )
    return found[0]


def _load(path: Path) -> dict[str, Any]:
    try:
        # The base loader keeps everything text and builds no objects; numbers are read where they belong.
        content = yaml.load(path.read_bytes().decode("utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected the data.yaml of a YOLO data set; {reason}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the data.yaml of a YOLO data set, got {shorten(content)}")
    return content


def _is_empty(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and value in _EMPTY)


def _integer(value: Any, where: str) -> int:
    """Return a whole number from 0 to the most that there may be."""
    text = value.strip() if isinstance(value, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) and int(text) <= _MOST):
        raise ValueError(f"{where}: expected a whole number from 0 to {_MOST}, got {shorten(value)}")
    return int(text)


def _kpt_shape(value: Any, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        got = "nothing" if value is None else shorten(value)
        raise ValueError(
            f"{where}: expected [keypoints, 2 or 3], got {got}; a data set without it holds boxes only"
        )
    n_keypoints, n_values = (_integer(number, where) for number in value)
    if n_keypoints < 1 or n_values not in (2, 3):
        raise ValueError(f"{where}: expected [keypoints, 2 or 3], got [{n_keypoints}, {n_values}]")
    return n_keypoints, n_values


def _class_names(content: dict[str, Any], path: Path) -> list[str]:
    names, where = content.get("names"), f"{path}, field 'names'"
    if names is None and "nc" in content:
        names = [f"class{index}" for index in range(_integer(content["nc"], f"{path}, field 'nc'"))]
    if isinstance(names, dict):
        by_number = {_integer(key, where): name for key, name in names.items()}
        names = [by_number.get(index) for index in range(len(names))]
    return _texts(names, where, "class names, numbered from 0")


def _texts(value: Any, where: str, expected: str) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{where}: expected {expected}, got {'nothing' if not value else shorten(value)}")
    return value


def _entries(value: Any, where: str) -> list[str]:
    if _is_empty(value):
        return []
    return _texts([value] if isinstance(value, str) else value, where, "a folder of images or a list of them")


def _keypoint_names(value: Any, n_classes: int, n_keypoints: int, path: Path) -> list[list[str]]:
    """Return the names per class: one list for all of them, one per class number, or invented ones."""
    where = f"{path}, field 'kpt_names'"
    if _is_empty(value):
        value = [f"keypoint{index}" for index in range(n_keypoints)]
    per_class = value if isinstance(value, dict) else dict.fromkeys(map(str, range(n_classes)), value)
    names = [
        _texts(per_class.get(str(index)), f"{where} of class {index}", "keypoint names")
        for index in range(n_classes)
    ]
    for index, listed in enumerate(names):
        if len(listed) != n_keypoints:
            raise ValueError(
                f"{where} of class {index}: expected {n_keypoints} names as kpt_shape says, got {len(listed)}"
            )
    return names


def _flip_idx(value: Any, n_keypoints: int, where: str) -> list[int] | None:
    if _is_empty(value):
        return None
    if not isinstance(value, list) or len(value) != n_keypoints:
        got = f"{len(value)} numbers" if isinstance(value, list) else shorten(value)
        raise ValueError(f"{where}: expected {n_keypoints} numbers as kpt_shape says, got {got}")
    mirror = [_integer(number, where) for number in value]
    for index, other in enumerate(mirror):
        if other >= n_keypoints or mirror[other] != index:
            back = mirror[other] if other < n_keypoints else "nothing"
            raise ValueError(
                f"{where}: expected keypoints that change places in pairs, got {index} -> {other} -> {back}; "
                f"a keypoint without a partner is its own number"
            )
    return mirror
