import json
from pathlib import Path

import pytest
from test_split_dataset import write_labels

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.subset_dataset import subset_dataset


def test_fewer_images_are_a_part_of_more(tmp_path):
    source = write_labels(tmp_path)
    chosen = []
    for n in (3, 6, 10):
        coco = read_coco(subset_dataset(source, tmp_path / f"{n}.json", n=n, seed=2))
        assert len(coco.images) == len(coco.annotations) == n
        assert [entry.image_id for entry in coco.annotations] == [image.id for image in coco.images]
        chosen.append({image.id for image in coco.images})
    assert chosen[0] < chosen[1] < chosen[2]
    other = read_coco(subset_dataset(source, tmp_path / "other.json", n=3, seed=3))
    assert {image.id for image in other.images} != chosen[0]


def test_ids_and_paths(tmp_path):
    source = make_dataset("boxes", tmp_path / "dataset", 4, (64, 64), seed=1)
    output = subset_dataset(source, tmp_path / "new/few.json", ids=[3, 1])
    images = read_coco(output).images
    assert [image.id for image in images] == [1, 3]
    assert all((output.parent / image.file_name).is_file() for image in images)


def test_fewer_keypoints(tmp_path, caplog):
    source = write_labels(tmp_path)
    content = json.loads(source.read_text())
    content["categories"].append({"id": 2, "name": "other", "keypoints": ["c"]})
    content["annotations"][0].update(category_id=2, keypoints=[1, 1, 2])
    source.write_text(json.dumps(content))
    coco = read_coco(subset_dataset(source, tmp_path / "few.json", keypoints=["b"]))
    assert [(entry.name, entry.keypoints, entry.skeleton) for entry in coco.categories] == [
        ("thing", ["b"], [])
    ]
    assert len(coco.images) == 10
    assert {entry.id: entry.keypoints for entry in coco.annotations} == {
        100 + n: [0, 0, 2 * (n % 2)] for n in range(1, 10)
    }
    assert "category 'other' keeps no keypoint and is left out with 1 annotations" in caplog.text
    assert "1 bones ended at a keypoint left out" in caplog.text


def test_fewer_categories(tmp_path):
    source = write_labels(tmp_path)
    content = json.loads(source.read_text())
    content["categories"].append({"id": 2, "name": "other", "keypoints": ["a"]})
    content["annotations"][0].update(category_id=2, keypoints=[1, 1, 2])
    source.write_text(json.dumps(content))
    coco = read_coco(subset_dataset(source, tmp_path / "few.json", categories=["other"], n=10))
    assert [entry.id for entry in coco.categories] == [2]
    assert [entry.id for entry in coco.annotations] == [100]
    assert len(coco.images) == 10


def test_all_of_it_is_the_same_file(tmp_path):
    source = write_labels(tmp_path)
    output = subset_dataset(source, tmp_path / "same.json", keypoints=["b", "a"], categories=["thing"], n=10)
    assert json.loads(output.read_text()) == json.loads(source.read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 11}, "1 to 10 images"),
        ({"n": 0}, "1 to 10 images"),
        ({"n": 1, "ids": [1]}, "got both"),
        ({"ids": [1, 77]}, "got 77"),
        ({"ids": []}, "got none"),
        ({"keypoints": ["bb"]}, "keypoints of the file .a, b., got 'bb'"),
        ({"keypoints": []}, "names of keypoints to keep, got none"),
        ({"categories": ["thin"]}, "categories of the file .thing., got 'thin'.*thing"),
    ],
)
def test_choices_that_cannot_be_met_write_nothing(tmp_path, options, message):
    source = write_labels(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        subset_dataset(source, tmp_path / "few.json", **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]


@pytest.mark.parametrize("name", ["few", "folder.json", "all.json"])
def test_outputs_that_are_refused(tmp_path, name):
    source = write_labels(tmp_path)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"ends in \.json to write|would replace"):
        subset_dataset(source, tmp_path / name, n=1, overwrite=True)


def test_a_file_without_images_has_none_to_draw(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    category = {"id": 1, "name": "a", "keypoints": ["b"]}
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [category]}))
    with pytest.raises(ValueError, match="expected images to draw from, got a file without any"):
        subset_dataset(path, tmp_path / "out.json", n=2)
