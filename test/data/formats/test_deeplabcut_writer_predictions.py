import csv

import cv2
import numpy as np
import pandas as pd
import pytest

from keypoint_detection.data.formats.deeplabcut import read_deeplabcut
from keypoint_detection.data.formats.deeplabcut_writer import write_deeplabcut, write_deeplabcut_predictions

TABLE = "CollectedData_keypoint_detection"


def test_a_dot_lies_where_its_label_says(tmp_path):
    rows, columns = np.mgrid[:40, :60]
    place = (31.37, 14.81)
    dot = 255 * np.exp(-((columns - place[0]) ** 2 + (rows - place[1]) ** 2) / 8)
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    assert cv2.imwrite(str(folder / "a.png"), dot.round().astype(np.uint8))
    # DeepLabCut's tool counts from the centre of a pixel, so the label is the place itself
    (folder / "CollectedData_A.csv").write_text(
        f"scorer,A,A\nbodyparts,dot,dot\ncoords,x,y\nlabeled-data/v/a.png,{place[0]},{place[1]}\n"
    )
    conversion = read_deeplabcut(tmp_path)
    seen = cv2.imread(str(conversion.image_paths[1]), cv2.IMREAD_GRAYSCALE)
    assert seen is not None
    centroid = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    (entry,) = conversion.coco.annotations
    assert np.abs(np.array(entry.keypoints[:2]) - centroid).max() <= 0.05
    for entry in conversion.coco.images:
        (tmp_path / "coco" / entry.file_name).parent.mkdir(parents=True)
        (tmp_path / "coco" / entry.file_name).write_bytes((folder / "a.png").read_bytes())
    write_deeplabcut(conversion.coco, tmp_path / "coco", tmp_path / "back")
    table = pd.read_hdf(tmp_path / "back" / "labeled-data" / "v" / f"{TABLE}.h5")
    assert np.abs(table.to_numpy()[0] - centroid).max() <= 0.05


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
