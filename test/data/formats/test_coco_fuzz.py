import copy
import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import read_coco, write_coco
from keypoint_detection.data.formats.coco import read_coco_labels

MINIMAL = {
    "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
    "categories": [{"id": 5, "name": "face", "keypoints": ["nose", "ear"]}],
    "annotations": [
        {
            "id": 11,
            "image_id": 7,
            "category_id": 5,
            "keypoints": [1, 2, 2, 3.5, 4.25, 1],
            "num_keypoints": 2,
            "iscrowd": 0,
            "area": 12,
            "bbox": [1, 2, 3, 4],
        }
    ],
}


def write(folder: Path, content) -> Path:
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.text(max_size=3) | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES = [
    ("images",),
    ("annotations",),
    ("categories",),
    *(("images", 0, name) for name in ("id", "file_name", "width", "height")),
    *(("categories", 0, name) for name in ("id", "name", "keypoints", "skeleton", "supercategory")),
    *(("annotations", 0, name) for name in MINIMAL["annotations"][0]),
    ("annotations", 0, "keypoints", 0),
    ("annotations", 0, "bbox", 2),
]


def read_or_one_line(path: Path) -> None:
    try:
        coco = read_coco_labels(path).coco
    except (ValueError, FileNotFoundError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        write_coco(coco, path.with_name("out.json"))
        assert read_coco(path.with_name("out.json")).images[:1] == coco.images[:1]
        path.with_name("out.json").unlink()
    assert [entry.name for entry in path.parent.iterdir()] == ["labels.json"]


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_gives_a_result_or_one_line(tmp_path_factory, place, value):
    content = copy.deepcopy(MINIMAL)
    parent = content
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    read_or_one_line(write(tmp_path_factory.mktemp("fuzz"), content))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.binary(max_size=6) | st.just(b"[" * 9999), st.integers(0, 9), st.booleans())
def test_any_bytes_give_a_result_or_one_line(tmp_path_factory, start, extra, n_cut, whole):
    path = tmp_path_factory.mktemp("fuzz") / "labels.json"
    valid = json.dumps(MINIMAL).encode()
    path.write_bytes(extra if whole else valid[:start] + extra + valid[start + n_cut :])
    read_or_one_line(path)
