"""The table of labels that DeepLabCut writes as `CollectedData_*.h5`, read without running anything in it.

The file is a pandas table in an HDF5 container, in one of pandas' two layouts: "fixed" (`frame`) and "table"
(`frame_table`). pandas and PyTables unpickle attributes and object arrays as they read, and a pickle can run
any code. So the file is read with h5py, which unpickles nothing, and columns of objects are refused. The one
pickle that is needed, the column names of the "table" layout, is never loaded: its lists, tuples, numbers and
texts are read from its instructions, and any other instruction is refused.
"""

import pickletools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.data.formats.deeplabcut_table import (
    ColumnLabel,
    LabelTable,
    label_row,
    point_columns,
)

INSTALL = "pip install 'keypoint-detection[dlc]'"
_KEY = "df_with_missing"
_MOST_VALUES = 20_000_000
_LEVELS = {3: ("scorer", "bodyparts", "coords"), 4: ("scorer", "individuals", "bodyparts", "coords")}
# A damaged file makes h5py raise any of these.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError)
_MARK = object()


def read_label_table_hdf5(path: Path, scorer: str | None = None) -> LabelTable:
    """Read a table of labels from HDF5: `df_with_missing`, or the only table of the file.

    Args:
        path: The file.
        scorer: Whose labels to take where it holds those of several.

    Raises:
        ValueError: h5py is not installed, or the file is no table of DeepLabCut labels in plain numbers and
            strings; the message names the file.
    """
    with _table_group(path) as group:
        reader = {"frame": _read_fixed, "frame_table": _read_appendable}
        kind = _text(group.attrs.get("pandas_type", b""))
        if kind not in reader:
            raise _Unexpected(f"expected a pandas table (frame or frame_table), got {kind!r}")
        names, index, values = reader[kind](group)
    labels = [_label(path, position, name) for position, name in enumerate(names)]
    columns, others = point_columns(path, labels, scorer)
    rows = [
        label_row(path, f"row {number}", parts, columns, numbers.__getitem__)
        for number, (parts, numbers) in enumerate(zip(index, values.tolist(), strict=True), start=1)
    ]
    if not rows:
        raise ValueError(f"{path}: expected one row per labelled image, got none")
    return LabelTable(path, columns, rows, others)


class _Unexpected(ValueError):
    """Say what in the file is not as it should be; the path is put in front."""


@contextmanager
def _table_group(path: Path) -> Iterator[Any]:
    """Yield the group of the table; whatever is wrong inside the block becomes one line with the path."""
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path}: reading HDF5 needs h5py; {INSTALL}") from None
    try:
        with h5py.File(path, "r") as file:
            keys = [_KEY] if _KEY in file else list(file)
            if len(keys) != 1:
                raise _Unexpected(
                    f"expected one table, or one named {_KEY}, got {', '.join(map(repr, keys))}"
                )
            yield _member(file, keys[0], h5py.Group)
    except _DAMAGE as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path}"):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected DeepLabCut labels in HDF5; {reason}") from None


def _member(group: Any, name: str, kind: type) -> Any:
    """Return a member that lies in this file itself: a link may name any file or device of the machine."""
    import h5py

    link = group.get(name, getlink=True)
    member = group[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(member, kind):
        raise _Unexpected(
            f"expected a {kind.__name__.lower()} {name!r} in {group.name}, got {link or 'none'}"
        )
    return member


def _array(group: Any, name: str) -> np.ndarray:
    """Return a stored array of numbers or strings, or a record array of such."""
    import h5py

    stored = _member(group, name, h5py.Dataset)
    where = f"{group.name}/{name}"
    if stored.external or stored.is_virtual:
        raise _Unexpected(f"expected {where} to be stored in the file, got a reference to another file")
    kinds = {stored.dtype[field].base.kind for field in stored.dtype.names or ()} or {stored.dtype.kind}
    if not kinds <= set("iufSb"):
        raise _Unexpected(
            f"expected numbers or strings in {where}, got Python objects ({stored.dtype}); they are never "
            "unpickled: give the CSV beside it"
        )
    if stored.size is None or stored.size * max(stored.dtype.itemsize // 8, 1) > _MOST_VALUES:
        raise _Unexpected(f"expected at most {_MOST_VALUES} values in {where}, got the shape {stored.shape}")
    return np.asarray(stored[()])


def _read_fixed(group: Any) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], np.ndarray]:
    names, index = _axis(group, "axis0"), _axis(group, "axis1")
    blocks = []
    for number in range(int(group.attrs["nblocks"])):
        values = _array(group, f"block{number}_values")
        # pandas stores a block with its columns along the second axis, and says so
        transposed = bool(group[f"block{number}_values"].attrs.get("transposed", False))
        blocks.append((_axis(group, f"block{number}_items"), values if transposed else values.T))
    return names, index, _assemble(names, len(index), blocks)


def _read_appendable(group: Any) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]], np.ndarray]:
    import h5py

    ((_, names),) = _plain_pickle(group.attrs.get("non_index_axes", b""))  # axis 1 is the only one
    names = [_name(name) for name in names]
    table = _array(group, "table")
    if "index" not in (table.dtype.names or ()):
        raise _Unexpected(f"expected an index column in {group.name}/table, got {table.dtype.names}")
    attributes = _member(group, "table", h5py.Dataset).attrs
    blocks = []
    for field in table.dtype.names or ():
        if field.startswith("values_block_"):
            items = [_name(name) for name in _plain_pickle(attributes.get(f"{field}_kind", b""))]
            blocks.append((items, table[field].reshape(len(table), -1)))
    index = [(text,) for text in _texts(table["index"])]
    return names, index, _assemble(names, len(index), blocks)


def _assemble(
    names: Sequence[tuple[str, ...]],
    n_rows: int,
    blocks: Sequence[tuple[Sequence[tuple[str, ...]], np.ndarray]],
) -> np.ndarray:
    """Return the values `[n_rows, n_columns]` of all blocks in the order of the columns, NaN in none."""
    if n_rows * len(names) > _MOST_VALUES:
        raise _Unexpected(f"expected at most {_MOST_VALUES} values, got {n_rows} rows of {len(names)}")
    values = np.full((n_rows, len(names)), np.nan)
    position = {name: index for index, name in enumerate(names)}
    for items, block in blocks:
        if block.shape != (n_rows, len(items)) or block.dtype.kind not in "iuf":
            raise _Unexpected(
                f"expected {n_rows} rows of {len(items)} numbers, got {block.dtype} of shape {block.shape}"
            )
        values[:, [position[name] for name in items]] = block
    return values


def _axis(group: Any, name: str) -> list[tuple[str, ...]]:
    """Return the labels along an axis, each a tuple of one text per level."""
    if f"{name}_nlevels" not in group.attrs:
        return [(text,) for text in _texts(_array(group, name))]
    levels = []
    for number in range(min(int(group.attrs[f"{name}_nlevels"]), 8)):
        texts, codes = _texts(_array(group, f"{name}_level{number}")), _array(group, f"{name}_label{number}")
        if codes.dtype.kind not in "iu" or codes.ndim != 1 or (codes.size and codes.min() < 0):
            raise _Unexpected(f"expected a label at every place of {name}, level {number}; some are missing")
        levels.append([texts[code] for code in codes.tolist()])
    return list(zip(*levels, strict=True))


def _texts(values: np.ndarray) -> list[str]:
    if values.ndim != 1:
        raise _Unexpected(f"expected a list of labels, got the shape {values.shape}")
    return [_text(value) for value in values.tolist()]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _name(name: Any) -> tuple[str, ...]:
    parts = name if isinstance(name, tuple) else (name,)
    if not all(isinstance(part, (str, int)) for part in parts):
        raise _Unexpected("expected texts as names of columns, got lists in lists")
    return tuple(map(str, parts))


def _label(path: Path, position: int, name: tuple[str, ...]) -> ColumnLabel:
    if len(name) not in _LEVELS:
        raise ValueError(
            f"{path} column {position + 1}: expected scorer, (individuals,) bodyparts, coords, "
            f"got {name!r:.80}"
        )
    parts: Mapping[str, str] = dict(zip(_LEVELS[len(name)], (text.strip() for text in name), strict=True))
    individual = parts.get("individuals", "")
    return ColumnLabel(position, parts["scorer"], individual, parts["bodyparts"], parts["coords"])


def _plain_pickle(content: Any) -> Any:
    """Return what a pickle of lists, tuples, numbers and strings holds; any other instruction is refused.

    The pickle is never loaded: its instructions are read one by one, and none of those that are known here
    imports, calls or builds an object.
    """
    if not isinstance(content, bytes):
        raise _Unexpected(f"expected the names of the columns as bytes, got {content!r:.60}")
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(content):
        name = instruction.name
        if name == "STOP":
            return stack.pop()
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in ("PROTO", "FRAME"):
            _build(name, argument, stack)
    raise _Unexpected("expected the names of the columns, got a pickle that is cut short")


_SCALARS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"))
_STRINGS = frozenset(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"))


def _build(name: str, argument: Any, stack: list[Any]) -> None:
    """Carry out one instruction that makes a number, a string, a tuple or a list."""
    if name in _SCALARS or name in _STRINGS:
        stack.append(argument)
    elif name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_LIST", "EMPTY_TUPLE"):
        stack.append([] if name == "EMPTY_LIST" else ())
    elif name in ("TUPLE", "LIST"):
        items = _since_mark(stack)
        stack.append(tuple(items) if name == "TUPLE" else items)
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        items = tuple(stack[-count:])
        del stack[-count:]
        stack.append(items)
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        stack[-1].extend(items)
    else:
        raise _Unexpected(
            f"expected names of columns, got a pickle with the instruction {name}; it is not run"
        )


def _since_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while stack[-1] is not _MARK:
        items.append(stack.pop())
    stack.pop()
    return items[::-1]
