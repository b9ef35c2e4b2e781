"""Any bytes in a project give labels or one line: CSV, HDF5, config.yaml, image."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keypoint_detection.convert import convert_to_coco
from keypoint_detection.data.formats.deeplabcut import read_deeplabcut

LEVELS = ["scorer", "individuals", "bodyparts", "coords"]
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
CONFIG = (
    b"Task: mouse\nscorer: Ann\nbodyparts: [nose, tail]\nskeleton:\n- - nose\n  - tail\n"
    b"symmetries: [[0, 1]]\nvideo_sets:\n  v.mp4: {crop: '0, 9, 0, 8'}\n"
)


def frame(several: bool) -> pd.DataFrame:
    animals = ["m1", "m2"] if several else ["m1"]
    columns = pd.MultiIndex.from_product([["Ann"], animals, ["nose", "tail"], ["x", "y"]], names=LEVELS)
    if not several:
        columns = columns.droplevel("individuals")
    values = np.arange(2.0 * len(columns)).reshape(2, -1)
    values[1, :2] = np.nan
    return pd.DataFrame(values, columns=columns, index=["labeled-data/v/a.png", "labeled-data/v/b.png"])


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    """Make the files of a small project in every layout."""
    folder = tmp_path_factory.mktemp("originals")
    three = frame(False)
    three.index = pd.MultiIndex.from_tuples([tuple(name.split("/")) for name in three.index])
    frame(False).to_csv(folder / "one.csv")
    frame(True).to_csv(folder / "several.csv")
    three.to_csv(folder / "three.csv")
    frame(False).to_hdf(folder / "one.h5", key="df_with_missing", mode="w")
    frame(True).to_hdf(folder / "several.h5", key="df_with_missing", mode="w", format="table", index=False)
    three.to_hdf(folder / "three.h5", key="keypoints", mode="w")
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"config.yaml": CONFIG}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    import cv2

    root = tmp_path_factory.mktemp("project")
    (root / "labeled-data" / "v").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(root / "labeled-data" / "v" / name), np.zeros((8, 9, 3), np.uint8))
    return root


def lay_out(project: Path, files: dict[str, bytes]) -> None:
    folder = project / "labeled-data" / "v"
    for path in [*folder.glob("CollectedData*"), project / "config.yaml"]:
        path.unlink(missing_ok=True)
    for name, content in files.items():
        place = project if name == "config.yaml" else folder
        (place / (name if name == "config.yaml" else f"CollectedData_Ann{Path(name).suffix}")).write_bytes(
            content
        )


def read_or_one_line(project: Path) -> None:
    try:
        conversion = read_deeplabcut(project)
    except (ValueError, FileNotFoundError) as error:
        lines = [str(error)]
    else:
        assert conversion.coco.images
        lines = list(conversion.notes)
    assert all(len(line.splitlines()) == 1 for line in lines)


@st.composite
def damages(draw) -> list[tuple[str, float, bytes]]:
    """Draw places and what happens there: bytes replaced, put in, taken out, or the rest cut off."""
    kinds = st.sampled_from(["replace", "replace", "replace", "insert", "remove", "cut"])
    piece = st.binary(min_size=1, max_size=4) | st.sampled_from(
        [b",", b"\n", b'"', b"nan", b"1e999", b"\x00", b"[", b"&a"]
    )
    return draw(st.lists(st.tuples(kinds, st.floats(0, 1, exclude_max=True), piece), min_size=1, max_size=6))


def damaged(content: bytes, damages: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, piece in damages:
        # squared, as what describes a file stands at its beginning
        place = int(where**2 * len(content))
        behind = place if kind == "insert" else len(content) if kind == "cut" else place + len(piece)
        content = content[:place] + (piece if kind in ("replace", "insert") else b"") + content[behind:]
    return content


@pytest.mark.parametrize("name", ["one.csv", "several.csv", "three.csv", "one.h5", "several.h5", "three.h5"])
def test_a_damaged_table(project, originals, name):
    lay_out(project, {name: originals[name]})
    assert len(read_deeplabcut(project).coco.images) == 2

    @SETTINGS
    @given(damage=damages())
    def check(damage):
        lay_out(project, {name: damaged(originals[name], damage)})
        read_or_one_line(project)

    check()


def test_a_damaged_config(project, originals):
    @SETTINGS
    @given(damage=damages())
    def check(damage):
        lay_out(project, {"one.csv": originals["one.csv"], "config.yaml": damaged(CONFIG, damage)})
        read_or_one_line(project)

    check()


def test_a_damaged_hdf5_beside_a_csv_changes_no_label(project, originals):
    lay_out(project, {"one.csv": originals["one.csv"]})
    expected = read_deeplabcut(project).coco

    @SETTINGS
    @given(damage=damages())
    def check(damage):
        lay_out(project, {"one.csv": originals["one.csv"], "one.h5": damaged(originals["one.h5"], damage)})
        conversion = read_deeplabcut(project)
        assert conversion.coco == expected
        assert all(len(note.splitlines()) == 1 for note in conversion.notes)

    check()


@SETTINGS
@given(content=st.binary(max_size=300), kind=st.sampled_from(["x.csv", "x.h5", "config.yaml"]))
def test_random_bytes(project, content, kind):
    csv = b"scorer,A,A\nbodyparts,n,n\ncoords,x,y\nlabeled-data/v/a.png,1,2\n"
    lay_out(project, {"one.csv": csv, kind: content} if kind == "config.yaml" else {kind: content})
    read_or_one_line(project)


@SETTINGS
@given(
    content=st.binary(max_size=80),
    start=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM"]),
)
def test_a_broken_image(tmp_path, content, start):
    folder = tmp_path / "v"
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(start + content)
    (folder / "CollectedData_A.csv").write_text("scorer,A,A\nbodyparts,n,n\ncoords,x,y\na.png,1,2\n")
    read_or_one_line(folder)


@SETTINGS
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.just("x" * 5000))
def test_any_name_of_an_image(tmp_path, name):
    folder = tmp_path / "v"
    folder.mkdir(exist_ok=True)
    row = '"' + name.replace('"', '""') + '",1,2\n'
    (folder / "CollectedData_A.csv").write_text(
        "scorer,A,A\nbodyparts,n,n\ncoords,x,y\n" + row, encoding="utf-8"
    )
    read_or_one_line(folder)


def test_an_error_leaves_no_file(project, originals, tmp_path):
    for name in ("one.csv", "one.h5", "several.h5"):
        for end in range(0, len(originals[name]), max(1, len(originals[name]) // 25)):
            lay_out(project, {name: originals[name][:end]})
            try:
                convert_to_coco("deeplabcut", project, tmp_path / "coco")
            except (ValueError, FileNotFoundError):
                assert not (tmp_path / "coco").exists()
            else:  # a CSV that ends between two lines is whole
                assert name == "one.csv"
                for path in sorted((tmp_path / "coco").rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
                (tmp_path / "coco").rmdir()
