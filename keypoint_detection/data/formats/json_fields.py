"""Take a foreign JSON file apart field by field; whatever is not as expected is one line that says where."""

import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

_LONGEST_SHOWN = 60


def read_json(path: Path, expected: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        expected: What the file should be, for the messages: `"a Label Studio export"`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no JSON in UTF-8.
    """
    if not os.path.isfile(path):
        found = "a folder; give the JSON file itself" if os.path.isdir(path) else "nothing"
        raise FileNotFoundError(f"expected {expected} (JSON) at {path}, found {found}")
    raw = path.read_bytes()
    try:
        content = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)
        if b"\\ud" in raw.lower():  # half of a surrogate pair is legal JSON, but no text that can be written
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{path}: expected {expected}, got JSON that is nested too deeply") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected {expected} as JSON in UTF-8; {reason}") from None
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def as_dict(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object or raise a ValueError that names the place."""
    return value if isinstance(value, dict) else _refuse("a JSON object", value, where)


def as_list(value: Any, where: str) -> list[Any]:
    """Return a JSON list or raise a ValueError that names the place."""
    return value if isinstance(value, list) else _refuse("a list", value, where)


def as_text(value: Any, where: str) -> str:
    """Return a text that is not empty or raise a ValueError that names the place."""
    return value if isinstance(value, str) and value else _refuse("a text that is not empty", value, where)


def as_number(value: Any, where: str) -> float:
    """Return a finite number or raise a ValueError that names the place; true and false are no numbers."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
        try:
            return float(value)
        except OverflowError:
            pass
    return _refuse("a finite number", value, where)


def as_size(value: Any, where: str) -> int:
    """Return a side of an image in pixels, 1 to 1,000,000, or raise a ValueError that names the place."""
    number = as_number(value, where)
    return (
        int(number)
        if number.is_integer() and 1 <= number <= 1e6
        else _refuse("a whole number of pixels", value, where)
    )


def _refuse(expected: str, value: Any, where: str) -> NoReturn:
    shown = "nothing" if value is None else shorten(value)
    raise ValueError(f"{where}: expected {expected}, got {shown}")


def shorten(value: Any) -> str:
    """Return a value as it is shown in a message: one line, at most 60 characters."""
    if isinstance(value, dict | list):
        return f"a {'JSON object' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
