import json
from pathlib import Path

from format_fuzzing import JSON_VALUES, broken_bytes, gives_labels_or_one_line, places, replaced
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.formats.label_studio import read_label_studio

SIZE = {"original_width": 200, "original_height": 100, "image_rotation": 0}


def point(identity: str, label: str, x: float, y: float, **fields) -> dict:
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [label]}
    return {"id": identity, "type": "keypointlabels", "value": value, **SIZE, **fields}


def box(identity: str, label: str, xywh: tuple, rotation: float = 0) -> dict:
    value = dict(zip(("x", "y", "width", "height"), xywh, strict=True))
    value |= {"rotation": rotation, "rectanglelabels": [label]}
    return {"id": identity, "type": "rectanglelabels", "value": value, **SIZE}


def relation(start: str, end: str) -> dict:
    return {"type": "relation", "from_id": start, "to_id": end, "direction": "right"}


def task(*result: dict, image: str = "/data/upload/1/0123abcd-a.png", **fields) -> dict:
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(result), **fields}]}


def write(folder: Path, content) -> Path:
    path = folder / "export.json"
    path.write_text(json.dumps(content))
    return path


def valid() -> list[dict]:
    choice = {"id": "b", "type": "choices", "value": {"choices": ["occluded"]}}
    first = task(
        box("r", "cat", (1, 2, 30, 40)),
        point("a", "cat.nose", 10, 10, meta={"text": ["occluded"]}, parentID="r"),
        point("b", "tail", 20, 20),
        choice,
        relation("b", "r"),
        completed_by=3,
        was_cancelled=False,
    )
    return [
        first,
        {"id": 8, "data": {"image": "b.png", "width": 5, "height": 5}, "annotations": [{"result": []}]},
    ]


@settings(max_examples=250, deadline=None)
@given(picked=st.data())
def test_any_json_at_any_place(tmp_path_factory, picked):
    content = valid()
    place = picked.draw(st.sampled_from(list(places(content))))
    raw = json.dumps(replaced(content, place, picked.draw(JSON_VALUES))).encode()
    gives_labels_or_one_line(tmp_path_factory.mktemp("fuzz"), raw, read_label_studio)


@settings(max_examples=150, deadline=None)
@given(raw=broken_bytes(json.dumps(valid()).encode()))
def test_any_bytes(tmp_path_factory, raw):
    gives_labels_or_one_line(tmp_path_factory.mktemp("fuzz"), raw, read_label_studio)


@settings(max_examples=60, deadline=None)
@given(picked=st.data())
def test_any_category_configuration(tmp_path_factory, picked):
    folder = tmp_path_factory.mktemp("fuzz")
    content = {"categories": [{"id": 1, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}]}
    place = picked.draw(st.sampled_from(list(places(content))))
    export = write(folder, valid())
    raw = json.dumps(replaced(content, place, picked.draw(JSON_VALUES))).encode()
    gives_labels_or_one_line(folder, raw, lambda path: read_label_studio(export, categories=path))
