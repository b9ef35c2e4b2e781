import os
from pathlib import Path

import pytest
from predicting import write_images, write_video

from keypoint_detection.predict_source import ImageFiles, VideoSource, find_sources, video_folders


def test_a_folder_with_images_and_videos_gives_its_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    images = write_images(tmp_path, [(8, 8)] * 11)
    (tmp_path / "a.MP4").touch()
    assert find_sources(tmp_path) == [ImageFiles(tuple(images))]
    assert "left out 1 videos" in caplog.text


def test_videos_are_in_natural_order(tmp_path: Path) -> None:
    for name in ("v10.avi", "v9.mp4", "notes.txt"):
        (tmp_path / name).touch()
    expected = [VideoSource(str(tmp_path / name), 7) for name in ("v9.mp4", "v10.avi")]
    assert find_sources(tmp_path, 7) == expected
    assert find_sources(str(tmp_path / "v*"), 7) == expected
    assert find_sources([tmp_path / "v10.avi", tmp_path / "v9.mp4"], 7) == expected[::-1]


def test_a_list_joins_files_folders_and_globs_in_its_order(tmp_path: Path) -> None:
    first, second = write_images(tmp_path / "a", [(8, 8)] * 2)
    (third,) = write_images(tmp_path / "b", [(8, 8)])
    sources = [third, str(tmp_path / "a" / "[1]*.png"), tmp_path / "a"]
    assert find_sources(sources) == [ImageFiles((third, second, first))]


@pytest.mark.parametrize(
    ("names", "max_frames", "text"),
    [
        (["0.png", "v.avi"], None, "got both, such as"),
        (["0.png"], 3, "--max_frames expects a video or a camera, got images"),
        (["camera:0", "v.avi"], None, "a camera by itself, got 2 sources"),
        (["camera:x"], None, "expected a camera such as camera:0, got camera:x"),
        (["nothing"], None, "found nothing at"),
        ([], None, "got an empty list"),
    ],
)
def test_what_cannot_be_a_source_is_one_line(
    names: list[str], max_frames: int | None, text: str, tmp_path: Path
) -> None:
    write_images(tmp_path, [(8, 8)])
    (tmp_path / "v.avi").touch()
    entries = [name if name.startswith("camera") else str(tmp_path / name) for name in names]
    with pytest.raises((ValueError, FileNotFoundError), match=text) as caught:
        find_sources(entries, max_frames)
    assert "\n" not in str(caught.value)


def test_a_folder_of_neither_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match="found none among 1 entries"):
        find_sources(tmp_path)


def test_a_folder_of_folders_says_how_to_take_what_they_hold(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path / "mouse", [(8, 8)])
    with pytest.raises(FileNotFoundError, match=r"'\S+/\*\*/\*' takes those of its folders") as caught:
        find_sources(tmp_path)
    assert find_sources(str(caught.value).split("'")[1]) == [ImageFiles((image,))]


def test_what_is_named_twice_is_taken_once(tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", [(8, 8)] * 3)
    entries = [photos[1], tmp_path / "photos", str(tmp_path / "photos" / "*.png")]
    assert find_sources(entries) == [ImageFiles((photos[1], photos[0], photos[2]))]
    video = write_video(tmp_path / "v.avi", 1)
    assert find_sources([video, str(tmp_path / "*.avi")]) == [VideoSource(str(video))]


def test_overlays_of_an_earlier_run_are_no_source(tmp_path: Path) -> None:
    photos = write_images(tmp_path, [(8, 8)] * 2)
    drawn = write_images(tmp_path / "overlays", [(8, 8)] * 2)
    assert find_sources(str(tmp_path / "**" / "*.png"), output=tmp_path) == [ImageFiles(tuple(photos))]
    assert find_sources(tmp_path / "overlays", output=tmp_path / "out") == [ImageFiles(tuple(drawn))]
    with pytest.raises(FileNotFoundError, match="found only the overlays of an earlier run"):
        find_sources(tmp_path / "overlays", output=tmp_path)
    with pytest.raises(ValueError, match=r"0\.png is where the overlays of this run go; give another"):
        find_sources([drawn[0]], output=tmp_path)


def test_overlay_videos_of_an_earlier_run_are_no_source(tmp_path: Path) -> None:
    for name in ("mouse.avi", "overlay.mp4", "mouse/overlay.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = [VideoSource(str(tmp_path / "mouse.avi"))]
    assert find_sources(tmp_path, output=tmp_path) == expected
    assert find_sources(str(tmp_path / "**" / "*"), output=tmp_path) == expected


def test_a_link_to_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    paths = write_images(tmp_path, [(8, 8)] * 2)
    gone = tmp_path / "1b.jpg"
    gone.symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "nowhere.txt")
    (source,) = find_sources(tmp_path)
    assert source == ImageFiles((*paths, gone))
    assert [item.problem is None for item in source.items(0, 3)] == [True, True, False]


def test_a_name_of_other_bytes_than_text_is_named(tmp_path: Path) -> None:
    (path,) = write_images(tmp_path, [(8, 8)])
    try:
        bad = path.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    images = ImageFiles((bad,))
    (item,) = images.items(0, 3)
    assert item.image is None
    assert str(item.problem).endswith("caf\\udce9.png; rename the file or its folder")
    assert len(images.identity()) == 64
    with pytest.raises(ValueError, match="expected a name in UTF-8"):
        VideoSource(str(bad.rename(bad.with_suffix(".avi")))).count()


def test_several_videos_have_folders_of_their_own() -> None:
    videos = [VideoSource(name) for name in ("a/m.avi", "b/m.avi", "m_2.avi")]
    assert video_folders(videos[:1], Path("out")) == [Path("out")]
    expected = [Path("out") / name for name in ("m", "m_2", "m_2_2")]
    assert video_folders(videos, Path("out")) == expected


def test_identity_changes_with_size_time_and_paths(tmp_path: Path) -> None:
    paths = write_images(tmp_path, [(8, 8)] * 2)
    seen = {ImageFiles(tuple(paths)).identity(), ImageFiles(tuple(paths[::-1])).identity()}
    assert ImageFiles(tuple(paths)).identity() in seen
    seen.add(ImageFiles((paths[0],)).identity())
    os.utime(paths[0], ns=(5, 5))
    seen.add(ImageFiles(tuple(paths)).identity())
    paths[0].write_bytes(b"other")
    os.utime(paths[0], ns=(5, 5))
    seen.add(ImageFiles(tuple(paths)).identity())
    assert len(seen) == 5


@pytest.mark.parametrize("start", [0, 4])
def test_images_come_in_order_from_any_start(start: int, tmp_path: Path) -> None:
    paths = write_images(tmp_path, [(8, 8 + index) for index in range(7)])
    paths[5].unlink()
    items = list(ImageFiles(tuple(paths)).items(start, 1))
    assert [item.index for item in items] == list(range(start, 7))
    widths = [None if item.image is None else item.image.shape for item in items]
    assert widths == [None if index == 5 else (8, 8 + index, 1) for index in range(start, 7)]
    assert "5.png" in str(items[5 - start].problem)


def test_frames_come_from_any_start_up_to_the_most(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", 6)
    source = VideoSource(str(video), 5)
    assert source.count() == 5
    items = list(source.items(2, 3))
    assert [(item.index, item.time_s) for item in items] == [(2, 0.1), (3, 0.15), (4, 0.2)]
    assert all(item.image is not None and item.image.shape == (32, 48, 3) for item in items)
    assert list(source.items(5, 3)) == []
    assert VideoSource(str(video)).count() == 6
