from pathlib import Path

import cv2
import numpy as np
import pytest
from sleap_drawing import (
    NAN,
    centroid,
    dot_image,
    embedded,
    frame,
    guess,
    h5py,
    media,
    save,
    sequence,
    sio,
    skeleton,
    user,
)

from keypoint_detection.data.formats.sleap_labels import extract_frames, read_labels


def test_an_image_sequence(tmp_path):
    kind, tracks = skeleton(), [sio.Track("7"), sio.Track("left cage")]
    files = [(tmp_path / f"frames/{name}.png").as_posix() for name in "abc"]
    (tmp_path / "frames").mkdir()
    assert cv2.imwrite(files[0], np.zeros((20, 30), np.uint8))
    video = sequence(files)
    first = [[1.25, 2], [3, 4.5], [NAN, NAN]]
    path = save(
        tmp_path,
        [
            frame(video, 2, user(first, kind, tracks[1]), user(np.full((3, 2), NAN), kind)),
            frame(video, 0, user(first, kind, tracks[0])),
        ],
    )
    conversion = read_labels(path)
    coco = conversion.coco
    (category,) = coco.categories
    assert (category.name, category.keypoints, category.skeleton) == (
        "mouse",
        ["nose", "left", "right"],
        [[1, 2]],
    )
    assert category.model_extra == {"symmetric_keypoints": [["left", "right"]]}
    assert [(i.id, i.file_name, i.width, i.height) for i in coco.images] == [
        (1, "images/c.png", 30, 20),
        (2, "images/a.png", 30, 20),
    ]
    # SLEAP counts from pixel centres: nothing moves
    assert [a.keypoints for a in coco.annotations] == [[1.25, 2, 2, 3, 4.5, 2, 0, 0, 0]] * 2
    assert [(a.model_extra or {})["track_id"] for a in coco.annotations] == ["left cage", 7]
    assert (coco.annotations[0].bbox, coco.annotations[0].area) == ([1.75, 2.5, 1.75, 2.5], 4.375)
    assert conversion.image_paths == {2: Path(files[0])}
    assert [note.split(": ", 1)[1] for note in conversion.notes] == [
        "1 instances without a visible point are left out",
        "1 files of image sequences are neither where the file says nor beside it",
    ]


def test_invisible_points_are_absent(tmp_path):
    kind = skeleton()
    instance = user([[1, 2], [3, 4], [5, 6]], kind)
    instance.points["visible"] = [True, False, True]
    path = save(tmp_path, [frame(sequence(["a.png"]), 0, instance)])
    assert read_labels(path).coco.annotations[0].keypoints == [1, 2, 2, 0, 0, 0, 5, 6, 2]


def test_files_before_format_1_1_counted_from_the_corner(tmp_path):
    path = save(tmp_path, [frame(sequence(["a.png"]), 0, user([[1, 2], [3, 4], [5, 6]], skeleton()))])
    with h5py.File(path, "r+") as file:
        file["metadata"].attrs["format_id"] = 1.0
        table = file["instances"][:]
        del file["instances"]
        names = [name for name in table.dtype.names if name != "tracking_score"]
        file["instances"] = table[names].astype([(name, table.dtype[name]) for name in names])
    assert read_labels(path).coco.annotations[0].keypoints == [0.5, 1.5, 2, 2.5, 3.5, 2, 4.5, 5.5, 2]


def test_predictions_are_no_labels_where_there_are_labels(tmp_path):
    kind, video = skeleton(), sequence([f"{i}.png" for i in range(5)])
    points = [[1, 2], [3, 4], [5, 6]]
    frames = [
        frame(video, 0, user(points, kind), guess(points, kind), guess(points, kind)),
        frame(video, 1, guess(points, kind)),
        frame(video, 2),
        frame(video, 3, is_negative=True),
    ]
    conversion = read_labels(save(tmp_path, frames))
    assert [image.file_name for image in conversion.coco.images] == ["images/0.png", "images/3.png"]
    assert [(a.image_id, a.model_extra) for a in conversion.coco.annotations] == [(1, {})]
    notes = " | ".join(conversion.notes)
    assert "2 predicted instances in labelled frames are left out" in notes
    assert "1 frames that have predictions only are left out" in notes
    assert "1 frames without instances that are not marked as negative" in notes
    only = read_labels(save(tmp_path, frames[1:2], "predictions.slp"))
    assert only.coco.annotations[0].model_extra == {"score": 0.5}
    assert "1 predicted instances are read: the file has no labels" in " | ".join(only.notes)


def test_video_frames_are_named_and_need_a_size(tmp_path):
    kind = skeleton()
    points = [[1, 2], [3, 4], [5, 6]]
    shaped, twin = media("a/clip.mp4", shape=[99, 20, 30, 3]), media("b/clip.mp4", shape=[99, 40, 50, 3])
    frames = [frame(shaped, 12, user(points, kind)), frame(twin, 12, user(points, kind))]
    conversion = read_labels(save(tmp_path, frames))
    assert [(i.file_name, i.width) for i in conversion.coco.images] == [
        ("images/clip/frame_000012.png", 30),
        ("images/clip_2/frame_000012.png", 50),
    ]
    assert "2 frames of videos, or inside the file, are no image files yet" in conversion.notes[0]
    path = save(tmp_path, [frame(media(), 3, user(points, kind))], "unknown.slp")
    with pytest.raises(ValueError, match=r"size of the frames of 'clip.mp4'.*put the video beside"):
        read_labels(path)
    names = [image.file_name for image in conversion.coco.images]
    assert extract_frames(tmp_path / "labels.slp", tmp_path, names) == 0
    assert not (tmp_path / "images").exists()


def test_a_frame_beyond_its_sequence(tmp_path):
    path = save(tmp_path, [frame(sequence(["a.png"]), 5, user(np.ones((3, 2)), skeleton()))])
    with pytest.raises(ValueError, match="frames 0 to 0 of an image sequence, got 5"):
        read_labels(path)


def test_the_dot_of_an_image_sequence(tmp_path):
    file = tmp_path / "source" / "a.png"
    file.parent.mkdir()
    assert cv2.imwrite(str(file), dot_image(12.3, 7.6))
    video = sio.Video.from_filename([file.as_posix()])
    conversion = read_labels(
        save(tmp_path, [frame(video, 0, user([[12.3, 7.6], [1, 1], [1, 1]], skeleton()))])
    )
    point = conversion.coco.annotations[0].keypoints[:2]
    assert np.hypot(*(centroid(conversion.image_paths[1]) - point)) <= 0.05


def test_frames_inside_the_file_are_found_once_they_are_beside_it(tmp_path):
    path, _ = embedded(tmp_path, 12.3, 7.6)
    conversion = read_labels(path)
    (image,) = conversion.coco.images
    assert (image.width, image.height, conversion.image_paths) == (40, 20, {})
    assert "1 frames of videos, or inside the file, are no image files yet" in conversion.notes[0]
    assert extract_frames(path, tmp_path, ["images/other.png"]) == 0
    assert extract_frames(path, tmp_path, [image.file_name]) == 1
    assert read_labels(path).image_paths == {1: tmp_path / image.file_name}


def test_a_video_of_another_size_than_the_file_says(tmp_path):
    path, _ = embedded(tmp_path, 12.3, 7.6)
    with h5py.File(path, "r+") as file:
        text = file["videos_json"][0].decode()
        file["videos_json"][0] = text.replace('"shape":[1,20,40,3]', '"shape":[1,21,40,3]')
    (image,) = read_labels(path).coco.images
    assert image.height == 21
    with pytest.raises(ValueError, match=r"as 40x21 pixels of 8 bits, got uint8 \(20, 40, 3\)"):
        extract_frames(path, tmp_path, [image.file_name])
    assert not (tmp_path / "images").exists()
