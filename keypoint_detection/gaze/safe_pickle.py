"""Read plain values from a pickle file of others without running anything that it asks for.

A pickle is a programme: it names functions and calls them. Here the names it may use lead to stand-ins that
build numbers, text, bytes and containers, NumPy arrays among them; NumPy's own functions are not called by
name, because a forged type would make them read memory that the array does not own. Any other name ends the
reading.
"""

import contextlib
import functools
import gc
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

_NUMBER_TYPE = re.compile(r"([biuf])(1|2|4|8)")


def read_plain_pickle(path: str | Path) -> Any:
    """Return the value of a pickle file of lists, tuples, dictionaries, sets, numbers, text and NumPy arrays.

    Returns:
        The value; arrays come as `PlainArray`, NumPy's numbers as Python's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no pickle, is damaged, or asks for anything else: what it asks for is named.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, _no_collection():
            return _PlainUnpickler(file, encoding="latin1").load()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FileNotFoundError(f"expected a pickle file, found nothing at {path}; check the path") from None
    except _Refused as error:
        raise ValueError(
            f"{path}: expected a pickle of plain values (lists, dictionaries, numbers, text, NumPy arrays), "
            f"got {error}; nothing of the file was run"
        ) from None
    except OSError:  # of the disk
        raise
    except Exception as error:  # a damaged pickle may end in any of a dozen kinds of error
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise ValueError(f"{path}: expected a pickle file, got a damaged one ({reason:.200})") from None


class PlainArray:
    """Hold an array of a pickle as it is written; `tolist` decodes it."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state: tuple[Any, ...] | None = None

    def __setstate__(self, state: Any) -> None:
        """Take what NumPy writes: version, shape, type, column order, and bytes or a list of values."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("an array of an unknown form")
        self._state = state[1:]

    @classmethod
    def of_buffer(cls, content: Any, dtype: Any, shape: Any, order: Any) -> "PlainArray":
        """Return an array as pickles of protocol 5 hold it."""
        array = cls()
        array._state = (shape, dtype, order == "F", content)
        return array

    def tolist(self) -> list[Any]:
        """Return nested lists of numbers, text or values.

        Raises:
            ValueError: The type is another than numbers or values, or the size is not that of the shape.
        """
        if self._state is None:
            raise ValueError("expected an array with its values, got one without")
        shape, dtype, is_column_order, content = self._state
        try:
            if isinstance(content, list):
                values = np.empty(len(content), dtype=object)
                values[:] = content
            else:
                values = np.frombuffer(_bytes(content), _numpy_type(dtype))
            return values.reshape(shape, order="F" if is_column_order else "C").tolist()
        except TypeError as error:
            raise ValueError(f"expected an array, got {error}") from None


class _Refused(pickle.UnpicklingError):
    """Say what a pickle asks for that it does not get."""


class _Type:
    """Stand for a NumPy type: its code, and the order of its bytes."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise _Refused("a NumPy type of an unknown form")
        self.order = state[1]


class _Maker:
    """Call a stand-in; unlike a function or class, a pickle cannot change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise _Refused("a change of its own tools")

    def __setstate__(self, state: Any) -> NoReturn:
        raise _Refused("a change of its own tools")


def _numpy_type(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Type):
        raise ValueError(f"expected an array of a type, got one of {dtype!r:.60}")
    return _number_type(dtype.order, str(dtype.code))


@functools.cache
def _number_type(order: str, code: str) -> np.dtype:
    if not _NUMBER_TYPE.fullmatch(code):
        raise ValueError(f"expected an array of numbers, got one of {code!r}")
    return np.dtype(f"{order}{code}")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Put off Python's search for unused cycles, which would go through all values again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):  # Python 2 wrote bytes as text
        return content.encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise ValueError(f"expected the bytes of an array, got a {type(content).__name__}")
    return bytes(content)


def _scalar(dtype: Any, content: Any = b"") -> Any:
    values = np.frombuffer(_bytes(content), _numpy_type(dtype)).tolist()
    if len(values) != 1:
        raise _Refused(f"{len(values)} values for one number")
    return values[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise _Refused("bytes of a number")
    return b""


def _not_called(*_: Any) -> NoReturn:
    raise _Refused("an array of its own making")


_MAKERS = {
    **{("builtins", kind.__name__): _Maker(kind) for kind in (list, tuple, dict, set, frozenset)},
    ("builtins", "bytes"): _Maker(_no_bytes),
    ("collections", "OrderedDict"): _Maker(dict),
    ("_codecs", "encode"): _Maker(_encode),
    ("numpy", "ndarray"): _Maker(_not_called),
    ("numpy", "dtype"): _Maker(_Type),
    ("numpy.core.multiarray", "_reconstruct"): _Maker(lambda *_: PlainArray()),
    ("numpy.core.multiarray", "scalar"): _Maker(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Maker(PlainArray.of_buffer),
}


class _PlainUnpickler(pickle.Unpickler):
    """Find the stand-ins by the names of what they stand for."""

    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 moved numpy.core to numpy._core; Python 2 called builtins __builtin__
        home = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        maker = _MAKERS.get((home, name))
        if maker is None:
            raise _Refused(f"{module}.{name}")
        return maker

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("a reference to something outside of it")
