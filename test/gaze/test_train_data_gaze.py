from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gaze_runs import draw_people, tiny_config
from layouts import gazefollow_line, write_gazefollow, write_videoattention

from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.gaze.people import read_table, write_table
from keypoint_detection.gaze.train import train
from keypoint_detection.gaze.train_config import GazeTrainConfig
from keypoint_detection.gaze.train_data import open_data

SIZES: dict[str, Any] = {"scene_hw": (64, 64), "head_hw": (32, 32)}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people"))


def test_the_people_held_out_are_of_other_images(people: Path, tmp_path: Path) -> None:
    data = open_data(tiny_config(people, tmp_path), **SIZES)
    assert data.validation_dataset is not None
    parts = [set(one.table.image_names) for one in (data.train_dataset, data.validation_dataset)]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 12
    given = open_data(tiny_config(people, tmp_path, validation_data=str(people)), **SIZES)
    assert given.validation_dataset is not None
    assert len(given.validation_dataset) == len(given.train_dataset) == len(read_table(people))


def test_the_strengths_of_the_changes_arrive(people: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"augment_box": 0.1, "augment_flip": 0.0, "augment_saturation": "0.9 1.1"}
    augmentation = open_data(tiny_config(people, tmp_path, **values), **SIZES).train_dataset.augmentation
    assert augmentation is not None
    assert (augmentation.box_jitter, augmentation.flip_probability) == (0.1, 0.0)
    assert augmentation.saturation == (0.9, 1.1)
    data = open_data(tiny_config(people, tmp_path, augment_train=False), **SIZES)
    assert data.train_dataset.augmentation is None
    assert data.validation_dataset is not None
    assert data.validation_dataset.augmentation is None


def test_a_share_of_the_frames_of_each_clip(people: Path, tmp_path: Path) -> None:
    table = read_table(people)
    clips = people.parent / "clips.json"
    groups = tuple(f"clip{index // 4}" for index in table.image.tolist())
    write_table(clips, type(table)(**{**vars(table), "group": groups}))
    config = tiny_config(clips, tmp_path, frame_share=0.5)
    data = open_data(config, **SIZES)
    assert data.validation_dataset is not None
    names = [*data.train_dataset.table.image_names, *data.validation_dataset.table.image_names]
    assert len(names) == 6
    per_clip = [sum(int(Path(name).stem) // 4 == clip for name in names) for clip in range(3)]
    assert per_clip == [2, 2, 2]


def test_a_folder_of_gazefollow_is_enough(tmp_path: Path) -> None:
    lines = [
        gazefollow_line(f"train/0/{name}.png", in_out=inside)
        for name, inside in zip("abcd", (1, 1, 0, -1), strict=True)
    ]
    write_gazefollow(tmp_path, lines)
    test = write_gazefollow(
        tmp_path, [gazefollow_line("test2/0/e.png", in_out=None)], "test_annotations_release.txt"
    )
    values = {"gazefollow": str(tmp_path), "data": None, "validation_data": str(test), "num_workers": 0}
    data = open_data(GazeTrainConfig(**values), **SIZES)  # pyright: ignore[reportArgumentType]
    assert data.train_dataset.table.in_frame.tolist() == [1, 1, 0, -1]
    assert data.validation_dataset is not None
    assert data.validation_dataset.table.image_names == ("test2/0/e.png",)
    assert next(iter(data.train_dataloader()))["scene"].shape == (4, 3, 64, 64)


def test_a_split_of_videoattention_and_broken_rows(tmp_path: Path) -> None:
    lines = [f"{number:08d}.jpg,40,10,60,30,120,80" for number in range(3)]
    folder = write_videoattention(tmp_path, {f"show/{clip}/s00.txt": lines for clip in ("a", "b")})
    data = open_data(tiny_config(folder, tmp_path), **SIZES)
    assert data.validation_dataset is not None
    assert set(data.train_dataset.table.group) | set(data.validation_dataset.table.group) == {
        "show/a",
        "show/b",
    }
    (folder / "show" / "a" / "s00.txt").write_text("\n".join([*lines, "x.jpg,1,2,3"]) + "\n")
    with pytest.raises(ValueError, match=r"s00\.txt"):
        open_data(tiny_config(folder, tmp_path), **SIZES)
    kept = open_data(tiny_config(folder, tmp_path, skip_broken=True), **SIZES)
    assert kept.validation_dataset is not None
    assert len(kept.train_dataset) + len(kept.validation_dataset) == 6


def test_depth_maps_add_a_branch(people: Path, tmp_path: Path) -> None:
    for name in read_table(people).image_names:
        path = tmp_path / "depth" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((18, 24), 90, np.uint8))
    values = {"depth_folder": str(tmp_path / "depth"), "max_epochs": 1}
    with pytest.raises(ValueError, match="expected a --head_grid as the --grid has, 4 4, got 2 2"):
        train(tiny_config(people, tmp_path / "runs", **values))
    result = train(tiny_config(people, tmp_path / "runs", head_grid="4 4", **values), is_quiet=True)
    assert load_follower(result.last_checkpoint).conditioner.depth_branch is not None
    (tmp_path / "depth" / read_table(people).image_names[0]).unlink()
    with pytest.raises(FileNotFoundError, match="expected a depth map"):
        train(tiny_config(people, tmp_path / "runs", head_grid="4 4", **values))
