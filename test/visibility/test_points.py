"""Tables of points: files give every number back, and a wrong file is told by its line."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keypoint_detection.visibility import points
from keypoint_detection.visibility.points import PointTable, read_points, write_points

HEADER = "image,view,height,width,x,y,depth_m,label\n"


def table_of(image, xy, depth_m, label, names=("a.png", "b.png", "c.png")):
    return PointTable(
        image_names=tuple(names),
        views=tuple(f"view {index // 2}" for index in range(len(names))),
        image_hw=np.array([[20 + index, 30] for index in range(len(names))], dtype=np.int64).reshape(-1, 2),
        image=np.array(image, dtype=np.int64),
        xy=np.array(xy, dtype=np.float64).reshape(-1, 2),
        depth_m=np.array(depth_m, dtype=np.float64),
        label=np.array(label, dtype=np.uint8),
    )


def assert_same(one, other):
    assert one.image_names == other.image_names
    assert one.views == other.views
    for name in ("image_hw", "image", "xy", "depth_m", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype, name


THREE = table_of([0, 0, 2], [(1, 2), (0.1, -0.5), (1 / 3, 19.5)], [10.0, np.nan, 1e5 / 7], [1, 0, 1])


def test_rows_of_a_csv_file(tmp_path):
    write_points(tmp_path / "points.csv", THREE)
    rows = (tmp_path / "points.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] + "\n" == HEADER
    # image b.png has no point: the images are declared first
    assert rows[1:4] == ["a.png,view 0,20,30,,,,", "b.png,view 0,21,30,,,,", "c.png,view 1,22,30,,,,"]
    assert rows[4:] == [
        "a.png,view 0,20,30,1.0,2.0,10.0,1",
        "a.png,view 0,20,30,0.1,-0.5,,0",
        "c.png,view 1,22,30,0.3333333333333333,19.5,14285.714285714286,1",
    ]
    assert_same(read_points(tmp_path / "points.csv"), THREE)


def test_a_file_where_every_image_has_points_in_order_has_points_only(tmp_path):
    write_points(tmp_path / "p.csv", table_of([0, 1, 1, 2], np.ones((4, 2)), np.ones(4), [0, 1, 0, 1]))
    assert len((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DEPTHS = st.floats(min_value=1e-300, allow_infinity=False) | st.just(float("nan"))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(st.data(), st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_every_table_comes_back_from_csv(tmp_path_factory, data, names):
    n = data.draw(st.integers(0, 6))
    table = table_of(
        data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, len(names) - 1))),
        data.draw(hnp.arrays(np.float64, (n, 2), elements=FLOATS)),
        data.draw(hnp.arrays(np.float64, n, elements=DEPTHS)),
        data.draw(hnp.arrays(np.uint8, n, elements=st.integers(0, 1))),
        names,
    )
    path = tmp_path_factory.mktemp("points") / "p.csv"
    write_points(path, table)
    assert_same(read_points(path), table)


def test_a_table_without_points_or_images_comes_back(tmp_path):
    for number, names in enumerate(((), ("a.png",))):
        empty = table_of([], [], [], [], names)
        write_points(tmp_path / f"{number}.csv", empty)
        assert_same(read_points(tmp_path / f"{number}.csv"), empty)


def test_columns_may_come_in_another_order_with_others_among_them(tmp_path):
    (tmp_path / "p.csv").write_text("label,note,y,x,width,height,view,image,depth_m\n1,n,4,3,30,20,v,a,\n")
    table = read_points(tmp_path / "p.csv")
    assert (table.image_names, table.views, table.image_hw.tolist()) == (("a",), ("v",), [[20, 30]])
    assert (table.xy.tolist(), table.label.tolist()) == ([[3.0, 4.0]], [1])
    assert np.isnan(table.depth_m[0])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,v,20,30,1,2,5", "expected 8 cells, got 7"),
        ("a,v,20,30,1,two,5,1", "expected a number as y, got 'two'"),
        ("a,v,20.5,30,1,2,5,1", "expected a number as height, got '20.5'"),
        ("a,v,0,30,1,2,5,1", "one view and size"),
        ("b,v,0,30,1,2,5,1", "height and width of 1 or more"),
        ("a,w,20,30,1,2,5,1", "one view and size"),
        ("a,v,20,30,1,2,5,2", "label of 1 (visible) or 0"),
        ("a,v,20,30,nan,2,5,1", "finite x and y"),
        ("a,v,20,30,1,2,5,", "finite x and y beside a label"),
        ("a,v,20,30,1,2,-5,1", "depth above 0 m"),
        ("a,v,20,30,1,2,inf,1", "depth above 0 m"),
    ],
)
def test_a_wrong_row_is_told_by_its_line(tmp_path, row, words):
    path = tmp_path / "p.csv"
    path.write_text(HEADER + '"a",v,20,30,1,2,5,1\n' + row + "\n")
    with pytest.raises(ValueError) as error:
        read_points(path)
    assert f"{path}, line 3: " in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_other_wrong_files_are_one_line(tmp_path):
    (tmp_path / "p.csv").write_text("image,view,x,y,label\n")
    with pytest.raises(
        ValueError, match=r"p\.csv: expected the columns .*; missing: height, width, depth_m$"
    ):
        read_points(tmp_path / "p.csv")
    (tmp_path / "q.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"q\.csv: expected a CSV file in UTF-8"):
        read_points(tmp_path / "q.csv")
    with pytest.raises(FileNotFoundError, match=r"nothing at .*none\.csv"):
        read_points(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"ends in \.csv or \.parquet, got .*p\.txt"):
        write_points(tmp_path / "p.txt", THREE)


def test_an_unwritable_table_leaves_the_old_file(tmp_path):
    write_points(tmp_path / "p.csv", THREE)
    before = (tmp_path / "p.csv").read_bytes()
    bad = table_of([0], [(1, 2)], [1], [1], names=("\ud800.png",))  # no character that UTF-8 has
    with pytest.raises(UnicodeEncodeError):
        write_points(tmp_path / "p.csv", bad)
    assert (tmp_path / "p.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_parquet_without_its_libraries_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'keypoint-detection\[parquet\]'"):
        write_points(tmp_path / "p.parquet", THREE)
    assert not list(tmp_path.iterdir())


def test_parquet_comes_back(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the parquet extra")
    write_points(tmp_path / "p.parquet", THREE)
    assert_same(read_points(tmp_path / "p.parquet"), THREE)


def test_the_frame_of_parquet_holds_the_same_cells(tmp_path, monkeypatch):
    """What would be written as Parquet is read back through CSV: the columns agree without pyarrow."""
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    monkeypatch.setattr(points, "_import_pandas", lambda: pandas)
    frame = points._frame(THREE)
    assert list(frame.columns) == list(points.COLUMNS)
    frame.to_csv(tmp_path / "p.csv", index=False)
    assert_same(read_points(tmp_path / "p.csv"), THREE)
    monkeypatch.setattr(pandas, "read_parquet", lambda path, engine: frame)
    (tmp_path / "p.parquet").touch()
    assert_same(read_points(tmp_path / "p.parquet"), THREE)


def test_select_by_mask_and_by_index_keeps_all_images():
    by_mask, by_index = THREE.select(np.array([True, False, True])), THREE.select([2, 0, 2])
    assert len(by_mask) == 2
    assert by_mask.image_names == by_index.image_names == THREE.image_names
    assert by_mask.xy.tolist() == THREE.xy[[0, 2]].tolist()
    assert by_index.image.tolist() == [2, 0, 2]
    assert by_index.depth_m.tolist() == [1e5 / 7, 10.0, 1e5 / 7]
    assert len(THREE.select([])) == 0
    assert THREE.point_views.tolist() == ["view 0", "view 0", "view 1"]


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="for 3 images and 1 points"):
        table_of([0], [(1, 2), (3, 4)], [1], [1])
    with pytest.raises(ValueError, match="indices of images from 0 to 2, got 3 to 3"):
        table_of([3], [(1, 2)], [1], [1])


def test_a_size_that_no_picture_has_is_told_by_its_line(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("image,view,height,width,x,y,depth_m,label\na.png,v," + "9" * 40 + ",3,1,1,,1\n")
    with pytest.raises(ValueError, match=r"points\.csv, line 2: expected a number as height, got '9999"):
        read_points(path)
