import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from keypoint_detection.data.formats import deeplabcut_hdf5
from keypoint_detection.data.formats.deeplabcut_hdf5 import read_label_table_hdf5

LEVELS = ["scorer", "bodyparts", "coords"]
VALUES = np.array([[1.25, 2, 3, 4], [np.nan, np.nan, 5.0625, 6]])
IMAGES = ["labeled-data/one/a.png", "labeled-data/one/b.png"]


def frame(values=VALUES, scorers=("Ann",), three_columns=False) -> pd.DataFrame:
    columns = pd.MultiIndex.from_product([scorers, ["nose", "tail"], ["x", "y"]], names=LEVELS)
    index = (
        pd.MultiIndex.from_tuples([tuple(name.split("/")) for name in IMAGES]) if three_columns else IMAGES
    )
    return pd.DataFrame(values, columns=columns, index=index)


def write(folder: Path, table: pd.DataFrame, layout: str = "fixed", key: str = "df_with_missing") -> Path:
    path = folder / "CollectedData_Ann.h5"
    table.to_hdf(path, key=key, mode="w", format=layout)
    return path


def error_line(path: Path, scorer: str | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        read_label_table_hdf5(path, scorer)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize(("layout", "three"), [("fixed", False), ("fixed", True), ("table", False)])
@pytest.mark.parametrize("key", ["df_with_missing", "keypoints"])
def test_both_layouts_of_pandas(tmp_path, layout, three, key):
    table = read_label_table_hdf5(write(tmp_path, frame(three_columns=three), layout, key))
    assert list(table.columns) == [("", "nose"), ("", "tail")]
    assert [row.image() for row in table.rows] == IMAGES
    assert [row.points for row in table.rows] == [
        {"": {"nose": (1.25, 2), "tail": (3, 4)}},
        {"": {"tail": (5.0625, 6)}},
    ]
    assert [row.place for row in table.rows] == ["row 1", "row 2"]


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_whole_numbers_in_a_block_of_their_own(tmp_path, layout):
    mixed = frame(np.array([[1.5, 2, 3, 4], [7.5, 8, 5, 6]])).astype(
        {("Ann", "tail", "x"): int, ("Ann", "nose", "y"): int}
    )
    table = read_label_table_hdf5(write(tmp_path, mixed, layout))
    assert [row.points[""] for row in table.rows] == [
        {"nose": (1.5, 2), "tail": (3, 4)},
        {"nose": (7.5, 8), "tail": (5, 6)},
    ]


def test_several_animals(tmp_path):
    tuples = [
        ("A", who, part, axis)
        for who, part in (("m1", "nose"), ("m2", "nose"), ("single", "lamp"))
        for axis in "xy"
    ]
    columns = pd.MultiIndex.from_tuples(tuples, names=["scorer", "individuals", "bodyparts", "coords"])
    table = pd.DataFrame([[1.0, 2, np.nan, np.nan, 5, 6]], columns=columns, index=IMAGES[:1])
    (row,) = read_label_table_hdf5(write(tmp_path, table)).rows
    assert row.points == {"m1": {"nose": (1, 2)}, "m2": {}, "single": {"lamp": (5, 6)}}


def test_the_preferred_scorer_is_taken(tmp_path):
    path = write(tmp_path, frame(np.hstack([VALUES, VALUES + 10]), ("Ann", "Bob")))
    table = read_label_table_hdf5(path, "Bob")
    assert table.rows[0].points == {"": {"nose": (11.25, 12), "tail": (13, 14)}}
    assert table.other_scorers == ("Ann",)
    assert "expected labels of one scorer, got 'Ann', 'Bob'; name one as" in error_line(path)


def test_the_container_says_where_there_are_two_tables(tmp_path):
    path = write(tmp_path, frame(), key="first")
    frame().to_hdf(path, key="second")
    assert "expected one table, or one named df_with_missing, got 'first', 'second'" in error_line(path)


def test_predictions_are_no_labels(tmp_path):
    columns = pd.MultiIndex.from_product([["net"], ["nose"], ["x", "y", "likelihood"]], names=LEVELS)
    path = write(tmp_path, pd.DataFrame([[1.0, 2, 0.9]], columns=columns, index=IMAGES[:1]))
    assert "column 3: expected x or y of a body part, got 'likelihood'" in error_line(path)


class Bomb:
    """Run code as soon as it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")  # it warns that it will pickle
def test_a_pickled_column_is_refused(tmp_path):
    path = write(tmp_path, frame().astype(object))
    assert "got Python objects" in error_line(path)


def test_a_pickled_attribute_is_never_loaded(tmp_path):
    trace = tmp_path / "trace"
    bomb = np.bytes_(pickle.dumps([(1, [Bomb(trace)])], 0))
    pickle.loads(bytes(bomb))
    assert trace.exists()  # the bomb works
    trace.unlink()
    for layout, place, name in [
        ("table", "df_with_missing", "non_index_axes"),
        ("table", "df_with_missing/table", "values_block_0_kind"),
    ]:
        path = write(tmp_path, frame(), layout)
        with h5py.File(path, "r+") as file:
            file[place].attrs[name] = bomb
        assert "it is not run" in error_line(path)
    path = write(tmp_path, frame())
    with h5py.File(path, "r+") as file:  # where nothing needs to be read, it is passed over
        file.attrs["TITLE"] = bomb
        file["df_with_missing"].attrs["info"] = bomb
        file["df_with_missing/axis1"].attrs["name"] = bomb
    assert len(read_label_table_hdf5(path).rows) == 2
    assert not trace.exists()


def test_references_to_other_files_are_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    other, path = write(tmp_path / "other", frame()), write(tmp_path, frame())
    with h5py.File(path, "r+") as file:
        del file["df_with_missing/block0_values"]
        file["df_with_missing/block0_values"] = h5py.ExternalLink(other, "df_with_missing/block0_values")
    assert "expected a dataset 'block0_values'" in error_line(path)
    (tmp_path / "raw").write_bytes(bytes(64))
    with h5py.File(path, "r+") as file:
        del file["df_with_missing/block0_values"]
        file.create_dataset(
            "df_with_missing/block0_values", (2, 4), "f8", external=[(str(tmp_path / "raw"), 0, 64)]
        )
    assert "got a reference to another file" in error_line(path)


def test_a_table_that_claims_to_be_huge(tmp_path):
    path = write(tmp_path, frame())
    with h5py.File(path, "r+") as file:
        del file["df_with_missing/block0_values"]
        file.create_dataset("df_with_missing/block0_values", (10**12, 4), "f8", chunks=(1024, 4))
    assert "expected at most 20000000 values" in error_line(path)


@pytest.mark.parametrize("content", [b"", b"no container", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_file_that_is_no_container(tmp_path, content):
    path = tmp_path / "CollectedData_Ann.h5"
    path.write_bytes(content)
    assert "expected DeepLabCut labels in HDF5; " in error_line(path)


def test_other_contents(tmp_path):
    path = tmp_path / "CollectedData_Ann.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = [1, 2]
    assert "expected a group 'numbers'" in error_line(path)
    write(tmp_path, frame())
    with h5py.File(path, "r+") as file:
        file["df_with_missing"].attrs["pandas_type"] = "series"
    assert "expected a pandas table (frame or frame_table), got 'series'" in error_line(path)
    write(tmp_path, frame().iloc[:0])
    assert "expected" in error_line(path)
    write(tmp_path, pd.DataFrame({"a": [1.0]}))
    assert "column 1: expected scorer, (individuals,) bodyparts, coords, got ('a',)" in error_line(path)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path, frame())
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert error_line(path) == f"{path}: reading HDF5 needs h5py; pip install 'keypoint-detection[dlc]'"
    assert deeplabcut_hdf5.INSTALL in error_line(path)
