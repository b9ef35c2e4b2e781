import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from keypoint_detection.data.formats.deeplabcut import read_deeplabcut

REAL_DATA = Path(__file__).parents[4] / "shared" / "data"
LEVELS = ["scorer", "bodyparts", "coords"]


def frame(values, scorers=("Ann",), images=("a.png", "b.png")) -> pd.DataFrame:
    columns = pd.MultiIndex.from_product([scorers, ["nose", "tail"], ["x", "y"]], names=LEVELS)
    return pd.DataFrame(
        values, columns=columns, index=[f"labeled-data/one/{name}" for name in images], dtype=float
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """Make a video's folder with two images and no table yet."""
    folder = tmp_path / "project" / "labeled-data" / "one"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(folder / name), np.zeros((8, 9, 3), np.uint8))
    return folder


def csv_of(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path)


def hdf5_of(table: pd.DataFrame, path: Path) -> None:
    table.to_hdf(path, key="df_with_missing", mode="w")


VALUES = [[1.5, 2, 3, 4], [np.nan, np.nan, 5, 6]]


def keypoints(conversion) -> list[list[float]]:
    return [annotation.keypoints for annotation in conversion.coco.annotations]


EXPECTED = [[1.5, 2, 2, 3, 4, 2], [0, 0, 0, 5, 6, 2]]


def test_hdf5_alone_is_read(folder):
    hdf5_of(frame(VALUES), folder / "CollectedData_Ann.h5")
    for source in (folder, folder.parent, folder.parent.parent, folder / "CollectedData_Ann.h5"):
        conversion = read_deeplabcut(source)
        assert keypoints(conversion) == EXPECTED
        assert conversion.notes == ()
        assert [image.file_name for image in conversion.coco.images] == [
            "images/one/a.png",
            "images/one/b.png",
        ]
        assert conversion.image_paths == {1: folder / "a.png", 2: folder / "b.png"}


def test_tables_that_agree_need_no_note(folder):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    hdf5_of(frame(np.array(VALUES) + 9e-7), folder / "CollectedData_Ann.h5")
    assert read_deeplabcut(folder).notes == ()


def test_the_csv_wins_and_the_difference_is_named(folder):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    other = [[1.5, 2, 3.00001, 4], [7, 7, 5, 6], [1, 1, 1, 1]]
    hdf5_of(frame(other, images=("a.png", "b.png", "c.png")), folder / "CollectedData_Ann.h5")
    for source in (folder.parent.parent, folder / "CollectedData_Ann.csv"):
        conversion = read_deeplabcut(source)
        assert keypoints(conversion) == EXPECTED
        assert conversion.notes == (
            f"{folder / 'CollectedData_Ann.h5'}: 1 image is only in this file, "
            "not read: CollectedData_Ann.csv is what counts: labeled-data/one/c.png",
            f"{folder / 'CollectedData_Ann.csv'}: 2 points are not as in CollectedData_Ann.h5, "
            "which was not read: labeled-data/one/a.png 'tail', labeled-data/one/b.png 'nose'",
        )


def test_an_image_that_only_the_csv_has_is_kept(folder):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    hdf5_of(frame(VALUES[:1], images=("a.png",)), folder / "CollectedData_Ann.h5")
    conversion = read_deeplabcut(folder)
    assert len(conversion.coco.images) == 2
    (note,) = conversion.notes
    assert note.endswith("CollectedData_Ann.csv: 1 image is only in this file, kept: labeled-data/one/b.png")


def test_many_differences_are_counted_and_ten_are_named(folder):
    names = [f"{index}.png" for index in range(13)]
    for name in names:
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    csv_of(frame(np.ones((13, 4)), images=names), folder / "CollectedData_Ann.csv")
    hdf5_of(frame(np.full((13, 4), 2), images=names), folder / "CollectedData_Ann.h5")
    (note,) = read_deeplabcut(folder).notes
    assert "26 points are not as in" in note
    assert note.endswith("labeled-data/one/4.png 'tail' and 16 more")


def test_a_broken_hdf5_beside_a_csv_is_named(folder):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    (folder / "CollectedData_Ann.h5").write_bytes(b"broken")
    conversion = read_deeplabcut(folder)
    assert keypoints(conversion) == EXPECTED
    assert (
        "CollectedData_Ann.h5: not compared with CollectedData_Ann.csv, which was read: expected"
        in conversion.notes[0]
    )


def test_without_the_extra_it_is_said_that_nothing_was_compared(folder, monkeypatch):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    hdf5_of(frame(VALUES), folder / "CollectedData_Ann.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    (note,) = read_deeplabcut(folder).notes
    assert note == (
        f"{folder / 'CollectedData_Ann.h5'}: not compared with CollectedData_Ann.csv, which was read: "
        "reading HDF5 needs h5py; pip install 'keypoint-detection[dlc]'"
    )
    (folder / "CollectedData_Ann.csv").unlink()
    with pytest.raises(ValueError, match="reading HDF5 needs h5py; pip install"):
        read_deeplabcut(folder)


@pytest.mark.parametrize("write", [csv_of, hdf5_of])
def test_several_scorers_in_one_table(folder, write):
    path = folder / ("CollectedData.csv" if write is csv_of else "CollectedData.h5")
    write(frame(np.hstack([VALUES, np.array(VALUES) + 10]), ("Ann", "Bob")), path)
    with pytest.raises(
        ValueError, match="expected labels of one scorer, got 'Ann', 'Bob'; name one as `scorer`"
    ):
        read_deeplabcut(folder)
    (folder.parents[1] / "config.yaml").write_text("scorer: Bob")
    conversion = read_deeplabcut(folder)
    assert keypoints(conversion)[0] == [11.5, 12, 2, 13, 14, 2]
    assert conversion.notes == (f"{path}: labels of 'Bob' taken, the scorer of config.yaml; left out: 'Ann'",)


def test_several_tables_in_one_folder(folder):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    hdf5_of(frame(np.array(VALUES) + 10), folder / "CollectedData_Bob.h5")
    with pytest.raises(ValueError, match="one: expected labels of one scorer, got 'Ann', 'Bob'"):
        read_deeplabcut(folder)
    for scorer, first in (("Ann", 1.5), ("Bob", 11.5)):
        (folder.parents[1] / "config.yaml").write_text(f"scorer: {scorer}")
        conversion = read_deeplabcut(folder)
        assert keypoints(conversion)[0][0] == first
        other = "CollectedData_Bob.h5" if scorer == "Ann" else "CollectedData_Ann.csv"
        assert conversion.notes == (
            f"{folder}: labels of '{scorer}' taken, the scorer of config.yaml; not read: {other}",
        )


def test_a_scorer_of_joined_cells(folder):
    text = "scorer,Ann,,,\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\na.png,1,2,3,4\n"
    (folder / "CollectedData_Ann.csv").write_text(text)
    assert keypoints(read_deeplabcut(folder)) == [[1, 2, 2, 3, 4, 2]]


def test_left_right_pairs_and_skeleton_go_to_the_category(folder):
    csv_of(frame(VALUES), folder / "CollectedData_Ann.csv")
    config = folder.parents[1] / "config.yaml"
    config.write_text("skeleton: [[tail, nose], [tail, ghost]]\nsymmetries: [[nose, tail]]\n")
    conversion = read_deeplabcut(folder)
    (category,) = conversion.coco.categories
    assert category.skeleton == [[2, 1]]
    assert (category.model_extra or {})["symmetric_keypoints"] == [["nose", "tail"]]
    assert conversion.notes == (
        f"{config} skeleton: left out ['tail', 'ghost']: there are no labels of 'ghost'",
    )
    config.write_text("")
    assert "symmetric_keypoints" not in (read_deeplabcut(folder).coco.categories[0].model_extra or {})


def test_a_category_configuration_is_refused(folder):
    with pytest.raises(ValueError, match=r"name their body parts themselves; leave out cats\.txt"):
        read_deeplabcut(folder, categories=Path("cats.txt"))


def test_two_images_never_get_one_name(folder):
    root = folder.parents[1]
    (root / "one").mkdir()
    (root / "one" / "a.png").write_bytes((folder / "a.png").read_bytes())
    header = "scorer,A,A\nbodyparts,nose,nose\ncoords,x,y\n"
    (folder / "CollectedData_A.csv").write_text(header + "labeled-data/one/a.png,1,2\none/a.png,3,4\n")
    conversion = read_deeplabcut(folder)
    assert [image.file_name for image in conversion.coco.images] == ["images/one/a.png", "images/one/2/a.png"]


@pytest.mark.parametrize("name", ["openfield", "facemap"])
def test_real_projects_have_every_label(name):
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"the real data set {name} is not here")
    conversion = read_deeplabcut(REAL_DATA / name)
    (path,) = (REAL_DATA / name).rglob("CollectedData*.csv")
    with path.open(newline="") as stream:
        lines = list(csv.reader(stream))
    first = next(index for index, cell in enumerate(lines[2]) if cell == "x")
    labelled = {
        row[first - 1].split("/")[-1]: sum(bool(cell.strip()) for cell in row[first:]) // 2
        for row in lines[3:]
    }
    images = {image.id: Path(image.file_name).name for image in conversion.coco.images}
    found = dict.fromkeys(images.values(), 0)
    for annotation in conversion.coco.annotations:
        found[images[annotation.image_id]] += annotation.keypoints[2::3].count(2)
    assert found == labelled
    expected = {"openfield": [], "facemap": ["img0051.png"]}[name]
    assert [note.split("/")[-1] for note in conversion.notes] == expected


@pytest.mark.parametrize("name", ["openfield", "facemap"])
def test_the_real_hdf5_gives_what_pandas_gives(name, tmp_path):
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"the real data set {name} is not here")
    (path,) = (REAL_DATA / name).rglob("CollectedData*.h5")
    folder = tmp_path / "labeled-data" / path.parent.name
    folder.mkdir(parents=True)
    for file in [path, *path.parent.glob("*.png")]:
        (folder / file.name).symlink_to(file)
    table = pd.read_hdf(path)
    names = [index if isinstance(index, str) else "/".join(index) for index in table.index]
    for index in names:
        if not (tmp_path / index).exists():
            (tmp_path / index).symlink_to(next(path.parent.glob("*.png")))
    conversion = read_deeplabcut(folder / path.name)
    values = table.to_numpy().reshape(len(table), -1, 2)
    assert len(conversion.coco.images) == len(table)
    for annotation, expected in zip(conversion.coco.annotations, values, strict=True):
        points = np.array(annotation.keypoints).reshape(-1, 3)
        labelled = points[:, 2] == 2
        assert np.array_equal(labelled, ~np.isnan(expected[:, 0]))
        assert np.array_equal(points[labelled, :2], expected[labelled])
