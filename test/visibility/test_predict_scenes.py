import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from point_data import make_points, tiny_config

from keypoint_detection.__main__ import main
from keypoint_detection.visibility import predict_scenes as module
from keypoint_detection.visibility.load_classifier import load_classifier
from keypoint_detection.visibility.predict_scenes import MapOptions, find_images, predict_scenes
from keypoint_detection.visibility.synthetic_occluders import make_occluded
from keypoint_detection.visibility.train import train

OPTIONS = MapOptions(stride_px=16, coarse=1, n_points=50, picture_px=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    points = make_points(folder)
    return train(tiny_config(points, folder, run_name="run", max_epochs=1), is_quiet=True).last_checkpoint


def test_scenes_give_maps_points_and_distances(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    scenes = find_images([folder / "scenes"])[:2]
    distances = predict_scenes(load_classifier(checkpoint), scenes, tmp_path, OPTIONS).distances
    assert list(distances) == [scene.name for scene in scenes]
    assert json.loads((tmp_path / "distances.json").read_text()) == distances
    assert all(set(one) == {"visibility_m", "interval_m", "kind"} for one in distances.values())
    picture = cv2.imread(str(tmp_path / "maps" / scenes[0].name))
    assert picture is not None
    assert picture.shape[1] >= 3 * 128
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["image"] == scenes[0].name]
    assert sum(row["kind"] == "distance" for row in first) == 50
    depth_m = np.load(scenes[0].depth_path)  # pyright: ignore[reportArgumentType]
    for row in first:
        assert float(row["depth_m"]) == pytest.approx(depth_m[int(float(row["y"])), int(float(row["x"]))])
        assert 0 <= float(row["p_visible"]) <= 1


def test_an_image_without_depth_has_a_map_and_no_distance(tmp_path: Path) -> None:
    json_path = make_occluded(tmp_path / "coco", 4, (64, 64), seed=1)
    settings = {"json_dataset_path": str(json_path), "data": None, "factors": [1, 2], "run_name": "coco"}
    config = type(tiny_config(tmp_path, tmp_path))(
        **{**tiny_config(tmp_path, tmp_path, max_epochs=1).model_dump(), **settings}
    )
    classifier = load_classifier(train(config, is_quiet=True).last_checkpoint)
    image = next(iter(sorted((tmp_path / "coco" / "images").iterdir())))
    (found,) = predict_scenes(classifier, find_images([image]), tmp_path / "out", OPTIONS).distances.values()
    assert found == {"visibility_m": None, "interval_m": None, "kind": "unknown"}
    picture = cv2.imread(str(tmp_path / "out" / "maps" / image.name))
    assert picture is not None
    assert 2 * 64 <= picture.shape[1] < 3 * 64
    assert ",map," in (tmp_path / "out" / "predictions.csv").read_text()


def test_plain_images_find_their_depth(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    view = folder / "scenes" / "images" / "view00"
    one = find_images([view], folder / "scenes" / "depth" / "view00.npy")
    assert [scene.depth_path for scene in one] == [folder / "scenes" / "depth" / "view00.npy"] * 2
    maps = tmp_path / "depth"
    maps.mkdir()
    for path in view.iterdir():
        shutil.copy(folder / "scenes" / "depth" / "view00.npy", maps / f"{path.stem}.npy")
    assert [scene.depth_path for scene in find_images([view], maps)] == sorted(maps.iterdir())
    (maps / "000.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected its depth map at .*000\.npy"):
        find_images([view], maps)
    with pytest.raises(ValueError, match="the classifier looks at depth, found none"):
        predict_scenes(load_classifier(checkpoint), find_images([view]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_sources_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        find_images([tmp_path / "none"])
    with pytest.raises(ValueError, match="expected images"):
        find_images([tmp_path])
    image = folder / "scenes" / "images" / "view00" / "000.png"
    with pytest.raises(ValueError, match=r"got '000\.png' twice"):
        find_images([image, image])


def test_images_that_differ_in_the_ending_only_have_pictures_of_their_own(
    checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    image = cv2.imread(str(folder / "scenes" / "images" / "view00" / "000.png"))
    assert image is not None
    for name in ("a.png", "a.bmp", "b.png"):
        cv2.imwrite(str(tmp_path / name), image)
    scenes = find_images([tmp_path], folder / "scenes" / "depth" / "view00.npy")
    predict_scenes(load_classifier(checkpoint), scenes, tmp_path / "out", OPTIONS)
    found = sorted(path.name for path in (tmp_path / "out" / "maps").iterdir())
    assert found == ["a.bmp.png", "a.png.png", "b.png"]


def test_neither_hidden_files_nor_pictures_of_an_earlier_call_are_images(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "scenes" / "images", tmp_path / "images")
    view = tmp_path / "images" / "view00"
    (view / "._000.png").write_bytes(b"of another system")
    maps = tmp_path / "images" / "out" / "maps"
    maps.mkdir(parents=True)
    shutil.copy(view / "000.png", maps / "000.png")
    names = [scene.name for scene in find_images([tmp_path / "images"], output=maps.parent)]
    assert len(names) == 8
    assert names[:2] == ["view00/000.png", "view00/001.png"]


def test_depth_and_masks_of_another_size_are_named(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    classifier = load_classifier(checkpoint)
    scenes = tmp_path / "scenes"
    shutil.copytree(folder / "scenes", scenes)
    mask = scenes / "masks" / "view00" / "000_visible.png"
    (scenes / "masks" / "view00" / "000_nonvisible.png").unlink()
    cv2.imwrite(str(mask), np.zeros((50, 128), np.uint8))
    (line,) = predict_scenes(classifier, find_images([scenes])[:1], tmp_path / "out", OPTIONS).unreadable
    assert re.search(r"000_visible\.png: expected 96x128 pixels .*000\.png, got 50x128", line)
    depth = scenes / "depth" / "view00.npy"
    np.save(depth, np.ones((90, 128), np.float32))
    (line,) = predict_scenes(classifier, find_images([scenes])[:1], tmp_path / "out", OPTIONS).unreadable
    assert re.search(r"view00\.npy: expected 96x128 pixels .*000\.png, got 90x128", line)
    with pytest.raises(ValueError, match="--output: expected a folder, got the file"):
        predict_scenes(classifier, find_images([scenes])[:1], mask, OPTIONS)


def test_a_broken_image_is_named_and_the_others_are_done(
    checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(folder / "scenes", tmp_path / "scenes")
    view = tmp_path / "scenes" / "images" / "view01"
    (view / "000.png").write_bytes(b"no picture")
    (view / "001.png").write_bytes((view / "001.png").read_bytes()[:200])
    np.save(tmp_path / "scenes" / "depth" / "view03.npy", np.ones((90, 128), np.float32))
    argv = ["--checkpoint", str(checkpoint), "--source", str(tmp_path / "scenes"), "--accelerator", "cpu"]
    argv += ["--output", str(tmp_path / "out"), "--stride_px", "32", "--points", "30"]
    assert main(["visibility", "predict", *argv]) == 1
    assert "4 images could not be read and were left out, see above" in capsys.readouterr().err
    named = [line for line in caplog.messages if line.startswith("not read: ")]
    assert [str(view / "000.png") in named[0], str(view / "001.png") in named[1]] == [True, True]
    assert len(named) == 4
    good = [f"images/view0{view}/00{image}.png" for view in (0, 2) for image in (0, 1)]
    assert list(json.loads((tmp_path / "out" / "distances.json").read_text())) == good
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert list(dict.fromkeys(row["image"] for row in csv.DictReader(file))) == good
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    written = [path.relative_to(tmp_path / "out").as_posix() for path in files]
    assert written == ["distances.json", *(f"maps/{name}" for name in good), "predictions.csv"]


def test_a_full_disk_is_no_broken_image(
    checkpoint: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_picture", full)
    with pytest.raises(OSError, match="No space left"):
        predict_scenes(
            load_classifier(checkpoint), find_images([folder / "scenes"])[:2], tmp_path / "out", OPTIONS
        )
    assert not (tmp_path / "out" / "predictions.csv").exists()
