"""What the tests of all readers share: broken files, and the rule that a reader gives labels or one line."""

import json
from pathlib import Path

from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import read_coco, write_coco

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Yield the path of every value inside a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def replaced(content, path, value):
    """Return the content with the value at a path replaced."""
    if not path:
        return value
    content = json.loads(json.dumps(content))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return content


def broken_bytes(valid: bytes):
    """Return a strategy of any bytes, and of valid ones with a few bytes replaced or the end cut off."""

    def damage(place: int, patch: bytes, cut: bool) -> bytes:
        return valid[:place] if cut else valid[:place] + patch + valid[place + len(patch) :]

    return st.binary(max_size=60) | st.builds(
        damage, st.integers(0, len(valid)), st.binary(max_size=4), st.booleans()
    )


def gives_labels_or_one_line(folder: Path, raw: bytes, read, name: str = "fuzz.json") -> bool:
    """Check that a reader gives consistent labels or a one-line ValueError, and leaves no file behind."""
    source = folder / name
    source.write_bytes(raw)
    before, problem, conversion = sorted(folder.iterdir()), None, None
    try:
        conversion = read(source)
    except ValueError as error:
        problem = str(error)
    assert sorted(folder.iterdir()) == before
    if conversion is None:
        assert problem
        assert "\n" not in problem
        return False
    assert all("\n" not in note for note in conversion.notes)
    write_coco(conversion.coco, folder / "check.json")  # its entries belong together
    read_coco(folder / "check.json")
    return True
