"""The contract of a result: every definition that its numbers depend on, and a short hash of it."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

HASH = "hash"
ABSENT = "absent"
HASH_DIGITS = 12
SHOWN_CHARACTERS = 60
"""Most characters of a value in a message."""

SHOWN_BEFORE = 20
"""Characters of a long value that are shown before its first difference."""


def with_hash(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with `"hash"`: hex digits that are equal for equal definitions, in any process.

    Numbers are written with all their digits, and 2 is 2.0; the order of the fields does not count, and a
    tuple is a list.

    Args:
        definition: Plain values by name: numbers but NaN, texts, booleans, None, and lists, tuples and
            mappings of them. An old hash is replaced.

    Raises:
        ValueError: A number is not finite.
    """
    plain = {name: value for name, value in definition.items() if name != HASH}
    digest = hashlib.sha256(_canonical_json(plain).encode("utf-8")).hexdigest()
    return {**plain, HASH: digest[:HASH_DIGITS]}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return each field in which two contracts differ, and both values; the hash is no field.

    Args:
        a: One contract.
        b: The other.

    Returns:
        Field, value in a, value in b, in the order of the names. A field of a mapping within a contract is
        named with a dot, `oks.area`; "absent" stands for the value of a field that one side lacks.
    """
    found: list[tuple[str, Any, Any]] = []
    for name in sorted((a.keys() | b.keys()) - {HASH}):
        one, other = a.get(name, ABSENT), b.get(name, ABSENT)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += [(f"{name}.{field}", *values) for field, *values in differences(one, other)]
        elif (name in a) != (name in b) or _canonical_json(one) != _canonical_json(other):
            found.append((name, one, other))
    return found


def check_same(a: Mapping[str, Any], b: Mapping[str, Any], name_a: str, name_b: str) -> None:
    """Refuse to go on with two contracts that differ.

    Args:
        a: One contract.
        b: The other.
        name_a: What the message calls the run of a.
        name_b: Likewise of b.

    Raises:
        ValueError: They differ; one line that names each field with both values.
    """
    found = differences(a, b)
    if found:
        fields = ", ".join(f"{field} {_shown_pair(one, other)}" for field, one, other in found)
        raise ValueError(
            f"{name_a} and {name_b} are scored by different definitions: {fields}; score both with the same"
            " flags of keypoint-detection eval"
        )


def _canonical_json(value: Any) -> str:
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _canonical(value: Any) -> Any:
    """Return a value in which equal numbers are written alike."""
    if isinstance(value, Mapping):
        return {name: _canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown_pair(one: Any, other: Any) -> str:
    """Return `one / other`, with long values cut to the part around their first difference."""
    texts = [ABSENT if value == ABSENT else json.dumps(value, ensure_ascii=False) for value in (one, other)]
    start = 0
    if max(map(len, texts)) > SHOWN_CHARACTERS:
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
        start = max(0, len(list(alike)) - SHOWN_BEFORE)
    return " / ".join(_cut(text, start) for text in texts)


def _cut(text: str, start: int) -> str:
    end = start + SHOWN_CHARACTERS
    return ("..." if start else "") + text[start:end] + ("..." if len(text) > end else "")
