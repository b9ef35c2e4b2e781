import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from predicting import (
    frames,
    read_predictions,
    save_detector,
    without_overlays,
    write_images,
    write_video,
)
from video_files import packets_of

from keypoint_detection.predict import predict_to_files
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.records import Prediction
from keypoint_detection.utils.load_checkpoints import load_model


def as_points(entry: dict) -> dict[str, list[tuple[float, float, float]]]:
    return {
        name: [(p["x"], p["y"], p["score"]) for p in channel] for name, channel in entry["keypoints"].items()
    }


def assert_same_points(entries: list[dict], expected: list[Prediction]) -> None:
    """Batches of another size round otherwise, which moves points on the flat maps of random weights."""
    assert len(entries) == len(expected) > 0
    for entry, prediction in zip(entries, expected, strict=True):
        assert (entry["height"], entry["width"]) == prediction.image_hw
        for name, points in as_points(entry).items():
            wanted = [(p.x, p.y, p.score) for p in prediction[name]]
            assert len(points) == len(wanted)
            np.testing.assert_allclose(points, np.array(wanted).reshape(-1, 3), atol=0.05)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("model") / "model.ckpt")


def test_points_and_overlays_are_written_for_every_image(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    folder = boxes_json.parent / "images"
    options = PredictOptions(confidence_threshold=0.0, batch_size=4)
    result = predict_to_files(tiny_checkpoint, folder, tmp_path, options)
    assert (result.n_images, result.unreadable) == (6, [])
    written = read_predictions(tmp_path)
    assert_same_points(written, load_model(tiny_checkpoint).predict(sorted(folder.glob("*.png"))))
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = [point for image in written for channel in image["keypoints"].values() for point in channel]
    assert len(points) == len(rows) == result.n_keypoints > 0
    assert list(rows[0]) == ["image", "channel", "rank", "x", "y", "score"]
    assert float(rows[-1]["x"]) == pytest.approx(points[-1]["x"], abs=1e-3)
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 6
    assert not (tmp_path / "predictions.partial.jsonl").exists()


def test_a_second_run_replaces_the_first(tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path) -> None:
    for _ in range(2):
        predict_to_files(tiny_checkpoint, boxes_json.parent / "images", tmp_path)
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 6


def test_an_unreadable_image_is_named_and_skipped(checkpoint: Path, tmp_path: Path) -> None:
    first, bad, last = write_images(tmp_path / "photos", [(32, 32)] * 3)
    bad.write_bytes(bad.read_bytes()[:60])
    result = predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "out", without_overlays(coco=True))
    assert [entry["source"] for entry in read_predictions(tmp_path / "out")] == [str(first), str(last)]
    assert len(result.unreadable) == 1
    assert str(bad) in result.unreadable[0]
    assert result.n_images == 2
    entries = json.loads((tmp_path / "out" / "predictions_coco.json").read_text())
    assert [entry["image_id"] for entry in entries] == [1, 3]
    assert not (tmp_path / "out" / "overlays").exists()


def test_images_of_many_sizes_keep_their_order(checkpoint: Path, tmp_path: Path) -> None:
    sizes = [(40, 50), (40, 50), (70, 33), (40, 50), (70, 33), (70, 33), (70, 33)]
    paths = write_images(tmp_path / "photos", sizes)
    predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "out", without_overlays(batch_size=2))
    entries = read_predictions(tmp_path / "out")
    assert [(entry["height"], entry["width"]) for entry in entries] == sizes
    assert [entry["source"] for entry in entries] == [str(path) for path in paths]
    assert_same_points(entries, load_model(checkpoint).predict(paths, batch_size=1))


def test_images_of_equal_names_have_an_overlay_each(checkpoint: Path, tmp_path: Path) -> None:
    names = ["a/same", "b/same", "c/same_2", "d/same"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((32, 32, 3), np.uint8))
    predict_to_files(checkpoint, str(tmp_path / "*" / "*.png"), tmp_path / "out")
    overlays = {path.stem for path in (tmp_path / "out" / "overlays").glob("*.png")}
    assert overlays == {"same", "same_2", "same_2_2", "same_3"}


def test_the_threshold_is_a_lower_bound_of_the_scores(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    folder = boxes_json.parent / "images"
    everything = load_model(tiny_checkpoint).predict(sorted(folder.glob("*.png")))
    scores = sorted(p.score for prediction in everything for channel in prediction.keypoints for p in channel)
    middle = scores[len(scores) // 2]
    options = PredictOptions(confidence_threshold=middle, overlays=False)
    result = predict_to_files(tiny_checkpoint, folder, tmp_path, options)
    kept = [p[2] for entry in read_predictions(tmp_path) for c in as_points(entry).values() for p in c]
    assert min(kept) >= middle
    assert len(kept) == result.n_keypoints == sum(score >= middle for score in scores)


def test_flip_test_tiles_and_the_number_of_points_are_passed_on(checkpoint: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", [(40, 50)] * 2)

    def points(name: str, **options: object) -> list[dict]:
        chosen = without_overlays(**options)
        predict_to_files(checkpoint, tmp_path / "photos", tmp_path / name, chosen)
        return read_predictions(tmp_path / name)

    plain, flipped = points("plain"), points("flipped", flip_test=True)
    assert plain != flipped
    assert max(len(c) for entry in plain for c in entry["keypoints"].values()) > 2
    few = points("few", max_keypoints=2)
    assert all(len(c) <= 2 for entry in few for c in entry["keypoints"].values())
    with pytest.raises(ValueError, match="overlap by less than their side of 32 px, got 128 px"):
        points("tiles", tile_px=32)
    assert len(points("tiles", tile_px=32, overlap_px=8)) == 2


def test_the_frames_of_a_video_have_numbers_and_times(checkpoint: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "mouse.avi", 11)
    options = without_overlays(batch_size=4, deeplabcut=True, coco=True)
    result = predict_to_files(checkpoint, video, tmp_path / "out", options)
    entries = read_predictions(tmp_path / "out")
    assert result.n_images == 11
    assert [entry["frame"] for entry in entries] == list(range(11))
    assert [entry["time_s"] for entry in entries] == pytest.approx([index / 20 for index in range(11)])
    assert {entry["source"] for entry in entries} == {str(video)}
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["frame", "time_s", "channel", "rank", "x", "y", "score"]
    assert (rows[-1]["frame"], rows[-1]["time_s"]) == ("10", "0.500000")
    tables = {path.name for path in (tmp_path / "out" / "deeplabcut").iterdir()}
    assert "mouseDLC_keypoint_detection.csv" in tables
    lines = (tmp_path / "out" / "deeplabcut" / "mouseDLC_keypoint_detection.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[3:]] == [str(index) for index in range(11)]
    coco = json.loads((tmp_path / "out" / "predictions_coco.json").read_text())
    assert [entry["image_id"] for entry in coco] == list(range(1, 12))


def test_a_video_gives_what_its_frames_give(checkpoint: Path, tmp_path: Path) -> None:
    from keypoint_detection.data.video import VideoFrames

    video = write_video(tmp_path / "mouse.avi", 6)
    predict_to_files(checkpoint, video, tmp_path / "out", without_overlays(batch_size=4))
    with VideoFrames(video) as reading:
        images = [frame.image for frame in reading]
    assert_same_points(read_predictions(tmp_path / "out"), load_model(checkpoint).predict(images))


def test_an_overlay_video_shows_every_frame(checkpoint: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "mouse.avi", 5, (64, 96))
    options = PredictOptions(confidence_threshold=0.0, trail_frames=2)
    predict_to_files(checkpoint, video, tmp_path / "out", options)
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    pictures = []
    while (picture := capture.read()[1]) is not None:
        pictures.append(picture)
    assert len(pictures) == 5
    difference = np.abs(pictures[0].astype(float) - frames(1, (64, 96))[0]).max()
    assert difference > 60  # the rings


def test_several_videos_have_a_folder_each(checkpoint: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "v2.avi", 3)
    write_video(tmp_path / "videos" / "v10.avi", 4)
    (tmp_path / "videos" / "bad.avi").write_text("no video")
    result = predict_to_files(checkpoint, tmp_path / "videos", tmp_path / "out", without_overlays())
    assert result.n_images == 7
    assert len(result.unreadable) == 1
    assert "bad.avi" in result.unreadable[0]
    assert len(read_predictions(tmp_path / "out" / "v2")) == 3
    assert len(read_predictions(tmp_path / "out" / "v10")) == 4
    assert not list(tmp_path.rglob("*.partial.jsonl"))


def test_a_file_that_is_no_video_fails_with_nothing_written(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.avi").write_text("no video")
    with pytest.raises(ValueError, match=r"bad\.avi"):
        predict_to_files(checkpoint, tmp_path / "bad.avi", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frames_in_front_of_damage_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = write_video(tmp_path / "mouse.avi", 12)
    eighth = packets_of(video)[7]
    video.write_bytes(video.read_bytes().replace(eighth, bytes([255]) * len(eighth)))
    result = predict_to_files(checkpoint, video, tmp_path / "out", PredictOptions(batch_size=4))
    assert result.n_images == len(read_predictions(tmp_path / "out")) == 7
    assert len(result.unreadable) == 1
    assert "frame 7 of " in result.unreadable[0]
    assert (tmp_path / "out" / "overlay.mp4").is_file()


def test_max_frames_ends_a_video(checkpoint: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "mouse.avi", 9)
    result = predict_to_files(checkpoint, video, tmp_path / "out", without_overlays(max_frames=5))
    assert result.n_images == len(read_predictions(tmp_path / "out")) == 5


def test_tables_for_deeplabcut_hold_the_best_points(checkpoint: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", [(32, 32)] * 4)
    predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "out", without_overlays(deeplabcut=True))
    (table,) = (tmp_path / "out" / "deeplabcut").glob("*.csv")
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[1][1:] == ["left_ear"] * 3 + ["right_ear"] * 3 + ["nose"] * 3
    assert [row[0] for row in rows[3:]] == [f"{index}.png" for index in range(4)]
    best = read_predictions(tmp_path / "out")[0]["keypoints"]["left_ear"][0]
    assert [float(cell) for cell in rows[3][1:4]] == [best["x"], best["y"], best["score"]]


@pytest.mark.parametrize("form", ["deeplabcut", "coco"])
def test_these_forms_need_a_channel_per_keypoint(
    form: str, tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    options = without_overlays(**{form: True})
    with pytest.raises(ValueError, match="one keypoint per channel, got corner0 = corner1"):
        predict_to_files(tiny_checkpoint, boxes_json.parent / "images", tmp_path, options)
    assert list(tmp_path.iterdir()) == []


def test_coco_results_take_ids_and_category_of_a_file(checkpoint: Path, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", [(32, 32)] * 3)
    coco = {
        "images": [
            {"id": 70 + i, "file_name": f"images/{p.name}", "width": 32, "height": 32}
            for i, p in enumerate(paths)
        ],
        "categories": [{"id": 9, "name": "mouse", "keypoints": ["nose", "left_ear"]}],
        "annotations": [],
    }
    (tmp_path / "labels.json").write_text(json.dumps(coco))
    options = without_overlays(coco=True, json_dataset_path=tmp_path / "labels.json")
    predict_to_files(checkpoint, tmp_path / "images", tmp_path / "out", options)
    entries = json.loads((tmp_path / "out" / "predictions_coco.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(70, 9), (71, 9), (72, 9)]
    best = [read_predictions(tmp_path / "out")[2]["keypoints"][name][0] for name in ("nose", "left_ear")]
    assert entries[2]["keypoints"] == [p[part] for p in best for part in ("x", "y", "score")]
    assert entries[2]["score"] == pytest.approx((best[0]["score"] + best[1]["score"]) / 2)
    with pytest.raises(ValueError, match="ids of images, got a video"):
        predict_to_files(checkpoint, write_video(tmp_path / "a.avi", 2), tmp_path / "out", options)


def test_progress_is_told_after_every_batch(checkpoint: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", [(32, 32)] * 5)
    told: list[int] = []
    options = without_overlays(batch_size=2)
    predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "out", options, on_progress=told.append)
    assert told == [2, 4, 5]


def test_tiles_at_another_scale_than_in_training_are_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path / "photos", [(96, 64)])
    for name, settings in (("own", {}), ("scaled", {"image_size": [32, 48]})):
        model = save_detector(tmp_path / f"{name}.ckpt", **settings)
        options = without_overlays(tile_px=64, overlap_px=16)
        predict_to_files(model, tmp_path / "photos", tmp_path / name, options)
    lines = [line for line in caplog.messages if "--tile" in line]
    assert len(lines) == 1
    assert "scaled to 48x32;" in lines[0]
