import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from point_data import IMAGES_PER_VIEW, N_VIEWS, POINTS_PER_IMAGE, make_points

from keypoint_detection.visibility.synthetic_occluders import make_occluded
from keypoint_detection.visibility.train_data import (
    check_both_classes,
    make_keypoint_dataset,
    open_dataset,
    read_truth,
    validation_views,
    views_named,
)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_points(tmp_path_factory.mktemp("data"))


def test_a_data_set_knows_its_images_and_the_truth(points: Path) -> None:
    data = open_dataset(points)
    assert len(data.table) == N_VIEWS * IMAGES_PER_VIEW * POINTS_PER_IMAGE
    assert data.views == ["view00", "view01", "view02", "view03"]
    assert data.images == (points.parent / "scenes").resolve()
    truth = json.loads((points.parent / "scenes" / "truth.json").read_text())
    assert data.true_m == {name: entry["visibility_m"] for name, entry in truth.items()}
    assert data.pyramid.n_channels == 4


def test_parts_by_view_share_no_view_and_lose_no_point(points: Path) -> None:
    data = open_dataset(points)
    held_out, rest = data.of_views(["view01"]), data.without_views(["view01"])
    assert set(held_out.point_views.tolist()) == {"view01"}
    assert set(rest.point_views.tolist()) == {"view00", "view02", "view03"}
    assert len(held_out) + len(rest) == len(data.table)


@pytest.mark.parametrize("seed", range(5))
def test_drawn_views_are_whole_and_repeatable(points: Path, seed: int) -> None:
    data = open_dataset(points)
    chosen = validation_views(data, None, 0.25, seed)
    assert len(chosen) == 1
    assert chosen[0] in data.views
    assert validation_views(data, None, 0.25, seed) == chosen
    assert len({validation_views(data, None, 0.25, other)[0] for other in range(20)}) == N_VIEWS


def test_named_views(points: Path) -> None:
    data = open_dataset(points)
    assert validation_views(data, ["view02", "view00"], 0.5, 0) == ["view00", "view02"]
    with pytest.raises(ValueError, match="got all of them"):
        validation_views(data, data.views, 0.5, 0)
    with pytest.raises(ValueError, match=r"--views: no points of view 'view1'.*Did you mean 'view01'"):
        views_named(data, ["view1"], "--views")


def test_keypoints_become_points_and_the_same_call_again_is_quick(tmp_path: Path) -> None:
    json_path = make_occluded(tmp_path / "coco", 3, (64, 64), seed=0)
    data = make_keypoint_dataset(json_path, tmp_path / "points", factors=(1, 2))
    labelled = [
        flag
        for entry in json.loads(json_path.read_text())["annotations"]
        for flag in entry["keypoints"][2::3]
        if flag
    ]
    assert sorted(data.table.label.tolist()) == sorted(int(flag == 2) for flag in labelled)
    assert data.pyramid.n_channels == 3
    assert data.images == json_path.parent.resolve()
    manifest = next((tmp_path / "points" / "pyramid").glob("*.json"))
    before = manifest.stat().st_mtime_ns
    again = make_keypoint_dataset(json_path, tmp_path / "points", factors=(1, 2))
    assert manifest.stat().st_mtime_ns == before
    assert np.array_equal(again.table.xy, data.table.xy)


def test_what_is_missing_or_broken_is_one_line(points: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="visibility make-dataset"):
        open_dataset(tmp_path)
    copy = shutil.copytree(points, tmp_path / "copy")
    (copy / "source.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"source\.json: expected the folder of the images"):
        open_dataset(copy)
    (copy / "source.json").write_text(json.dumps({"images": str(tmp_path / "gone")}))
    moved = open_dataset(copy)
    assert moved.images is None
    assert moved.true_m == {}
    (copy / "source.json").unlink()
    assert open_dataset(copy).images is None


def test_points_and_images_may_be_moved_together(tmp_path: Path) -> None:
    points = make_points(tmp_path / "here")
    written = json.loads((points / "source.json").read_text())
    assert written == {"images": "../scenes"}
    truth = open_dataset(points).true_m
    assert len(truth) == 8
    there = shutil.move(tmp_path / "here", tmp_path / "there")
    moved = open_dataset(there / "points")
    assert moved.images == (there / "scenes").resolve()
    assert moved.true_m == truth
    link = tmp_path / "deep" / "er" / "link"
    link.parent.mkdir(parents=True)
    link.symlink_to(there / "points")
    assert open_dataset(link).images == moved.images


def test_older_sources_name_an_absolute_folder(points: Path, tmp_path: Path) -> None:
    copy, images = shutil.copytree(points, tmp_path / "copy"), open_dataset(points).images
    (copy / "source.json").write_text(json.dumps({"images": str(images)}))
    assert open_dataset(copy).images == images


def test_points_that_are_moved_alone_take_no_other_folder_for_their_images(
    points: Path, tmp_path: Path
) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "truth.json").write_text("{}")
    alone = open_dataset(shutil.copytree(points, tmp_path / "points"))
    assert (alone.images, alone.true_m) == (None, {})


def test_both_classes_are_needed(points: Path) -> None:
    table = open_dataset(points).table
    check_both_classes(table, "points")
    with pytest.raises(ValueError, match=r"among the training points, got 0 visible of \d+"):
        check_both_classes(table.select(table.label == 0), "training points")


@pytest.mark.parametrize("distance_m", ["0", "-3", "Infinity", "NaN"])
def test_a_true_distance_that_is_none_is_one_line(tmp_path: Path, distance_m: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text('{"a.png": {"visibility_m": ' + distance_m + "}}")
    with pytest.raises(ValueError, match=r"truth\.json: expected a finite visibility_m above 0 for 'a\.png'"):
        read_truth(path)


def test_names_of_views_may_hold_spaces_and_commas(points: Path) -> None:
    data = open_dataset(points)
    views = tuple("east, 1" if view == "view00" else view for view in data.table.views)
    data = dataclasses.replace(data, table=dataclasses.replace(data.table, views=views))
    assert views_named(data, ["east, 1"], "--views") == ["east, 1"]
    assert views_named(data, ["view01, view02"], "--views") == ["view01", "view02"]
    with pytest.raises(ValueError, match=r"no points of view 'east, 2'.*Did you mean 'east, 1'"):
        views_named(data, ["east, 2"], "--views")


def test_keypoints_that_cannot_be_used_leave_the_older_data_set(tmp_path: Path) -> None:
    first = make_occluded(tmp_path / "first", 3, (64, 64), seed=1)
    second = make_occluded(tmp_path / "second", 3, (64, 64), seed=2)
    folder = tmp_path / "points"
    older = make_keypoint_dataset(first, folder, factors=[1, 2])
    (folder / "points.parquet").write_bytes(b"of another call")
    next(iter((tmp_path / "second" / "images").iterdir())).unlink()
    with pytest.raises(FileNotFoundError):
        make_keypoint_dataset(second, folder, factors=[1, 2])
    assert open_dataset(folder).table.xy.tolist() == older.table.xy.tolist()
    make_keypoint_dataset(first, folder, factors=[1])
    assert not (folder / "points.parquet").exists()
    with pytest.raises(ValueError, match="expected a folder for the data set, got the file"):
        make_keypoint_dataset(first, first)


def change_coco(json_path: Path, **values: object) -> None:
    """Change fields of the first image of a COCO file, or the first point of its first annotation."""
    content = json.loads(json_path.read_text())
    content["annotations"][0]["keypoints"][:3] = values.pop(
        "point", content["annotations"][0]["keypoints"][:3]
    )
    content["images"][0] |= values
    json_path.write_text(json.dumps(content))


def test_an_image_of_another_size_than_its_entry_is_told_how_to_mend(tmp_path: Path) -> None:
    json_path = make_occluded(tmp_path / "coco", 2, (48, 64), seed=1)
    change_coco(json_path, width=60)
    advice = (
        r"expected 48x60 pixels \(height x width\), got 48x64; scale the labels, or correct the entry in "
    )
    with pytest.raises(ValueError, match=advice + r".*annotations\.json, as keypoint-detection doctor --fix"):
        make_keypoint_dataset(json_path, tmp_path / "points", factors=(1, 2))
    assert not list((tmp_path / "points").glob("points.*"))


def test_points_outside_their_image_are_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    json_path = make_occluded(tmp_path / "coco", 2, (48, 64), seed=1)
    make_keypoint_dataset(json_path, tmp_path / "clean", factors=(1, 2))
    assert "outside" not in caplog.text
    change_coco(json_path, point=[1e7, 5.0, 2])
    data = make_keypoint_dataset(json_path, tmp_path / "points", factors=(1, 2))
    told = [line for line in caplog.messages if "outside" in line]
    name = data.table.image_names[data.table.image[0]]
    assert told == [
        f"{json_path}: 1 of {len(data.table)} points lie outside their image and are judged by what of it is "
        f"near, if anything (first in {name})"
    ]
    caplog.clear()
    open_dataset(tmp_path / "points")
    assert next(line for line in caplog.messages if "1 of" in line).startswith(
        str(tmp_path / "points" / "points.csv")
    )
