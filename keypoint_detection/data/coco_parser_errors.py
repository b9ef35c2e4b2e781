"""Say in words what is wrong with the form of a COCO file: the first error, with the entry's own id."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

ENTRY_KINDS = {"images": "image", "categories": "category", "annotations": "annotation"}
"""The lists of a COCO file, and what one entry of each is called."""


def first_schema_problem(error: ValidationError, content: bytes) -> tuple[str, int]:
    """Return the first thing that is wrong with the form of a file, and how many there are besides."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        reason = first["msg"].removeprefix("Invalid JSON: ")
        return f"expected JSON; {reason}" + ("; the file is cut short" if "EOF" in reason else ""), 0
    if not first["loc"]:
        kind = type(first["input"]).__name__
        return f"expected a JSON object with images, categories and annotations, got a {kind}", 0
    where = _where(first["loc"], json.loads(content))
    if first["type"] == "missing":
        return f"{where}: expected a value, got none; the field is missing", error.error_count() - 1
    expected = first["msg"].replace("Input should be", "expected")
    return f"{where}: {expected}, got {_shorten(first['input'])}", error.error_count() - 1


def _where(location: Sequence[int | str], content: dict[str, Any]) -> str:
    """Return `annotation 12, field 'keypoints[3]'` for a place in the file, or its position without an id."""
    section, *inner = location
    if section not in ENTRY_KINDS or not inner:
        return f"field '{_field_path(location)}'"
    entry = content[section][inner[0]]
    identity = entry.get("id") if isinstance(entry, dict) else None
    has_id = isinstance(identity, int) and len(inner) > 1
    label = f"{ENTRY_KINDS[section]} {identity}" if has_id else f"{section}[{inner[0]}]"
    return f"{label}, field '{_field_path(inner[1:])}'" if len(inner) > 1 else label


def _field_path(location: Sequence[int | str]) -> str:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return parts.removeprefix(".")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
