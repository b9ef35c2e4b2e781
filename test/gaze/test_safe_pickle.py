"""Pickles of others: plain values come back, and nothing that a file asks for is run."""

import collections
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.gaze.safe_pickle import _MAKERS, PlainArray, read_plain_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """Be pickled as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def plain(value):
    """Return a value with its arrays as lists."""
    if isinstance(value, PlainArray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    return value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2.5, "a\n\u00e4", None, True, (1,), b"", b"\x00\xff", 1 << 80, -0.0], None),
        ({"a": {1, 2}, "b": frozenset({3}), 4: []}, None),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (
            [np.float64(0.1), np.float32(0.5), np.int64(-3), np.uint8(200), np.bool_(True)],
            [0.1, 0.5, -3, 200, 1],
        ),
        (np.arange(6, dtype=np.int16).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), [[0, 1, 2], [3, 4, 5]]),
        (np.array([1.5, -2], ">f4"), [1.5, -2]),
        (np.array([True, False]), [True, False]),
        (np.zeros((0, 4)), []),
        (np.array(3.0), 3.0),
        (np.array([1, "a", [2]], dtype=object), [1, "a", [2]]),
    ],
)
def test_plain_values_come_back(tmp_path, protocol, value, expected):
    (tmp_path / "p").write_bytes(pickle.dumps(value, protocol=protocol))
    assert plain(read_plain_pickle(tmp_path / "p")) == (value if expected is None else expected)


def test_a_pickle_of_python_2(tmp_path):
    # what Python 2 and NumPy 1 wrote of {"a": numpy.array([1.5])}, protocol 2: bytes are text
    content = (
        b"\x80\x02}q\x01U\x01aq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05"
        b"U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x01\x85q\tcnumpy\ndtype\nq\nU\x02f8q\x0bK\x00K\x01\x87q\x0cRq\r(K\x03"
        b"U\x01<q\x0eNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0fb\x89U\x08"
        + struct.pack("<d", 1.5)
        + b"q\x10"
        b"tq\x11bs."
    )
    (tmp_path / "p").write_bytes(content)
    assert plain(read_plain_pickle(tmp_path / "p")) == {"a": [1.5]}


def attacks(victim):
    """Return calls that each make the folder or file `victim`."""
    text = f"__import__('os').mkdir({str(victim)!r})"
    return [
        (os.system, f"touch {victim}"),
        (os.mkdir, str(victim)),
        (subprocess.check_call, ["mkdir", str(victim)]),
        (eval, text),
        (exec, text),
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", range(5))
def test_nothing_is_run(tmp_path, protocol, number):
    victim = tmp_path / "victim"
    function, argument = attacks(victim)[number]
    content = pickle.dumps([{"filename": Calls(function, argument)}], protocol=protocol)
    pickle.loads(content)  # the ordinary reader runs it: the file is a dangerous one
    assert victim.exists()
    victim.rename(tmp_path / "seen")
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ValueError, match=r"got [a-z_.]+; nothing of the file was run$") as caught:
        read_plain_pickle(tmp_path / "p")
    assert f".{function.__name__};" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not victim.exists()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def of_name(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "list.append"),  # protocol 4 walks along dots
        ("builtins", "dict.__class__"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy.lib.npyio", "load"),
        ("keypoint_detection.gaze.safe_pickle", "PlainArray"),
        ("__main__", "x"),
        ("builtins", "bytearray"),
        ("functools", "partial"),
        ("copyreg", "_reconstructor"),
        ("posix", "system"),
        ("io", "open"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
    ],
)
def test_names_that_are_near_to_allowed_ones(tmp_path, module, name):
    (tmp_path / "p").write_bytes(b"\x80\x04" + of_name(module, name) + b".")
    with pytest.raises(ValueError, match=rf"got {module}.{name}; nothing of the file was run"):
        read_plain_pickle(tmp_path / "p")


DOUBLE = of_name("numpy", "dtype") + short("f8") + b"\x85R"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # BUILD, the state of an object, is no way to change the stand-ins
        (of_name("builtins", "list") + b"}" + short("_make") + b"Nsb.", "a change of its own tools"),
        (of_name("builtins", "list") + b"N}" + short("_make") + b"Ns\x86b.", "a change of its own tools"),
        (of_name("numpy", "ndarray") + b"K\x05\x85R.", "an array of its own making"),
        (of_name("builtins", "bytes") + b"J\xff\xff\xff\x7f\x85R.", "bytes of a number"),
        (
            of_name("_codecs", "encode") + short("a") + short("zlib") + b"\x86R.",
            "text in the encoding 'zlib'",
        ),
        (DOUBLE + b"K\x05b.", "a NumPy type of an unknown form"),
        (of_name("numpy.core.multiarray", "_reconstruct") + b")RK\x05b.", "an array of an unknown form"),
        (short("x") + b"Q.", "a reference to something outside of it"),
        (of_name("numpy.core.multiarray", "scalar") + DOUBLE + b"C\x00\x86R.", "0 values for one number"),
    ],
)
def test_forged_pickles_are_refused(tmp_path, content, message):
    makers = {key: maker._make for key, maker in _MAKERS.items()}
    (tmp_path / "p").write_bytes(b"\x80\x04" + content)
    with pytest.raises(ValueError, match=rf"got {message}; nothing of the file was run"):
        read_plain_pickle(tmp_path / "p")
    assert {key: maker._make for key, maker in _MAKERS.items()} == makers


@pytest.mark.parametrize("opcode", [b"\x81", b"\x92"])  # NEWOBJ, NEWOBJ_EX
def test_objects_are_not_made(tmp_path, opcode):
    arguments = b")" if opcode == b"\x81" else b")}"
    (tmp_path / "p").write_bytes(b"\x80\x04" + of_name("builtins", "list") + arguments + opcode + b".")
    with pytest.raises(ValueError, match=r"expected a pickle file, got a damaged one"):
        read_plain_pickle(tmp_path / "p")


@pytest.mark.parametrize("code", ["O8", "V8", "S8", "U2", "M8", "i16", "f8,f8", "x", ""])
def test_only_types_of_numbers_are_decoded(tmp_path, code):
    dtype = of_name("numpy", "dtype") + short(code) + b"\x85R"
    array = of_name("numpy._core.numeric", "_frombuffer") + b"(C\x08" + b"\x01" * 8 + dtype
    (tmp_path / "p").write_bytes(b"\x80\x04" + array + b"K\x01\x85" + short("C") + b"tR.")
    array = read_plain_pickle(tmp_path / "p")
    with pytest.raises(ValueError, match=r"expected an array"):
        array.tolist()


@pytest.mark.parametrize(
    "shape", [b"K\x02\x85", b"J\xff\xff\xff\x7f\x85", short("a"), b"K\x01K\x05\x86", b"N\x85"]
)
def test_the_bytes_of_an_array_are_as_many_as_its_shape_says(tmp_path, shape):
    array = of_name("numpy._core.numeric", "_frombuffer") + b"(C\x08" + b"\x00" * 8 + DOUBLE
    (tmp_path / "p").write_bytes(b"\x80\x04" + array + shape + short("C") + b"tR.")
    array = read_plain_pickle(tmp_path / "p")
    with pytest.raises(ValueError):  # in NumPy's words
        array.tolist()


def test_an_array_without_values(tmp_path):
    (tmp_path / "p").write_bytes(b"\x80\x04" + of_name("numpy.core.multiarray", "_reconstruct") + b")R.")
    with pytest.raises(ValueError, match=r"expected an array with its values"):
        read_plain_pickle(tmp_path / "p").tolist()


WHOLE = pickle.dumps([{"a": np.arange(3.0), "b": np.float32(1), "c": {"d": (1, "e")}}], protocol=4)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=30), st.booleans())
def test_a_damaged_pickle_is_one_line_or_a_value(tmp_path_factory, cut, noise, keeps_end):
    path = tmp_path_factory.mktemp("pickle") / "p"
    path.write_bytes(WHOLE[:cut] + noise + (WHOLE[cut + len(noise) :] if keeps_end else b""))
    message = ""
    try:
        read_plain_pickle(path)
    except ValueError as error:
        message = str(error)
    assert message == "" or message.startswith(f"{path}: expected a pickle ")
    assert "\n" not in message


def test_no_file_and_no_pickle(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a pickle file, found nothing at"):
        read_plain_pickle(tmp_path / "none")
    (tmp_path / "p").write_bytes(b"")
    with pytest.raises(ValueError, match=r"damaged one .EOFError"):
        read_plain_pickle(tmp_path / "p")
