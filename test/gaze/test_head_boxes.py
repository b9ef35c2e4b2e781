"""Files of head boxes, and which images they are of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaze_tables import table_of

from keypoint_detection.gaze.head_boxes import HeadBoxes, read_head_boxes
from keypoint_detection.gaze.head_boxes_match import heads_of_images
from keypoint_detection.gaze.people import write_table

ROWS = [
    {"image": "a.png", "x0": 1, "y0": 2.5, "x1": 30, "y1": 40, "person": "left", "eye_x": 10, "eye_y": 12},
    {"image": "clip/b.png", "x0": -3, "y0": 0, "x1": 9, "y1": 9},
    {"image": "a.png", "x0": 50, "y0": 2, "x1": 60, "y1": 40},
]


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def rows_of(boxes: HeadBoxes) -> dict[str, list[tuple]]:
    return {
        name: [(head.person, head.box, head.eye) for head in heads] for name, heads in boxes.by_image.items()
    }


EXPECTED = {
    "a.png": [("left", (1, 2.5, 30, 40), (10, 12)), ("1", (50, 2, 60, 40), None)],
    "clip/b.png": [("0", (-3, 0, 9, 9), None)],
}


def test_csv_and_json_say_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    text = (
        "\ufeffscore,image,person,x0,y0,x1,y1,eye_x,eye_y\r\n0.9,a.png,left,1,2.5,30,40,10,12\r\n"
        '0.8,"clip\\b.png",,-3,0,9,9,,\r\n\r\n,,,,,,,,\r\n0.8, a.png ,,50,2,60,40,,\r\n'
    )
    found = read_head_boxes(write(tmp_path / "boxes.CSV", text))
    assert rows_of(found) == EXPECTED
    assert len(found) == 3
    assert found.by_image["a.png"][1].place == f"{tmp_path / 'boxes.CSV'}:6"
    assert caplog.messages == [f"{tmp_path / 'boxes.CSV'}: not used: score"]
    nulls = [{**row, "person": row.get("person"), "eye_x": row.get("eye_x")} for row in ROWS]
    for rows in (ROWS, nulls):
        assert rows_of(read_head_boxes(write(tmp_path / "boxes.json", rows))) == EXPECTED


def test_unnamed_people_get_names_that_nobody_has(tmp_path: Path) -> None:
    rows = "".join(f"a.png,1,2,3,4,{person}\n" for person in ("", "1", "", "0", "x", ""))
    found = read_head_boxes(write(tmp_path / "boxes.csv", "image,x0,y0,x1,y1,person\n" + rows))
    assert [head.person for head in found.by_image["a.png"]] == ["2", "1", "3", "0", "x", "5"]


def test_names_as_a_shell_lists_them(tmp_path: Path) -> None:
    names = ("./1.png", "1.png", "a/../b/./1.png", "../b/2.png", "b//2.png", "/c/../c/3.png")
    found = boxes_of(tmp_path, *names)
    assert {name: len(heads) for name, heads in found.by_image.items()} == {
        "1.png": 2,
        "b/1.png": 1,
        "b/2.png": 2,
        "/c/3.png": 1,
    }


def test_frames(tmp_path: Path) -> None:
    text = "frame,x0,y0,x1,y1\n3,1,2,3,4\n0,5,6,7,8\n3.0,2,2,3,4\n"
    found = read_head_boxes(write(tmp_path / "boxes.csv", text))
    assert not found.by_image
    heads = {frame: [head.box for head in heads] for frame, heads in found.by_frame.items()}
    assert heads == {3: [(1, 2, 3, 4), (2, 2, 3, 4)], 0: [(5, 6, 7, 8)]}


def test_a_table_of_people(tmp_path: Path) -> None:
    table = table_of([0, 1, 0, 1, 1], seed=2)
    write_table(tmp_path / "people.json", table)
    found = read_head_boxes(tmp_path / "people.json")
    assert len(found) == 5
    for row, person in enumerate(table.person):
        heads = found.by_image[table.image_names[table.image[row]]]
        [head] = [head for head in heads if head.person == person]
        assert head.box == tuple(table.head_box[row].tolist())
        eye = table.eye_xy[row]
        assert head.eye == (None if np.isnan(eye[0]) else tuple(eye.tolist()))


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 4, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "person"}, {"id": 7, "name": "Head"}],
        "annotations": [
            {"id": 11, "image_id": 4, "category_id": 1, "bbox": [0, 0, 60, 40]},
            {"id": 12, "image_id": 4, "category_id": 7, "bbox": [0, 10, 8, 6]},
        ],
        **changes,
    }


def test_coco_heads_count_from_the_corner(tmp_path: Path) -> None:
    found = read_head_boxes(write(tmp_path / "coco.json", coco()))
    # the first 8 columns: outer edges -0.5 and 7.5
    assert rows_of(found) == {"a.png": [("12", (-0.5, 9.5, 7.5, 15.5), None)]}


HEADER = "image,x0,y0,x1,y1\n"
WRONG_CSV = {
    "": ":1: expected a header with image or frame, x0, y0, x1, y1.* got nothing",
    "image,x0,y0,x1\n": ":1: expected a header",
    "image,frame,x0,y0,x1,y1\n": ":1: expected a header",
    "image,x0,x0,y0,x1,y1\n": ":1: expected every column once",
    HEADER: "expected head boxes, got none",
    HEADER + "a.png,1,2,3\n": ":2: expected 5 columns, got 4",
    HEADER + "a.png,1,2,3,x\n": ":2: expected a finite number in y1, got 'x'",
    HEADER + "a.png,1,2,3,\n": ":2: expected a finite number in y1, got None",
    HEADER + "a.png,1,2,3,nan\n": ":2: expected a finite number in y1, got 'nan'",
    HEADER + "a.png,1,2,3,4\na.png,5,2,3,4\n": ":3: expected x0 < x1 and y0 < y1, got 5, 2, 3, 4",
    HEADER + ",1,2,3,4\n": ":2: expected image or frame, got none",
    HEADER + "/,1,2,3,4\n": ":2: expected the name of an image, got '/'",
    "frame,x0,y0,x1,y1\n-1,1,2,3,4\n": ":2: expected the number of a frame, from 0, got '-1'",
    "frame,x0,y0,x1,y1\n1.5,1,2,3,4\n": ":2: expected the number of a frame, from 0, got '1.5'",
    "image,x0,y0,x1,y1,eye_x\na,1,2,3,4,5\n": "expected eye_x and eye_y or neither, got only eye_x",
    "image,x0,y0,x1,y1,person\na,1,2,3,4,p\na,2,2,3,4,p\n": ":3: expected another person .* got 'p'",
    HEADER + '"a.png,1,2,3,4\n': ":2: expected 5 columns, got 1",
    "image;x0;y0;x1;y1\na.png;1;2;3;4\n": ":1: expected a header .* put commas between the columns",
    "frame,x0,y0,x1,y1\n" + "1" * 5000 + ",1,2,3,4\n": ":2: expected the number of a frame, from 0, got '1",
}


@pytest.mark.parametrize("text", WRONG_CSV)
def test_broken_rows_are_named(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.csv", text)
    with pytest.raises(ValueError, match=WRONG_CSV[text]) as raised:
        read_head_boxes(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


WRONG_JSON: list[tuple[Any, str]] = [
    ("[{", "expected JSON"),
    ("[" * 100_000, "expected JSON"),
    ("3", "expected a list of objects with .*got int"),
    ([], "expected head boxes, got none"),
    ([3], r"\[0\]: expected an object with"),
    ([ROWS[0], {**ROWS[1], "eyex": 3}], r"\[1\]: expected .*, got eyex"),
    ([{**ROWS[0], "frame": 2}], r"\[0\]: expected image or frame, got both"),
    ([{**ROWS[0], "x0": True}], r"\[0\]: expected a finite number in x0, got True"),
    ([{**ROWS[0], "image": 4}], r"\[0\]: expected the name of an image, got 4"),
    ([ROWS[0], {"frame": 2, "x0": 1, "y0": 1, "x1": 2, "y1": 2}], "boxes of images or of frames, got both"),
    ('[{"image": "a", "x0": 0, "y0": 0, "x1": 1e999, "y1": 1}]', "expected a finite number in x1, got inf"),
    ([{**ROWS[0], "person": [1]}], r"\[0\]: expected a name or a number in person, got \[1\]"),
    ('[{"image": "a", "x0": ' + "1" * 5000 + "}]", "expected JSON; .*5000 digits"),
    (
        coco(annotations=[{"image_id": 4, "category_id": [7], "bbox": [1, 2, 3, 4]}]),
        r"annotations\[0\]: expected category_id as a number or text, got \[7\]",
    ),
    (coco(categories=[{"id": 1, "name": "person"}]), "expected a category 'head' .*, got person"),
    (coco(images=[]), r"annotations\[1\]: expected image_id of an image of the file, got 4"),
    (coco(images=3), "expected images as a list of objects, got int"),
    (coco(images=[{"id": 4}]), r"images\[0\]: expected file_name"),
    (
        coco(annotations=[{"image_id": 4, "category_id": 7, "bbox": [1, 2, 3]}]),
        r"annotations\[0\]: expected bbox as x, y, width, height, got \[1, 2, 3\]",
    ),
    (
        coco(annotations=[{"image_id": 4, "category_id": 7, "bbox": [1, 2, 0, 5]}]),
        r"annotations\[0\]: expected x0 < x1",
    ),
]


@pytest.mark.parametrize(("content", "message"), WRONG_JSON, ids=range(len(WRONG_JSON)))
def test_broken_json_is_named(content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.json", content)
    with pytest.raises(ValueError, match=message) as raised:
        read_head_boxes(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        read_head_boxes(tmp_path / "gone.csv")
    with pytest.raises(ValueError, match=r"ends in \.csv or \.json"):
        read_head_boxes(write(tmp_path / "boxes.txt", "x"))
    for name in ("boxes.csv", "boxes.json"):
        (tmp_path / name).write_bytes(b"image,x0\xff\xfe,y0")
        with pytest.raises(ValueError, match=f"{name}: expected text in UTF-8"):
            read_head_boxes(tmp_path / name)


def boxes_of(folder: Path, *names: str) -> HeadBoxes:
    rows = [{"image": name, "x0": 0, "y0": 0, "x1": number + 1, "y1": 5} for number, name in enumerate(names)]
    return read_head_boxes(write(folder / "boxes.json", rows))


def test_names_meet_the_ends_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("a/1.png", "b/1.png", "b/2.png", "b/3.png")]
    boxes = boxes_of(tmp_path, "1.png", "b/1.png", "2.png", str(tmp_path / "b/3.png"), "b/2.png", "4.png")
    heads, n_others = heads_of_images(boxes, paths)
    # the width tells which row it is; the longer name of b/2.png counts
    assert [[head.box[2] for head in of_image] for of_image in heads] == [[1], [2], [5], [4]]
    assert n_others == 2
    monkeypatch.chdir(tmp_path)
    assert heads_of_images(boxes, [path.relative_to(tmp_path) for path in paths]) == (heads, n_others)


def test_names_of_several_or_no_images(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/1.png", "b/1.png")]
    with pytest.raises(ValueError, match=r"expected 1\.png to be one image, got .*a/1\.png and .*b/1\.png"):
        heads_of_images(boxes_of(tmp_path, "1.png"), paths)
    with pytest.raises(ValueError, match=r"such as 1\.png, got 1 that are none of them, such as 11\.png"):
        heads_of_images(boxes_of(tmp_path, "11.png"), paths)
    write(tmp_path / "f.csv", "frame,x0,y0,x1,y1\n3,1,2,3,4\n")
    with pytest.raises(ValueError, match="got numbers of frames; give their video as --source"):
        heads_of_images(read_head_boxes(tmp_path / "f.csv"), paths)
