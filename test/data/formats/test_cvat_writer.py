import json
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.formats.cvat import read_cvat
from keypoint_detection.data.formats.cvat_writer import write_cvat

CONFIGURATION = "coco_category_configuration.json"
PIXEL = st.floats(-5, 3000, allow_nan=False).map(lambda value: round(value, 4)) | st.floats(-5, 3000)
LENGTH = st.floats(0.01, 500)
NAMES = st.text("abcXYZ09 _-<&>\"'éß", min_size=1, max_size=6)


def coco_of(
    annotations: list[dict], categories: list[dict], n_images: int = 1, **fields: object
) -> CocoKeypoints:
    images = [
        {"id": 5 + 3 * index, "file_name": f"images/sub/{index}.png", "width": 64, "height": 48 + index}
        for index in range(n_images)
    ]
    content = {"images": images, "categories": categories, "annotations": annotations, **fields}
    return CocoKeypoints.model_validate(content)


@st.composite
def instances(draw: st.DrawFn, categories: list[dict], n_images: int) -> dict:
    category = draw(st.sampled_from(categories))
    keypoints: list[float] = []
    for _ in category["keypoints"]:
        visibility = draw(st.sampled_from([0, 1, 2]))
        keypoints += [draw(PIXEL), draw(PIXEL), visibility] if visibility else [0, 0, 0]
    x, y, width, height = draw(PIXEL), draw(PIXEL), draw(LENGTH), draw(LENGTH)
    return {
        "image_id": 5 + 3 * draw(st.integers(0, n_images - 1)),
        "category_id": category["id"],
        "keypoints": keypoints,
        "num_keypoints": sum(value > 0 for value in keypoints[2::3]),
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


@st.composite
def datasets(draw: st.DrawFn) -> CocoKeypoints:
    titles = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    keypoints = [draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)) for _ in titles]
    categories = [
        {"id": index, "name": name, "supercategory": "", "keypoints": keypoints[index - 1]}
        for index, name in enumerate(titles, start=1)
    ]
    n_images = draw(st.integers(1, 3))
    entries = draw(st.lists(instances(categories, n_images), max_size=6))
    return coco_of([{"id": index} | entry for index, entry in enumerate(entries)], categories, n_images)


def rounded(values: list[float]) -> list[float]:
    return [round(value, 9) for value in values]


def comparable(coco: CocoKeypoints) -> dict[str, list]:
    """Return everything by file name, without ids of images and annotations."""
    files = {image.id: image.file_name for image in coco.images}
    names = {category.id: category.name for category in coco.categories}
    by_file: dict[str, list] = {name: [] for name in files.values()}
    for entry in coco.annotations:
        assert entry.bbox is not None
        assert entry.area is not None
        numbers = rounded(entry.keypoints), rounded(entry.bbox), round(entry.area, 6)
        rest = names[entry.category_id], entry.num_keypoints, entry.iscrowd
        by_file[files[entry.image_id]].append((*numbers, *rest))
    return {
        "images": [(image.file_name, image.width, image.height) for image in coco.images],
        "categories": [
            (entry.id, entry.name, entry.supercategory, entry.keypoints) for entry in coco.categories
        ],
        "annotations": [*by_file.items()],
    }


@settings(max_examples=60, deadline=None)
@given(datasets(), st.booleans())
def test_round_trip_is_the_identity(coco, configured):
    with tempfile.TemporaryDirectory() as name:
        notes = write_cvat(coco, Path(name), Path(name) / "out")
        categories = Path(name) / "out" / CONFIGURATION if configured else None
        back = read_cvat(Path(name) / "out", categories=categories)
    assert comparable(back.coco) == comparable(coco)
    assert notes == ()
    assert not any("left out" in note for note in back.notes)


CATEGORY = {
    "id": 7,
    "name": "cat.1",
    "supercategory": "animal",
    "keypoints": ["nose", "left.ear"],
    "skeleton": [[1, 2]],
    "symmetry": [["a", "b"]],
}


def test_the_configuration_holds_what_the_xml_cannot(tmp_path):
    annotation = {
        "id": 1,
        "image_id": 5,
        "category_id": 7,
        "keypoints": [1, 2, 2, 3, 4, 1],
        "bbox": [1, 1, 2, 3],
    }
    coco = coco_of([{**annotation, "area": 6}], [CATEGORY])
    (note,) = write_cvat(coco, tmp_path, tmp_path / "out")
    assert note == f"categories that only {CONFIGURATION} holds in full (give it to read back): 1"
    back = read_cvat(tmp_path / "out", categories=tmp_path / "out" / CONFIGURATION)
    assert back.coco.categories[0].model_dump(exclude_unset=True) == CATEGORY
    assert back.coco.annotations[0].keypoints == [1, 2, 2, 3, 4, 1]


def test_what_is_written(tmp_path):
    annotation = {
        "id": 1,
        "image_id": 5,
        "category_id": 1,
        "keypoints": [63.6, 2, 1],
        "bbox": [1.5, 2, 10, 4.1],
    }
    coco = coco_of([annotation], [{"id": 1, "name": "cat", "keypoints": ["nose"]}])
    write_cvat(coco, tmp_path, tmp_path / "out")
    tree = ElementTree.parse(tmp_path / "out/annotations.xml")
    (image,) = tree.findall("image")
    assert image.attrib == {"id": "0", "name": "sub/0.png", "width": "64", "height": "48"}
    (points,) = image.findall("points")
    assert points.attrib | {"z_order": "", "source": ""} == {
        "label": "cat.nose",
        "occluded": "1",
        "points": "64.1,2.5",
        "group_id": "1",
        "z_order": "",
        "source": "",
    }
    (box,) = image.findall("box")
    assert [float(box.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr")] == [1.5, 2, 11.5, 6.1]
    assert [label.findtext("name") for label in tree.iter("label")] == ["cat.nose", "cat"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["annotations.xml", CONFIGURATION]


def test_notes_say_what_is_lost(tmp_path):
    base = {"image_id": 5, "category_id": 1, "keypoints": [1, 2, 2], "bbox": [0, 0, 4, 4], "area": 16}
    changes: list[dict] = [
        {},
        {"area": 9.5},
        {"segmentation": [[1, 1, 2, 2, 3, 1]], "iscrowd": 1},
        {"bbox": None, "area": None},
        {"keypoints": [3, 4, 0], "bbox": None},
        {"bbox": [5, 5, -1, 2]},
        {"track_id": 4},
    ]
    annotations = [{"id": index} | base | change for index, change in enumerate(changes)]
    categories = [{"id": 1, "name": "cat", "keypoints": ["nose"]}, {"id": 2, "name": "all", "keypoints": []}]
    coco = coco_of(annotations, categories, info={"year": 2024})
    coco.images[0].file_name = "../raw/a.png"
    coco.images[0].license = 3  # pyright: ignore[reportAttributeAccessIssue]
    notes = write_cvat(coco, tmp_path, tmp_path)
    assert set(notes) == {
        "categories without keypoints, which are left out: 1",
        "images outside of images/, which are in it when read back: 1",
        "images with 'license', which is left out: 1",
        "file fields 'info', left out: 1",
        "annotations whose area is not that of their box, which it becomes when read back: 1",
        "annotations with 'segmentation', which is left out: 1",
        "annotations with 'iscrowd', which is left out: 1",
        "annotations without a box, which get the tight box of their points when read back: 2",
        "annotations without points and box, left out: 1",
        "annotations with coordinates of absent points, left out: 1",
        "boxes of negative size, left out: 1",
        "annotations with 'track_id', which is left out: 1",
    }
    back = read_cvat(tmp_path).coco
    assert [image.file_name for image in back.images] == ["images/raw/a.png"]
    assert len(back.annotations) == len(changes) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: setattr(coco.categories[0], "name", "a\x01"), "without control characters, got 'a"),
        (lambda coco: setattr(coco.categories[0], "keypoints", [""]), "without control characters, got ''"),
        (lambda coco: setattr(coco.images[1], "file_name", "../images/sub/0.png"), "got 'sub/0.png' twice"),
        (
            lambda coco: setattr(coco.annotations[0], "keypoints", [1e12, 0, 2]),
            "below 1000000000 pixels, got 1e",
        ),
    ],
)
def test_refusals_leave_no_file(tmp_path, change, message):
    annotation = {"id": 1, "image_id": 5, "category_id": 1, "keypoints": [1, 2, 2]}
    coco = coco_of([annotation], [{"id": 1, "name": "cat", "keypoints": ["nose"]}], n_images=2)
    change(coco)
    with pytest.raises(ValueError, match=message):
        write_cvat(coco, tmp_path, tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_drawn_data_set(boxes_json, tmp_path):
    coco = read_coco(boxes_json)
    write_cvat(coco, boxes_json.parent, tmp_path)
    json.loads((tmp_path / CONFIGURATION).read_text())
    back = read_cvat(tmp_path, categories=tmp_path / CONFIGURATION).coco
    assert [image.file_name for image in back.images] == [image.file_name for image in coco.images]
    assert [entry.keypoints for entry in back.annotations] == [entry.keypoints for entry in coco.annotations]
    assert back.categories[0].skeleton == coco.categories[0].skeleton


def test_images_lie_where_the_reader_looks_for_them(tmp_path: Path) -> None:
    from keypoint_detection.data.synthetic import make_dataset

    made = make_dataset("boxes", tmp_path / "drawn", 3, (48, 64), seed=1)
    (made.parent / read_coco(made).images[1].file_name).unlink()
    notes = write_cvat(read_coco(made), made.parent, tmp_path / "export")
    assert "images without a file, which are not copied: 1" in notes
    copied = sorted(path.name for path in (tmp_path / "export" / "images").rglob("*.png"))
    assert len(copied) == 2
    original = next((made.parent / "images").glob(copied[0]))
    assert (tmp_path / "export" / "images" / copied[0]).read_bytes() == original.read_bytes()
