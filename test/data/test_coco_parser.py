import copy
import gc
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoError,
    CocoImage,
    CocoKeypoints,
    instances_by_image,
    read_coco,
    write_coco,
)
from keypoint_detection.records import Keypoint

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"

MINIMAL = {
    "images": [
        {"id": 7, "file_name": "images/a.png", "width": 64, "height": 48},
        {"id": 3, "file_name": "images/b.png", "width": 64, "height": 48},
    ],
    "categories": [{"id": 5, "name": "flower", "keypoints": ["stem", "leaf 0"]}],
    "annotations": [
        {"id": 11, "image_id": 7, "category_id": 5, "keypoints": [1, 2, 2, 3.5, 4.25, 1]},
        {"id": 12, "image_id": 7, "category_id": 5, "keypoints": [0, 0, 0, 9, 8, 2]},
    ],
}


def write(folder: Path, content) -> Path:
    path = folder / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def changed(*place, value=None, remove=False):
    """Return the minimal file with the entry at `place` replaced or removed."""
    content = copy.deepcopy(MINIMAL)
    parent = content
    for step in place[:-1]:
        parent = parent[step]
    if remove:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return content


def error_line(folder: Path, content) -> str:
    path = write(folder, content)
    with pytest.raises(CocoError) as caught:
        read_coco(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_reads_a_minimal_file(tmp_path):
    coco = read_coco(write(tmp_path, MINIMAL))
    assert [image.id for image in coco.images] == [7, 3]
    assert coco.annotations[0].keypoints == [1, 2, 2, 3.5, 4.25, 1]
    annotation = coco.annotations[0]
    assert (annotation.num_keypoints, annotation.area, annotation.bbox, annotation.iscrowd) == (None,) * 3 + (
        0,
    )
    assert coco.categories[0].supercategory == ""
    assert coco.info is None
    assert coco.keypoint_names() == ["stem", "leaf 0"]


def test_keypoint_names_are_unique_over_categories(tmp_path):
    content = changed(
        "categories",
        value=[
            {"id": 5, "name": "a", "keypoints": ["tip", "base"]},
            {"id": 6, "name": "b", "keypoints": ["end", "tip"]},
        ],
    )
    assert read_coco(write(tmp_path, content)).keypoint_names() == ["tip", "base", "end"]


def test_instances_by_image_keeps_labelled_points_and_images_without_annotations(tmp_path):
    content = copy.deepcopy(MINIMAL)
    content["annotations"][1].update(bbox=[1, 2, 3, 4], area=12, iscrowd=1)
    instances = instances_by_image(read_coco(write(tmp_path, content)))
    assert list(instances) == [7, 3]
    assert instances[3] == []
    first, second = instances[7]
    assert first.keypoints == {"stem": Keypoint(1, 2), "leaf 0": Keypoint(3.5, 4.25, visibility=1)}
    assert (first.category, first.box, first.area, first.is_crowd) == ("flower", None, None, False)
    assert second.keypoints == {"leaf 0": Keypoint(9, 8)}
    assert (second.box, second.area, second.is_crowd) == ((1, 2, 3, 4), 12, True)


@pytest.mark.parametrize(
    "extra",
    [
        {"info": None, "licenses": None},
        {"info": {"year": 2020}, "licenses": [{"id": 1}], "type": "instances"},
    ],
)
def test_unknown_fields_survive_read_and_write(tmp_path, extra):
    content = copy.deepcopy(MINIMAL) | extra
    content["images"][0]["coco_url"] = "http://example.org/\u00e9\n"
    content["categories"][0].update(skeleton=[[1, 2]], color=[1, 2, 3])
    content["annotations"][0].update(segmentation={"counts": "abc", "size": [48, 64]}, track=4, bbox=None)
    path = tmp_path / "new" / "out.json"
    write_coco(read_coco(write(tmp_path, content)), path)
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert '"keypoints": [1, 2, 2, 3.5, 4.25, 1]' in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["out.json"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6, allow_nan=False),
            st.floats(-1e6, 1e6, allow_nan=False),
            st.sampled_from([0, 1, 2]),
        ),
        min_size=2,
        max_size=2,
    )
)
def test_written_coordinates_read_back_exactly(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("coco")
    content = changed("annotations", 0, "keypoints", value=[number for point in points for number in point])
    coco = read_coco(write(folder, content))
    write_coco(coco, folder / "out.json")
    assert read_coco(folder / "out.json").annotations[0].keypoints == coco.annotations[0].keypoints
    assert coco.annotations[0].keypoints == [number for point in points for number in point]


def test_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "train.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(MINIMAL).encode())
    assert len(read_coco(path).images) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(MINIMAL)[:200], "cut short"),
        ("", "cut short"),
        ("hello", "expected JSON"),
        ("[1, 2]", "expected a JSON object with images, categories and annotations, got a list"),
        ("{}", "field 'images': expected a value, got none; the field is missing (and 2 more such problems)"),
    ],
)
def test_a_file_that_is_no_coco_json(tmp_path, text, expected):
    assert expected in error_line(tmp_path, text)


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "train.json"
    path.write_bytes(json.dumps(MINIMAL).replace("flower", "fl\u00f6wer").encode("latin-1"))
    with pytest.raises(CocoError, match="expected JSON"):
        read_coco(path)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("images", 0, "width"), 0, "image 7, field 'width': expected greater than 0, got 0"),
        (("images", 1, "height"), -4, "image 3, field 'height'"),
        (("images", 1, "file_name"), None, "image 3, field 'file_name'"),
        (("images", 1, "id"), 7, "image 7, field 'id': expected ids that occur once"),
        (("images", 1, "id"), "3", "images[1], field 'id': expected a valid integer, got '3'"),
        (("images", 1), 5, "images[1]: expected an object, got 5"),
        (("images",), {"0": 1}, "field 'images': expected a valid array"),
        (("categories",), [], "field 'categories': expected at least one category with keypoints"),
        (("categories", 0, "keypoints"), [], "category 5 ('flower'), field 'keypoints'"),
        (("categories", 0, "keypoints"), None, "category 5 ('flower'), field 'keypoints'"),
        (("categories", 0, "keypoints"), ["a", "a"], "expected names that occur once, got 'a' twice"),
        (
            ("categories", 0, "keypoints"),
            ["a", 1],
            "category 5, field 'keypoints[1]': expected a valid string",
        ),
        (("categories", 0, "keypoints"), "ab", "category 5, field 'keypoints': expected a valid array"),
        (("annotations", 1, "id"), 11, "annotation 11, field 'id'"),
        (("annotations", 1, "id"), True, "field 'id': expected a valid integer"),
        (("annotations", 1, "image_id"), 8, "annotation 12, field 'image_id'"),
        (("annotations", 1, "image_id"), "7", "annotation 12, field 'image_id': expected a valid integer"),
        (("annotations", 1, "category_id"), 1, "annotation 12, field 'category_id'"),
        (
            ("annotations", 1, "keypoints"),
            [1, 2, 2],
            "expected 6 numbers (x, y, visibility for the 2 keypoints",
        ),
        (("annotations", 1, "keypoints"), [], "annotation 12, field 'keypoints': expected 6 numbers"),
        (("annotations", 1, "keypoints"), None, "annotation 12, field 'keypoints': expected a valid array"),
        (
            ("annotations", 1, "keypoints", 3),
            math.nan,
            "annotation 12, field 'keypoints[3]': expected a finite",
        ),
        (
            ("annotations", 1, "keypoints", 4),
            math.inf,
            "annotation 12, field 'keypoints[4]': expected a finite",
        ),
        (
            ("annotations", 1, "keypoints", 4),
            "8",
            "annotation 12, field 'keypoints[4]': expected a valid number",
        ),
        (
            ("annotations", 1, "keypoints", 5),
            3,
            "field 'keypoints[5]': expected visibility 0, 1 or 2 for 'leaf 0'",
        ),
        (("annotations", 1, "keypoints", 2), 0.5, "expected visibility 0, 1 or 2 for 'stem', got 0.5"),
        (("annotations", 1, "bbox"), [1, 2, 3], "annotation 12, field 'bbox'"),
        (("annotations", 1, "bbox"), [1, 2, 3, math.nan], "annotation 12, field 'bbox[3]'"),
        (("annotations", 1, "area"), math.inf, "annotation 12, field 'area'"),
    ],
)
def test_a_wrong_value_names_entry_and_field(tmp_path, place, value, expected):
    assert expected in error_line(tmp_path, changed(*place, value=value))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("categories", 0, "keypoints"), "category 5 ('flower'), field 'keypoints': expected keypoint names"),
        (("annotations", 1, "keypoints"), "annotation 12, field 'keypoints': expected a value, got none"),
        (("annotations", 1, "id"), "annotations[1], field 'id': expected a value"),
        (("images", 0, "width"), "image 7, field 'width': expected a value"),
        (("annotations",), "field 'annotations': expected a value"),
    ],
)
def test_a_missing_field_is_named(tmp_path, place, expected):
    assert expected in error_line(tmp_path, changed(*place, remove=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1e308, 1e308, 2, -1e308, 5, 2], [1e308, 1e308, 2, -1e308, 5, 2]),  # the sum overflows
        ([1, 2, 2, 3, 4, 1], [1.0, 2.0, 2.0, 3.0, 4.0, 1.0]),
    ],
)
def test_lists_of_numbers_are_floats(tmp_path, values, expected):
    path = write(tmp_path, changed("annotations", 1, "keypoints", value=values))
    read = read_coco(path).annotations[1].keypoints
    assert read == expected
    assert {type(value) for value in read} == {float}


@pytest.mark.parametrize("value", [True, 10**400, [1], None])
def test_odd_numbers_are_refused_one_by_one(tmp_path, value):
    content = changed("annotations", 1, "keypoints", 4, value=value)
    assert error_line(tmp_path, content).startswith("annotation 12, field 'keypoints[4]': expected a ")


def test_records_do_not_share_the_list_they_are_made_from():
    values = [1, 2, 2]
    annotation = CocoAnnotation(id=1, image_id=1, category_id=1, keypoints=values)
    annotation.keypoints[0] = 9.0
    assert values == [1, 2, 2]


def test_the_collector_runs_again_after_reading(tmp_path):
    read_coco(write(tmp_path, MINIMAL))
    assert gc.isenabled()
    error_line(tmp_path, "{")
    assert gc.isenabled()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from /proc")
def test_a_large_file_is_read_in_bounded_memory(tmp_path):
    """150,000 annotations of 17 keypoints, read by a process of its own."""
    numbers = ", ".join(f"{3.25 * index:.2f}, {2.5 * index:.1f}, {index % 3}" for index in range(17))
    entry = f'"image_id": 7, "category_id": 5, "keypoints": [{numbers}], "area": 9.5, "bbox": [1, 2, 3.5, 4]'
    annotations = ",\n".join(f'{{"id": {index}, {entry}}}' for index in range(150_000))
    content = copy.deepcopy(MINIMAL) | {"annotations": []}
    content["categories"][0]["keypoints"] = [f"p{index}" for index in range(17)]
    path = write(
        tmp_path, json.dumps(content).replace('"annotations": []', f'"annotations": [{annotations}]')
    )
    # VmHWM begins anew with the program; ru_maxrss also counts the process that started it.
    code = (
        "import re, sys; from keypoint_detection.data.coco_parser import read_coco;"
        "n = len(read_coco(sys.argv[1]).annotations);"
        "print(n, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    n_annotations, peak_kib = map(int, done.stdout.split())
    assert n_annotations == 150_000
    assert peak_kib < 1_000_000


def test_category_id_twice(tmp_path):
    content = changed("categories", value=MINIMAL["categories"] * 2)
    assert "category 5, field 'id': expected ids that occur once" in error_line(tmp_path, content)


def test_further_problems_are_counted(tmp_path):
    content = copy.deepcopy(MINIMAL)
    for annotation in content["annotations"]:
        annotation["image_id"] = 99
    assert error_line(tmp_path, content).endswith("got 99 (and 1 more such problem)")


def test_an_unused_category_without_keypoints_is_accepted(tmp_path):
    """Several export tools write a parent category beside the one with keypoints."""
    content = copy.deepcopy(MINIMAL)
    content["categories"].insert(0, {"id": 0, "name": "objects", "supercategory": "none"})
    assert read_coco(write(tmp_path, content)).keypoint_names() == ["stem", "leaf 0"]
    content["annotations"][0].update(category_id=0, keypoints=[])
    assert error_line(tmp_path, content).startswith("category 0 ('objects'), field 'keypoints'")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_coco(tmp_path / "absent.json")
    with pytest.raises(FileNotFoundError, match="found a folder") as caught:
        read_coco(tmp_path)
    assert "\n" not in str(caught.value)


def test_writing_contradictions_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("old")
    coco = CocoKeypoints(
        images=[CocoImage(id=1, file_name="a.png", width=4, height=4)],
        categories=[CocoCategory(id=1, name="a", keypoints=["p"])],
        annotations=[CocoAnnotation(id=1, image_id=2, category_id=1, keypoints=[0, 0, 2])],
    )
    with pytest.raises(CocoError, match="annotation 1, field 'image_id'"):
        write_coco(coco, path)
    coco.annotations[0].image_id = 1
    coco.annotations[0].keypoints[0] = math.nan
    with pytest.raises(ValueError):
        write_coco(coco, path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("out.json", "old")]


def test_importing_does_not_import_torch():
    modules = ("coco_parser", "channels", "splits", "formats.deeplabcut")
    imports = "; ".join(f"import keypoint_detection.data.{name}" for name in modules)
    code = f"{imports}; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "n_annotations", "n_points"),
    [("coco_person/test_coco.json", 14, 17), ("cvat_example/annotations.json", 4, 2)],
)
def test_real_files_read_and_round_trip(tmp_path, name, n_annotations, n_points):
    path = REAL_DATA / name
    if not path.is_file():
        pytest.skip(f"the real data set {name} is not here")
    coco = read_coco(path)
    assert len(coco.annotations) == n_annotations
    assert len(coco.keypoint_names()) == n_points
    assert sum(map(len, instances_by_image(coco).values())) == n_annotations
    write_coco(coco, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(path.read_text())


def test_unlabelled_people_are_instances_without_keypoints():
    path = REAL_DATA / "coco_person" / "test_coco.json"
    if not path.is_file():
        pytest.skip("the real data set coco_person is not here")
    instances = [instance for group in instances_by_image(read_coco(path)).values() for instance in group]
    assert sum(not instance.keypoints for instance in instances) == 2
