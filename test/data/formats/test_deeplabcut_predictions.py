import csv
import hashlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from full_disk import full_disk

from keypoint_detection.data.formats.deeplabcut_predictions import (
    write_deeplabcut_predictions,
    write_deeplabcut_video,
)


def test_predictions_as_deeplabcut_reads_them(tmp_path):
    xy = np.array([[[1.5, 2], [np.nan, np.nan]], [[3, 4], [5, 6.25]], [[7, 8], [9, 10]]])
    scores = np.array([[0.5, 0.0], [0.25, 1.0], [0.75, 0.125]])
    paths = [tmp_path / "one/a.png", tmp_path / "two/a.png", tmp_path / "one/b.png"]
    written = write_deeplabcut_predictions(tmp_path / "out", ["nose", "tail tip"], paths, xy, scores)
    scorer = "DLC_keypoint_detection"
    assert [path.name for path in written] == [
        f"{video}{scorer}{kind}" for video in ("one", "two") for kind in (".csv", ".h5")
    ]
    for table in (pd.read_csv(written[0], header=[0, 1, 2], index_col=0), pd.read_hdf(written[1])):
        assert list(table.index) == ["a.png", "b.png"]
        assert list(table.columns.names) == ["scorer", "bodyparts", "coords"]
        expected = [
            (scorer, part, axis) for part in ("nose", "tail tip") for axis in ("x", "y", "likelihood")
        ]
        assert list(table.columns) == expected
        values = [[1.5, 2, 0.5, np.nan, np.nan, 0], [7, 8, 0.75, 9, 10, 0.125]]
        assert np.array_equal(table.to_numpy(), values, equal_nan=True)
        assert np.array_equal(table[scorer]["nose"]["likelihood"], [0.5, 0.75])
    with written[0].open(newline="") as stream:
        assert next(csv.reader(stream)) == ["scorer", *[scorer] * 6]


def test_predictions_that_do_not_fit_together(tmp_path):
    with pytest.raises(ValueError, match=r"expected points \(2, 1, 2\) and scores \(2, 1\) for 2 images"):
        write_deeplabcut_predictions(
            tmp_path, ["n"], ["a.png", "b.png"], np.zeros((2, 2, 2)), np.zeros((2, 1))
        )
    with pytest.raises(ValueError, match=r"expected predictions of an image once, got v/a\.png twice"):
        write_deeplabcut_predictions(tmp_path, ["n"], ["v/a.png"] * 2, np.zeros((2, 1, 2)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="expected names of keypoints that occur once"):
        write_deeplabcut_predictions(tmp_path, ["n", "n"], ["a.png"], np.zeros((1, 2, 2)), np.zeros((1, 2)))
    assert list(tmp_path.iterdir()) == []


def test_the_frames_of_a_video_are_whole_numbers(tmp_path: Path) -> None:
    xy = np.array([[[1.5, 2]], [[np.nan, np.nan]], [[5, 6.25]]])
    scores = np.array([[0.5], [0.0], [1.0]])
    written = write_deeplabcut_video(tmp_path / "my.mouse 1", ["nose"], [0, 1, 10], xy, scores)
    name = "my.mouse 1DLC_keypoint_detection"  # DeepLabCut looks for <video><scorer>
    assert [path.name for path in written] == [f"{name}.csv", f"{name}.h5"]
    assert [line.split(",")[0] for line in written[0].read_text().splitlines()[3:]] == ["0", "1", "10"]
    for table in (pd.read_csv(written[0], header=[0, 1, 2], index_col=0), pd.read_hdf(written[1])):
        assert table.index.dtype == np.int64
        assert list(table.index) == [0, 1, 10]
        expected = [[1.5, 2, 0.5], [np.nan, np.nan, 0], [5, 6.25, 1]]
        assert np.array_equal(table["DLC_keypoint_detection"]["nose"], expected, equal_nan=True)
    with pd.HDFStore(written[1], "r") as store:
        assert store.keys() == ["/df_with_missing"]
        assert store.get_storer("df_with_missing").is_table


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    sums = set()
    for _ in range(2):
        files = write_deeplabcut_video(tmp_path / "v", ["n"], range(5), np.ones((5, 1, 2)), np.ones((5, 1)))
        files += write_deeplabcut_predictions(
            tmp_path, ["n"], ["f/a.png", "f/bb.png"], np.ones((2, 1, 2)), np.ones((2, 1))
        )
        sums.add(tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files))
        time.sleep(1.1 if len(sums) == 1 else 0)  # HDF5 stores whole seconds where it stores times
    assert len(sums) == 1


def test_a_table_of_a_video_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected points \(1, 1, 2\) and scores \(1, 1\)"):
        write_deeplabcut_video(tmp_path / "v", ["n"], [0], np.zeros((2, 1, 2)), np.zeros((1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_no_half_table_is_left_on_a_full_disk(tmp_path: Path) -> None:
    xy, scores = np.ones((9, 1, 2)), np.ones((9, 1))
    for n_bytes in (0, 2000, 40_000, 70_000):  # HDF5 tells of none of them
        with full_disk(n_bytes), pytest.raises(OSError):
            write_deeplabcut_video(tmp_path / "v", ["n"], range(9), xy, scores)
    assert [path.suffix for path in tmp_path.iterdir()] == [".csv"]
    write_deeplabcut_video(tmp_path / "v", ["n"], range(9), xy, scores)
    assert len(list(tmp_path.iterdir())) == 2
