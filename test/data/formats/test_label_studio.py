import json
from pathlib import Path

import cv2
import numpy as np
import pytest

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


def read(folder: Path, *tasks: dict, **options):
    return read_label_studio(write(folder, list(tasks)), **options)


def test_percent_counts_from_the_corner(tmp_path):
    conversion = read(tmp_path, task(point("a", "nose", 50, 50), point("b", "tail", 0, 100)))
    coco = conversion.coco
    (image,), (annotation,) = coco.images, coco.annotations
    assert (image.id, image.file_name, image.width, image.height) == (7, "images/a.png", 200, 100)
    assert (coco.categories[0].name, coco.categories[0].keypoints) == ("object", ["nose", "tail"])
    # 50 % of 200 columns is the border between columns 99 and 100
    assert annotation.keypoints == [99.5, 49.5, 2, -0.5, 99.5, 2]
    assert conversion.image_paths == {}
    assert conversion.notes == (f"{tmp_path / 'export.json'}: 1 of 1 images are not beside the file",)


def test_relations_and_parents_join_points_to_rectangles(tmp_path):
    coco = read(
        tmp_path,
        task(
            box("r1", "cat", (0, 0, 50, 100)),
            box("r2", "dog", (50, 0, 25, 50)),
            point("a", "nose", 10, 10),
            point("b", "cat.tail", 20, 20),
            point("c", "nose", 60, 10, parentID="r2"),
            relation("r1", "a"),
            relation("b", "r1"),
        ),
    ).coco
    assert [(c.name, c.keypoints) for c in coco.categories] == [("cat", ["nose", "tail"]), ("dog", ["nose"])]
    first, second = coco.annotations
    assert (first.keypoints, first.bbox, first.area) == ([19.5, 9.5, 2, 39.5, 19.5, 2], [0, 0, 100, 100], 1e4)
    assert (second.category_id, second.keypoints, second.bbox) == (2, [119.5, 9.5, 2], [100, 0, 50, 50])


def test_points_without_rectangle_are_joined_by_relations_and_by_category(tmp_path):
    coco = read(
        tmp_path,
        task(
            point("a", "cat.nose", 10, 10),
            point("b", "cat.tail", 20, 20),
            point("c", "cat.nose", 50, 50),
            point("d", "dog.nose", 60, 60),
            relation("a", "b"),
        ),
    ).coco
    assert [(a.category_id, a.num_keypoints) for a in coco.annotations] == [(1, 2), (1, 1), (2, 1)]


def test_the_only_rectangle_takes_loose_points(tmp_path):
    (annotation,) = read(
        tmp_path, task(box("r", "cat", (0, 0, 50, 50)), point("a", "nose", 10, 10))
    ).coco.annotations
    assert (annotation.num_keypoints, annotation.bbox) == (1, [0, 0, 100, 50])


def test_a_turned_rectangle_gives_the_upright_box_around_it(tmp_path):
    # 40 x 10 pixels, turned by 90 degrees about (100, 50): it reaches 10 to the left and 40 down
    coco = read(tmp_path, task(box("r", "cat", (50, 50, 20, 10), 90), point("a", "nose", 10, 10))).coco
    np.testing.assert_allclose(coco.annotations[0].bbox, [90, 50, 10, 40])


def test_occluded_by_note_or_choice(tmp_path):
    choice = {"id": "b", "type": "choices", "value": {"choices": ["Occluded"]}}
    result = (
        point("a", "nose", 1, 1, meta={"text": ["occluded"]}),
        point("b", "tail", 1, 1),
        point("c", "ear", 1, 1, meta={"text": ["sharp"]}),
        choice,
    )
    (annotation,) = read(tmp_path, task(*result)).coco.annotations
    assert annotation.keypoints[2::3] == [1, 1, 2]


def test_annotators_are_kept_and_cancelled_ones_left_out(tmp_path):
    entry = task(point("a", "nose", 1, 1), completed_by={"id": 3, "email": "a@b.c"})
    entry["annotations"] += [
        {"result": [point("a", "nose", 2, 2)], "completed_by": 4},
        {"result": [point("a", "nose", 3, 3)], "was_cancelled": True},
    ]
    entry["predictions"] = [{"result": []}]
    other = {**task(), "id": 8, "annotations": [{"result": [], "was_cancelled": True}]}
    unlabelled = {**task(), "id": 9, "annotations": []}
    conversion = read(tmp_path, entry, other, unlabelled)
    assert [a.model_extra for a in conversion.coco.annotations] == [{"annotator": "a@b.c"}, {"annotator": 4}]
    assert [image.id for image in conversion.coco.images] == [7]
    notes = " | ".join(conversion.notes)
    for text in (
        "2 cancelled annotations",
        "1 tasks have several annotations",
        "predictions of 1 tasks",
        "1 tasks are left out: every annotation was cancelled",
        "1 tasks are left out: they have not been annotated",
    ):
        assert text in notes


def test_what_is_not_understood_is_counted(tmp_path):
    brush = {"id": "x", "type": "brushlabels", "value": {}}
    unlabelled = point("u", "nose", 1, 1)
    del unlabelled["value"]["keypointlabels"]
    conversion = read(tmp_path, task(point("a", "nose", 1, 1), brush, brush, unlabelled, relation("a", "x")))
    notes = " | ".join(conversion.notes)
    assert "2 results of type 'brushlabels'" in notes
    assert "1 regions without a label" in notes
    assert "1 relations with regions that are not understood" in notes
    assert len(conversion.coco.annotations) == 1


@pytest.mark.parametrize(
    ("image", "file", "file_name"),
    [
        ("/data/upload/1/0123abcd-a.png", "a.png", "images/a.png"),
        ("/data/upload/1/0123abcd-a.png", "0123abcd-a.png", "images/a.png"),
        ("/data/upload/1/0123abcd-a%20b.png", "images/a b.png", "images/a b.png"),
        ("/data/local-files/?d=set/one/a%20b.png", "one/a b.png", "images/set/one/a b.png"),
        ("/data/local-files/?d=images/one/a.png", "images/one/a.png", "images/one/a.png"),
        ("https://host/x/a.png?token=1", "a.png", "images/a.png"),
        ("../../a.png", "a.png", "images/a.png"),
    ],
)
def test_images_are_found_beside_the_export(tmp_path, image, file, file_name):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((100, 200), np.uint8))
    conversion = read(tmp_path, task(point("a", "nose", 1, 1), image=image))
    assert conversion.coco.images[0].file_name == file_name
    assert {identity: found.resolve() for identity, found in conversion.image_paths.items()} == {7: path}


def test_a_task_without_regions_needs_a_size(tmp_path):
    empty, sized = task(), task(image="b.png")
    sized["id"], sized["data"] = 8, {"image": "b.png", "width": 30, "height": 20}
    conversion = read(tmp_path, task(point("a", "nose", 1, 1)) | {"id": 1}, empty, sized)
    assert [(image.id, image.width, image.height) for image in conversion.coco.images] == [
        (1, 200, 100),
        (8, 30, 20),
    ]
    assert any("1 tasks are left out: no region, field or file tells the size" in n for n in conversion.notes)
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 8), np.uint8))
    images = read(tmp_path, task(point("a", "nose", 1, 1), image="c.png") | {"id": 1}, empty).coco.images
    assert [(image.id, image.width, image.height) for image in images] == [(1, 200, 100), (7, 8, 9)]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([point("a", "nose", 1, 1), point("b", "nose", 2, 2)], "'nose' twice; draw a rectangle per instance"),
        ([point("a", "nose", 1, 1), point("a", "tail", 2, 2)], "ids that occur once, got 'a' twice"),
        (
            [box("r", "dog", (0, 0, 9, 9)), point("a", "cat.nose", 1, 1), relation("a", "r")],
            "one category per instance, got 'cat' and 'dog'",
        ),
        (
            [
                box("r", "dog", (0, 0, 9, 9)),
                box("s", "dog", (0, 0, 9, 9)),
                point("a", "nose", 1, 1),
                relation("a", "r"),
                relation("s", "a"),
            ],
            "joined to one rectangle, got 2",
        ),
        ([point("a", "nose", "1", 1)], "field 'x': expected a finite number, got '1'"),
        ([point("a", "nose", 1, 1) | {"image_rotation": 90}], "not turned, got image_rotation 90"),
        ([point("a", "nose", 1, 1), point("b", "ear", 1, 1) | {"original_width": 9}], "expected one size"),
        ([point("a", "nose", 1, 1) | {"original_width": None}], "field 'original_width'"),
        ([], "expected at least one region of type 'keypointlabels'"),
    ],
)
def test_what_cannot_be_told_apart_is_one_line_with_the_task(tmp_path, result, expected):
    with pytest.raises(ValueError) as error:
        read(tmp_path, task(*result) | {"data": {"image": "a.png", "width": 9, "height": 9}})
    assert expected in str(error.value)
    assert "export.json" in str(error.value)
    assert "\n" not in str(error.value)
    assert not result or "task 7" in str(error.value)


def test_other_exports_say_what_to_export(tmp_path):
    with pytest.raises(ValueError, match="JSON-MIN export"):
        read(tmp_path, {"image": "/data/upload/1/a.png", "id": 1, "label": [point("a", "n", 1, 1)["value"]]})
    with pytest.raises(ValueError, match="export of tasks: expected a list, got a JSON object"):
        read_label_studio(write(tmp_path, {}))
    with pytest.raises(FileNotFoundError, match="Label Studio export"):
        read_label_studio(tmp_path / "none.json")


def test_categories_give_order_and_skeleton(tmp_path):
    entry = {"id": 4, "name": "cat", "keypoints": ["tail", "nose"], "skeleton": [[1, 2]]}
    path = tmp_path / "categories.json"
    path.write_text(json.dumps({"categories": [entry]}))
    coco = read(tmp_path, task(point("a", "cat.nose", 50, 50)), categories=path).coco
    assert (coco.categories[0].id, coco.categories[0].skeleton) == (4, [[1, 2]])
    assert coco.annotations[0].keypoints == [0, 0, 0, 99.5, 49.5, 2]
    for label, expected in (("dog.nose", "one of the categories 'cat', got 'dog'"), ("cat.ear", "got 'ear'")):
        with pytest.raises(ValueError, match=expected):
            read(tmp_path, task(point("a", label, 50, 50)), categories=path)


def test_dot(tmp_path):
    x, y, width, height = 12.3, 7.6, 40, 20
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
    assert cv2.imwrite(str(tmp_path / "a.png"), np.rint(255 * dot).astype(np.uint8))
    # the tool draws the image from 0 to 100 %: the centre of the first pixel is at half a pixel
    label = point("a", "nose", 100 * (x + 0.5) / width, 100 * (y + 0.5) / height)
    conversion = read(tmp_path, task(label | {"original_width": width, "original_height": height}))
    image = cv2.imread(str(conversion.image_paths[7]), cv2.IMREAD_GRAYSCALE).astype(float)
    centroid = (image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()
    assert np.hypot(*np.subtract(conversion.coco.annotations[0].keypoints[:2], centroid)) <= 0.05
