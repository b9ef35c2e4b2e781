import json
from pathlib import Path

import pytest

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.cli import UsageError
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.cross_validation_plan import (
    FoldSplit,
    check_config,
    first_difference,
    fold_names,
    make_plan,
)

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"


@pytest.fixture(scope="module")
def videos_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return nine drawn images of three videos; read only."""
    path = make_dataset("boxes", tmp_path_factory.mktemp("videos"), 9, (32, 32), seed=1)
    content = json.loads(path.read_text())
    for image, video in zip(content["images"], "abcabcaac", strict=True):
        image["video"] = f"{video}/cam 1"
    path.write_text(json.dumps(content))
    return path


def config(path: Path, **options: object) -> TrainConfig:
    settings = {"json_dataset_path": str(path), "keypoint_channel_configuration": CHANNELS, "n_channels": 8}
    return TrainConfig(**{**settings, **options})  # pyright: ignore[reportArgumentType]


def test_random_folds_share_out_every_image_once(videos_json: Path, tmp_path: Path) -> None:
    plan = make_plan(config(videos_json), tmp_path, FoldSplit(4, seed=3))
    assert [fold.name for fold in plan.folds] == ["fold1", "fold2", "fold3", "fold4"]
    held_out = [i for fold in plan.folds for i in fold.validation]
    assert sorted(held_out) == list(range(1, 10))
    assert sorted(len(fold.validation) for fold in plan.folds) == [2, 2, 2, 3]
    assert {fold.groups for fold in plan.folds} == {None}
    again = make_plan(config(videos_json, seed=7), tmp_path, FoldSplit(4, seed=3))
    assert again.folds == plan.folds  # another training seed keeps the folds
    assert make_plan(config(videos_json), tmp_path, FoldSplit(4, seed=4)).folds != plan.folds


def test_groups_stay_together(videos_json: Path, tmp_path: Path) -> None:
    plan = make_plan(config(videos_json), tmp_path, FoldSplit(2, group_by="video"))
    sides = [set(fold.groups or ()) for fold in plan.folds]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {"a/cam 1", "b/cam 1", "c/cam 1"}


def test_a_group_left_out_is_a_fold(videos_json: Path, tmp_path: Path) -> None:
    plan = make_plan(config(videos_json), tmp_path, FoldSplit(None, True, "video"))
    assert {fold.name: fold.validation for fold in plan.folds} == {
        "a_cam_1": (1, 4, 7, 8),
        "b_cam_1": (2, 5),
        "c_cam_1": (3, 6, 9),
    }
    assert [set(fold.groups or ()) for fold in plan.folds] == [{"a/cam 1"}, {"b/cam 1"}, {"c/cam 1"}]


def test_an_image_that_is_listed_twice_is_on_one_side(videos_json: Path, tmp_path: Path) -> None:
    content = json.loads(videos_json.read_text())
    content["images"][5]["file_name"] = content["images"][0]["file_name"]
    path = videos_json.with_name("twice.json")
    path.write_text(json.dumps(content))
    for seed in range(4):
        plan = make_plan(config(path), tmp_path, FoldSplit(3, seed=seed))
        assert [{1, 6} & set(fold.validation) for fold in plan.folds].count({1, 6}) == 1


def test_the_files_of_a_fold_lead_to_the_images(videos_json: Path, tmp_path: Path) -> None:
    plan = make_plan(config(videos_json), tmp_path / "out", FoldSplit(3))
    fold = plan.folds[1]
    plan.write_fold(fold)
    settings = plan.fold_config(fold)
    training = read_coco(settings.json_dataset_path)
    validation = read_coco(settings.json_validation_dataset_path or "")
    assert tuple(image.id for image in validation.images) == fold.validation
    assert {image.id for image in training.images} == set(range(1, 10)) - set(fold.validation)
    folder = tmp_path / "out" / "fold2"
    for coco in (training, validation):
        for image in coco.images:
            original = videos_json.parent / f"images/{image.id - 1:05d}.png"
            assert (load_image(folder / image.file_name) == load_image(original)).all()
    assert (settings.default_root_dir, settings.run_name) == (str(tmp_path / "out"), "fold2")


def test_the_definitions_are_those_of_the_whole_data_set(videos_json: Path, tmp_path: Path) -> None:
    content = json.loads(videos_json.read_text())
    del content["annotations"][0]["bbox"]  # box_side would only be found by the folds without this instance
    path = videos_json.with_name("no_box.json")
    path.write_text(json.dumps(content))
    whole = make_plan(config(videos_json), tmp_path, FoldSplit(3)).config
    without = make_plan(config(path), tmp_path, FoldSplit(3)).config
    assert (whole.pck_normalizer, without.pck_normalizer) == ("box_side", "image_diagonal")
    given = make_plan(config(path, pck_reference=["flap_left", "flap_right"]), tmp_path, FoldSplit(3)).config
    assert (given.pck_normalizer, given.pck_reference) == ("reference", ["flap_left", "flap_right"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of --folds and --leave_one_group_out"),
        ((3, True, "video"), "one of --folds and --leave_one_group_out"),
        ((1,), "--folds: expected at least 2; got 1"),
        ((None, True), "--leave_one_group_out needs --group_by"),
    ],
)
def test_a_wrong_split_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FoldSplit(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json_validation_dataset_path": "x.json"}, "--json_validation_dataset_path does not go together"),
        ({"json_test_dataset_path": "x.json"}, "--json_test_dataset_path does not go together"),
        ({"ckpt_path": "x.ckpt"}, "--ckpt_path does not go together"),
        ({"run_name": "x"}, "give --output"),
        ({"fast_dev_run": 2}, "it leaves no weights to score"),
        ({"devices": 2}, "--devices: folds are trained one by one on one device; got 2"),
        ({"devices": "0,1"}, "got '0,1'"),
    ],
)
def test_flags_of_a_single_training_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_config(config(Path("no.json"), **options))


@pytest.mark.parametrize("devices", ["auto", 1, "1,"])
def test_one_device_is_taken(devices: object) -> None:
    check_config(config(Path("no.json"), devices=devices))


def test_too_few_images_and_unknown_groups_are_refused(videos_json: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 10 images for as many parts, got 9"):
        make_plan(config(videos_json), tmp_path, FoldSplit(10))
    with pytest.raises(ValueError, match="Did you mean 'video'"):
        make_plan(config(videos_json), tmp_path, FoldSplit(None, True, "vide"))


def test_names_of_folds_are_safe_and_unique() -> None:
    names = fold_names(["a/b", "a b", "A_B", "", "..", "../x", "scores.png", "mean", "übung", "x" * 300])
    assert names == [
        *("a_b", "a_b-2", "A_B-3", "group", "group-2", "x", "scores.png-2", "mean-2", "übung"),
        "x" * 60,
    ]


def test_the_settings_name_what_changed(videos_json: Path, tmp_path: Path) -> None:
    def settings(path: Path = videos_json, folds: int = 3, **options: object) -> dict:
        return json.loads(
            json.dumps(make_plan(config(path, **options), tmp_path, FoldSplit(folds)).settings())
        )

    then = settings()
    assert first_difference(then, settings(num_workers=3, accelerator="cpu", default_root_dir="x")) is None
    assert first_difference(then, settings(learning_rate=0.5)) == ("config.learning_rate", 0.002, 0.5)
    assert first_difference(then, settings(folds=4, seed=1)) == ("split.folds", 3, 4)
    content = json.loads(videos_json.read_text())
    content["annotations"][0]["keypoints"][0] += 0.5
    path = videos_json.with_name("moved.json")
    path.write_text(json.dumps(content))
    found = first_difference(then, settings(path))
    assert found is not None
    assert found[0] == "data.coco_file"
