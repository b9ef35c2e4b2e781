import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_split_dataset import write_labels

from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.merge import merge_datasets
from keypoint_detection.split_dataset import split_dataset

LISTED = ("images", "annotations")


def by_content(coco: CocoKeypoints) -> dict[str, list]:
    """Return what is in a file whatever its ids: images by file name, each with its annotations."""
    name = {image.id: image.file_name for image in coco.images}
    category = {entry.id: entry.name for entry in coco.categories}
    images = sorted((image.model_dump(exclude={"id"}) for image in coco.images), key=str)
    annotations = [
        {
            **entry.model_dump(exclude={"id", "image_id", "category_id"}),
            "image": name[entry.image_id],
            "category": category[entry.category_id],
        }
        for entry in coco.annotations
    ]
    return {"images": images, "annotations": sorted(annotations, key=str)}


def write_one(path: Path, names: list[str], keypoints: list[float], **fields) -> Path:
    """Write labels of one image that is called as the file."""
    content = {
        "images": [{"id": 1, "file_name": f"{path.stem}.png", "width": 20, "height": 10}],
        "categories": [{"id": 4, "name": "face", "keypoints": names, **fields}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "keypoints": keypoints}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(0.5, 0.5), (0.2, 0.5, 0.3)]), st.booleans())
def test_a_split_that_is_merged_is_the_whole(tmp_path_factory, seed, ratios, grouped):
    folder = tmp_path_factory.mktemp("merge")
    source = write_labels(folder / "dataset")
    parts = split_dataset(
        source, folder / "a/parts", ratios=ratios, seed=seed, group_by="video" if grouped else None
    )
    merged = read_coco(merge_datasets([part.path for part in parts], folder / "dataset/merged.json"))
    whole = read_coco(source)
    assert by_content(merged) == by_content(whole)
    assert [image.id for image in merged.images] == list(range(1, 11))
    assert [entry.id for entry in merged.annotations] == list(range(1, 11))
    assert [entry.model_dump() for entry in merged.categories] == [
        entry.model_dump() for entry in whole.categories
    ]
    assert merged.info == whole.info


def test_two_sets_with_images(tmp_path):
    one = make_dataset("boxes", tmp_path / "one", 3, (64, 64), seed=1)
    two = make_dataset("flowers", tmp_path / "two", 2, (64, 64), seed=2)
    output = merge_datasets([one, two], tmp_path / "both/all.json")
    coco = read_coco(output)
    assert len(coco.images) == 5
    assert len({entry.id for entry in coco.categories}) == len(coco.categories) == 2
    assert all((output.parent / image.file_name).is_file() for image in coco.images)
    counts = [len(read_coco(path).annotations) for path in (one, two)]
    assert len(coco.annotations) == sum(counts)
    second = {image.id for image in coco.images if "two/" in image.file_name}
    names = {entry.id: entry.name for entry in coco.categories}
    assert len({names[entry.category_id] for entry in coco.annotations if entry.image_id in second}) == 1


def test_another_order_of_the_keypoints(tmp_path, caplog):
    one = write_one(tmp_path / "1.json", ["a", "b", "c"], [1, 1, 2, 2, 2, 2, 3, 3, 1], skeleton=[[1, 2]])
    two = write_one(
        tmp_path / "2.json", ["c", "a", "b"], [3, 3, 1, 1, 1, 2, 2, 2, 2], skeleton=[[2, 3], [1, 2]]
    )
    coco = read_coco(merge_datasets([one, two], tmp_path / "all.json"))
    assert [(entry.keypoints, entry.skeleton) for entry in coco.categories] == [
        (["a", "b", "c"], [[1, 2], [3, 1]])
    ]
    assert coco.annotations[0].keypoints == coco.annotations[1].keypoints == [1, 1, 2, 2, 2, 2, 3, 3, 1]
    assert caplog.text == ""


def test_other_keypoints(tmp_path, caplog):
    one = write_one(tmp_path / "1.json", ["a", "b"], [1, 1, 2, 2, 2, 2], sigmas=[0.1, 0.2])
    two = write_one(tmp_path / "2.json", ["c", "b"], [3, 3, 1, 2, 2, 2])
    with pytest.raises(ValueError, match=r"2\.json: category 'face': .*without a and with c.*--union"):
        merge_datasets([one, two], tmp_path / "all.json")
    assert not (tmp_path / "all.json").exists()
    coco = read_coco(merge_datasets([one, two], tmp_path / "all.json", union=True))
    assert coco.categories[0].keypoints == ["a", "b", "c"]
    assert [entry.keypoints for entry in coco.annotations] == [
        [1, 1, 2, 2, 2, 2, 0, 0, 0],
        [0, 0, 0, 2, 2, 2, 3, 3, 1],
    ]
    assert "keypoints of other files: a; of its own: c" in caplog.text
    assert "field 'sigmas' has no entry for c" in caplog.text


def test_fields_of_a_category(tmp_path, caplog):
    one = write_one(tmp_path / "1.json", ["a", "b"], [0] * 6, colour="red", sigmas=[1, 2])
    two = write_one(
        tmp_path / "2.json",
        ["b", "a"],
        [0] * 6,
        colour="blue",
        sigmas=[2, 1],
        symmetric_keypoints=[["a", "b"]],
    )
    category = read_coco(merge_datasets([one, two], tmp_path / "all.json")).categories[0]
    assert category.model_extra == {
        "colour": "red",
        "sigmas": [1, 2],
        "symmetric_keypoints": [["a", "b"]],
    }
    assert caplog.messages == [
        f"{two}: category 'face': field 'colour' differs; that of the first file is kept"
    ]


def test_fields_of_the_file(tmp_path, caplog):
    one, two = write_one(tmp_path / "1.json", ["a"], [0] * 3), write_one(tmp_path / "2.json", ["a"], [0] * 3)
    for path, licences in ((one, [{"id": 1, "name": "x"}]), (two, [{"id": 1, "name": "y"}])):
        content = {**json.loads(path.read_text()), "licenses": licences, "version": 3}
        path.write_text(json.dumps(content))
    merged = json.loads(merge_datasets([one, two], tmp_path / "all.json").read_text())
    assert merged["version"] == 3
    assert "licenses" not in merged
    assert "field 'licenses' differs between the files" in caplog.text


def test_the_same_image_in_two_files(tmp_path):
    one = write_one(tmp_path / "1.json", ["a"], [0] * 3)
    (tmp_path / "deep").mkdir()
    two = write_one(tmp_path / "deep/2.json", ["a"], [0] * 3)
    two.write_text(two.read_text().replace("2.png", "../1.png"))
    with pytest.raises(ValueError, match=rf"got {tmp_path}/1\.png in {one} and in {two}"):
        merge_datasets([one, two], tmp_path / "all.json")
    with pytest.raises(ValueError, match=r"1\.png"):
        merge_datasets([one, one], tmp_path / "all.json")
    assert not (tmp_path / "all.json").exists()


def test_bad_calls(tmp_path):
    one, two = write_one(tmp_path / "1.json", ["a"], [0] * 3), write_one(tmp_path / "2.json", ["a"], [0] * 3)
    with pytest.raises(ValueError, match="two or more COCO files"):
        merge_datasets([one], tmp_path / "all.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        merge_datasets([one, tmp_path / "none.json"], tmp_path / "all.json")
    with pytest.raises(ValueError, match="would replace the file it is made from"):
        merge_datasets([one, two], two, overwrite=True)
    (tmp_path / "all.json").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        merge_datasets([one, two], tmp_path / "all.json")
    assert (tmp_path / "all.json").read_text() == "mine"
