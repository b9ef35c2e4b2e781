from pathlib import Path

import pytest

from keypoint_detection.data.formats.deeplabcut_csv import read_label_table

HEADER = ["scorer,Ann,Ann,Ann,Ann", "bodyparts,nose,nose,tail tip,tail tip", "coords,x,y,x,y"]
ROW = "labeled-data/v/a.png,1,2,3.5,4.25"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "CollectedData_Ann.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def error_line(folder: Path, *lines: str) -> str:
    path = write(folder, *lines)
    with pytest.raises(ValueError) as caught:
        read_label_table(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_one_index_column(tmp_path):
    table = read_label_table(write(tmp_path, *HEADER, ROW))
    assert list(table.columns) == [("", "nose"), ("", "tail tip")]
    (row,) = table.rows
    assert row.image_parts == ("labeled-data", "v", "a.png")
    assert row.points == {"": {"nose": (1, 2), "tail tip": (3.5, 4.25)}}
    assert row.place == "line 4"


def test_three_index_columns(tmp_path):
    lines = ["scorer,,,Ann,Ann", "bodyparts,,,nose,nose", "coords,,,x,y", "labeled-data,v,a.png,1,2"]
    (row,) = read_label_table(write(tmp_path, *lines)).rows
    assert row.image_parts == ("labeled-data", "v", "a.png")
    assert row.points == {"": {"nose": (1, 2)}}


def test_several_individuals(tmp_path):
    table = read_label_table(
        write(
            tmp_path,
            "scorer,,,Ann,Ann,Ann,Ann,Ann,Ann",
            "individuals,,,m1,m1,m2,m2,single,single",
            "bodyparts,,,nose,nose,nose,nose,lamp,lamp",
            "coords,,,x,y,x,y,x,y",
            "labeled-data,v,a.png,1,2,,,5,6",
        )
    )
    assert list(table.columns) == [("m1", "nose"), ("m2", "nose"), ("single", "lamp")]
    assert table.rows[0].points == {"m1": {"nose": (1, 2)}, "m2": {}, "single": {"lamp": (5, 6)}}


@pytest.mark.parametrize("blank", [",", "nan,NaN", " , "])
def test_a_blank_is_absent(tmp_path, blank):
    (row,) = read_label_table(write(tmp_path, *HEADER, f"a.png,{blank},3,4")).rows
    assert row.points == {"": {"tail tip": (3, 4)}}


def test_what_spreadsheets_and_windows_do(tmp_path):
    path = tmp_path / "CollectedData_Ann.csv"
    lines = [*HEADER, '"labeled-data\\v\\a.png", 1 ,2,,', ",,,,", ""]
    path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode("utf-8"))
    (row,) = read_label_table(path).rows
    assert row.image_parts == ("labeled-data", "v", "a.png")
    assert row.points == {"": {"nose": (1, 2)}}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "expected header rows scorer, bodyparts, coords of DeepLabCut labels, got none of them"),
        (["a,b", "1,2"], "got none of them"),
        ([HEADER[0], HEADER[1], ROW], "got scorer, bodyparts"),
        (["scorer,A,A", "coords,x,y", "a.png,1,2"], "got scorer, coords"),
        ([*HEADER], "expected one row per labelled image, got none"),
        ([*HEADER, ROW, "a.png,1,2"], " line 5: expected 5 cells as in the first line, got 3"),
        (
            [*HEADER, ROW, "a.png,1,abc,3,4"],
            " line 5, column 'nose y': expected a number of pixels or a blank, got",
        ),
        ([*HEADER, "a.png,1,2,inf,4"], " line 4, column 'tail tip x': expected a number"),
        ([*HEADER, "a.png,1,,3,4"], " line 4: expected x and y of 'nose', got only one of them"),
        ([*HEADER, ",1,2,3,4"], " line 4: expected the path of an image, got nothing"),
        (
            ["scorer,,", "bodyparts,,", "coords,,", "a.png,b,c"],
            "expected columns x and y of body parts, got none",
        ),
        (
            ["scorer,A,A,A", "bodyparts,n,n,n", "coords,x,y,likelihood", "0,1,2,0.9"],
            " column 4: expected x or y of a body part, got 'likelihood' of 'n'; are these predictions",
        ),
        (
            ["scorer,A,A", "bodyparts,n,n", "coords,x,x", "a.png,1,2"],
            " column 3: expected one x of 'n', got two",
        ),
        (["scorer,A", "bodyparts,n", "coords,x", "a.png,1"], "expected columns x and y of 'n', got x only"),
        (
            ["scorer,A,A", "bodyparts,,n", "coords,x,y", "a.png,1,2"],
            " column 2: expected x or y of a body part",
        ),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, lines, expected):
    assert expected in error_line(tmp_path, *lines)


def test_individual_is_named_with_its_body_part(tmp_path):
    lines = ["scorer,A,A", "individuals,m1,m1", "bodyparts,nose,nose", "coords,x,y", "a.png,1,?"]
    assert "column 'm1 nose y'" in error_line(tmp_path, *lines)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "CollectedData_Ann.csv"
    path.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(ValueError, match="expected a CSV file in UTF-8") as caught:
        read_label_table(path)
    assert "\n" not in str(caught.value)
