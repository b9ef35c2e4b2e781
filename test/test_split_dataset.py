import json
from collections import Counter
from pathlib import Path

import pytest

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.splits import random_split
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.split_dataset import counts_table, split_dataset


def write_labels(folder: Path, n_images: int = 10) -> Path:
    """Write the labels of images that are not there: two points each, the second in every other."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": n, "file_name": f"v{n % 3}/{n}.png", "width": 20, "height": 10, "video": n // 2}
        for n in range(n_images)
    ]
    annotations = [
        {"id": 100 + n, "image_id": n, "category_id": 1, "keypoints": [n, 2, 2, 0, 0, 2 * (n % 2)], "tag": n}
        for n in range(n_images)
    ]
    content = {
        "info": {"by": "me"},
        "images": images,
        "categories": [{"id": 1, "name": "thing", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}],
        "annotations": annotations,
    }
    path = folder / "all.json"
    path.write_text(json.dumps(content))
    return path


def test_the_parts_are_those_of_training_and_nothing_is_lost(tmp_path):
    source = write_labels(tmp_path / "dataset")
    parts = split_dataset(source, ratios=(0.7, 0.3), seed=4)
    assert [part.path for part in parts] == [
        tmp_path / "dataset/train.json",
        tmp_path / "dataset/validation.json",
    ]
    training, validation = random_split(range(10), 0.3, 4)
    whole = json.loads(source.read_text())
    gathered = {"images": [], "annotations": []}
    for part, ids in zip(parts, (training, validation), strict=True):
        content = json.loads(part.path.read_text())
        assert [image["id"] for image in content["images"]] == ids
        assert content["categories"] == whole["categories"]
        assert content["info"] == whole["info"]
        for section, entries in gathered.items():
            entries.extend(content[section])
    for section, entries in gathered.items():
        assert sorted(entries, key=lambda entry: entry["id"]) == whole[section]


def test_counts(tmp_path):
    parts = split_dataset(write_labels(tmp_path / "dataset"), tmp_path / "parts", ratios=(0.5, 0.3, 0.2))
    assert [part.path.name for part in parts] == ["train.json", "validation.json", "test.json"]
    assert [part.n_images for part in parts] == [5, 3, 2]
    for part in parts:
        flags = Counter(
            name
            for entry in json.loads(part.path.read_text())["annotations"]
            for name, flag in zip("ab", entry["keypoints"][2::3], strict=True)
            if flag
        )
        assert part.n_keypoints == {"a": flags["a"], "b": flags["b"]}
    assert sum(part.n_keypoints["b"] for part in parts) == 5
    table = counts_table(parts).splitlines()
    assert table[0].split() == ["file", "images", "annotations", "a", "b"]
    assert table[3].split() == ["test.json", "2", "2", "2", str(parts[2].n_keypoints["b"])]


@pytest.mark.parametrize("output", ["parts", "dataset/parts", "a/b/c"])
def test_paths_lead_to_the_same_images(tmp_path, output):
    source = make_dataset("boxes", tmp_path / "dataset", 4, (64, 64), seed=1)
    originals = {path.resolve() for path in (tmp_path / "dataset/images").iterdir()}
    parts = split_dataset(source, tmp_path / output, ratios=(0.5, 0.5))
    found = [part.path.parent / image.file_name for part in parts for image in read_coco(part.path).images]
    assert {path.resolve(strict=True) for path in found} == originals
    assert not any(Path(image.file_name).is_absolute() for image in read_coco(parts[0].path).images)


def test_paths_through_a_linked_folder(tmp_path):
    source = make_dataset("boxes", tmp_path / "deep/down/dataset", 2, (64, 64), seed=1)
    (tmp_path / "far/away/parts").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away/parts")
    parts = split_dataset(source, tmp_path / "link", ratios=(0.5, 0.5))
    assert all((part.path.parent / read_coco(part.path).images[0].file_name).is_file() for part in parts)


@pytest.mark.parametrize("group_by", ["folder", "video"])
def test_groups_stay_together(tmp_path, group_by):
    source = write_labels(tmp_path / "dataset", 12)
    parts = split_dataset(source, tmp_path / "parts", group_by=group_by, ratios=(0.6, 0.4), seed=1)
    groups = [
        {image.file_name.split("/")[-2] if group_by == "folder" else image.video for image in coco.images}
        for coco in (read_coco(part.path) for part in parts)
    ]
    assert groups[0]
    assert groups[1]
    assert not groups[0] & groups[1]
    assert sum(part.n_images for part in parts) == 12


def test_folds(tmp_path):
    parts = split_dataset(write_labels(tmp_path), tmp_path, folds=3, group_by="video", seed=1)
    assert [part.path.name for part in parts] == [
        f"fold{fold}_{name}.json" for fold in range(3) for name in ("train", "validation")
    ]
    validated = [image.id for part in parts[1::2] for image in read_coco(part.path).images]
    assert sorted(validated) == list(range(10))
    for training, validation in zip(parts[::2], parts[1::2], strict=True):
        assert training.n_images + validation.n_images == 10
        videos = [{image.video for image in read_coco(part.path).images} for part in (training, validation)]
        assert not videos[0] & videos[1]


def test_an_image_that_is_listed_twice_is_on_one_side(tmp_path):
    source = write_labels(tmp_path, 8)
    content = json.loads(source.read_text())
    for image in content["images"]:
        image["file_name"] = f"{image['id'] % 4}.png"
    source.write_text(json.dumps(content))
    for seed in range(5):
        parts = split_dataset(source, tmp_path, ratios=(0.5, 0.5), seed=seed, overwrite=True)
        names = [{image.file_name for image in read_coco(part.path).images} for part in parts]
        assert not names[0] & names[1]


def test_nothing_is_replaced_unless_asked_for(tmp_path):
    source = write_labels(tmp_path)
    (tmp_path / "validation.json").write_text("mine")
    with pytest.raises(ValueError, match=r"validation\.json exists already; .*--overwrite"):
        split_dataset(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "validation.json"]
    split_dataset(source, overwrite=True)
    assert len(read_coco(tmp_path / "validation.json").images) == 2
    source = source.rename(tmp_path / "train.json")
    before = source.read_bytes()
    with pytest.raises(ValueError, match="would replace the file it is made from"):
        split_dataset(source, overwrite=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": (0.5, 0.6)}, "add up to 1, got 0.5, 0.6"),
        ({"ratios": (1.0,)}, "two or three ratios"),
        ({"ratios": (0.4, 0.2, 0.2, 0.2)}, "two or three ratios"),
        ({"ratios": (1.5, -0.5)}, "between 0 and 1"),
        ({"folds": 1}, "at least 2 folds"),
        ({"folds": 11}, "at least 11 images"),
        ({"folds": 4, "group_by": "folder"}, "at least 4 groups of images"),
        ({"group_by": "vidoe"}, "vidoe"),
    ],
)
def test_calls_that_cannot_be_met_write_nothing(tmp_path, options, message):
    source = write_labels(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        split_dataset(source, tmp_path / "parts", **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]


def test_a_failure_while_writing_leaves_no_part(tmp_path, monkeypatch):
    source, written = write_labels(tmp_path), []

    def fail_at_the_second(coco, path):
        written.append(path)
        if len(written) == 2:
            raise OSError("no space left")
        path.write_text("whole")

    monkeypatch.setattr("keypoint_detection.dataset_files.write_coco", fail_at_the_second)
    with pytest.raises(OSError, match="no space left"):
        split_dataset(source)
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"]
