import itertools
import logging
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from video_files import HW, dark, write_opencv_video, write_video

from keypoint_detection import overlay_video
from keypoint_detection.data.video import Frame, VideoFrames
from keypoint_detection.overlay_video import write_overlay_video
from keypoint_detection.records import Keypoint, Prediction

UNEVEN_MS = [0, 33, 40, 120, 121, 300, 317, 350, 400, 480, 481, 600, 640, 700, 733, 800, 871, 900, 1000, 1040]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a dark video of 20 frames at a variable frame rate."""
    return write_video(tmp_path / "source.mp4", UNEVEN_MS, draw=dark)


def prediction(
    *xy: tuple[float, float], score: float = 0.9, hw: tuple[int, int] = HW, second: float = 0.0
) -> Prediction:
    """Return a prediction of one channel per point; each has a second, worse point 9 px to the right."""
    channels = tuple((Keypoint(x, y, score), Keypoint(x + 9, y, second)) for x, y in xy)
    return Prediction(channels, tuple(f"point{index}" for index in range(len(xy))), hw)


def predictions(n: int, hw: tuple[int, int] = HW) -> list[Prediction]:
    return [prediction((20.3 + 0.7 * index, 24.6 - 0.2 * index), hw=hw) for index in range(n)]


def frames_of(path: Path) -> list[Frame]:
    with VideoFrames(path) as frames:
        return list(frames)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def centroid(image: np.ndarray) -> np.ndarray:
    """Return (x, y) of what differs from the dark background, weighted by how much."""
    weight = np.abs(image.astype(float) - np.median(image, axis=(0, 1))).sum(-1)
    weight[weight < 40] = 0
    y, x = np.indices(weight.shape)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def test_times_and_number_of_frames_are_those_of_the_source(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "overlay.mp4"
    assert write_overlay_video(source, predictions(20), output) == 20
    assert [frame.time_s for frame in frames_of(output)] == [time_ms / 1000 for time_ms in UNEVEN_MS]
    assert files(output.parent) == ["overlay.mp4"]


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".ts"])
def test_times_of_other_containers(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"source{suffix}", range(0, 20 * 40, 40), "mpeg4", draw=dark)
    write_overlay_video(path, predictions(20), tmp_path / "overlay.mp4")
    expected = [frame.time_s for frame in frames_of(path)]
    assert [frame.time_s for frame in frames_of(tmp_path / "overlay.mp4")] == expected


def test_the_format_is_what_every_player_shows(source: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra video is not installed")
    output = tmp_path / "overlay.mp4"
    write_overlay_video(source, predictions(20), output)
    content = output.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(output)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 64, 48)
        assert next(container.decode(video=0)).colorspace == 1  # BT.709


def test_a_point_is_where_it_was_predicted(source: Path, tmp_path: Path) -> None:
    given = predictions(20)
    write_overlay_video(source, given, tmp_path / "overlay.mp4", names=False)
    for frame, expected in zip(frames_of(tmp_path / "overlay.mp4"), given, strict=True):
        point = expected.keypoints[0][0]
        assert np.hypot(*(centroid(frame.image) - (point.x, point.y))) < 0.3


def test_colours_survive(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour = (200, 30, 60)
    monkeypatch.setattr(overlay_video, "draw_prediction", lambda image, *_, **__: np.full_like(image, colour))
    write_overlay_video(source, predictions(4), tmp_path / "overlay.mp4")
    for hidden in (False, True):
        if hidden:
            monkeypatch.setitem(sys.modules, "av", None)
        assert np.abs(frames_of(tmp_path / "overlay.mp4")[3].image - np.array(colour)).max() <= 6


def test_what_is_drawn(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, histories = [], []

    def draw_prediction(image, given, threshold, enlarge, *, skeleton, names):
        calls.append((given, threshold, enlarge, list(skeleton), names))
        return image

    def draw_trails(image, history, *, enlarge=1):
        histories.append(history)
        return image

    monkeypatch.setattr(overlay_video, "draw_prediction", draw_prediction)
    monkeypatch.setattr(overlay_video, "draw_trails", draw_trails)
    given = [
        prediction((float(index), 1.0), (5.0, 6.0), score=0.5 if index != 2 else 0.2) for index in range(5)
    ]
    options = {"skeleton": [(0, 1)], "confidence_threshold": 0.3, "trail_frames": 2, "names": False}
    write_overlay_video(source, given, tmp_path / "overlay.mp4", **options)
    assert calls == [(one, 0.3, 1, [(0, 1)], False) for one in given]
    assert [history.shape for history in histories] == [(1, 2, 2), (2, 2, 2), (3, 2, 2), (3, 2, 2), (3, 2, 2)]
    assert np.array_equal(histories[4][:, 0], [[np.nan] * 2, [3.0, 1.0], [4.0, 1.0]], equal_nan=True)
    assert np.array_equal(histories[4][1:, 1], [[5.0, 6.0]] * 2)


def test_a_trail_shows_the_way(source: Path, tmp_path: Path) -> None:
    given = [prediction((10.0 + 2 * index, 24.0)) for index in range(20)]
    for trail_frames in (0, 5):
        output = tmp_path / f"trail{trail_frames}.mp4"
        write_overlay_video(source, given, output, trail_frames=trail_frames, names=False)
    plain, trailed = (frames_of(tmp_path / f"trail{n}.mp4")[15].image.astype(int) for n in (0, 5))
    changed = np.abs(plain - trailed).sum(-1) > 60  # the point is at 40, the trail comes from 30
    assert changed[22:27, 31:35].any(0).all()
    assert not changed[:, :26].any()
    assert not changed[:, 48:].any()
    assert not changed[:15].any()


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.mkv", range(0, 200, 40), "mpeg4", hw=(47, 61), draw=dark)
    given = predictions(5, hw=(47, 61))
    assert write_overlay_video(path, given, tmp_path / "overlay.mp4", names=False) == 5
    frames = frames_of(tmp_path / "overlay.mp4")
    assert {frame.image.shape for frame in frames} == {(48, 62, 3)}
    point = given[4].keypoints[0][0]
    assert np.hypot(*(centroid(frames[4].image) - (point.x, point.y))) < 0.3
    assert np.abs(frames[0].image[-1].astype(int) - frames[0].image[-2]).max() <= 4


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    path = write_opencv_video(tmp_path / "source.mp4", 12, fps=20.0, draw=dark)
    monkeypatch.setitem(sys.modules, "av", None)
    given = predictions(12)
    with caplog.at_level(logging.WARNING, "keypoint_detection"):
        assert write_overlay_video(path, given, tmp_path / "overlay.mp4", names=False) == 12
    assert len(caplog.records) == 1
    assert "constant 20 frames per second; pip install 'keypoint-detection[video]'" in caplog.text
    frames = frames_of(tmp_path / "overlay.mp4")
    assert [frame.time_s for frame in frames] == pytest.approx([index / 20 for index in range(12)])
    point = given[7].keypoints[0][0]
    assert np.hypot(*(centroid(frames[7].image) - (point.x, point.y))) < 0.5


def test_the_overlay_ends_with_the_last_prediction(source: Path, tmp_path: Path) -> None:
    assert write_overlay_video(source, predictions(7), tmp_path / "overlay.mp4") == 7
    assert len(frames_of(tmp_path / "overlay.mp4")) == 7


def refuse(source: Path | str, given: object, output: Path, message: str) -> None:
    before = {path: path.read_bytes() for path in output.parent.iterdir()}
    with pytest.raises(ValueError, match=message) as error:
        write_overlay_video(source, given, output)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in output.parent.iterdir()} == before


def test_refusals_leave_everything_as_it_was(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "overlay.mp4"
    output.write_bytes(b"old")
    refuse(source, predictions(21), output, r"got more than the 20 frames of \S+source\.mp4; predict on")
    refuse(source, [], output, "expected a prediction for every frame of .* got none")
    refuse(source, predictions(3, hw=(64, 48)), output, "for 64x48 pixels, got 48x64 at frame 0 of")
    refuse(source, predictions(3), tmp_path / "overlay.avi", r"ends in \.mp4, got .*overlay\.avi; rename")
    refuse(source, predictions(3), source, "expected another file than the source, got .* for both")
    refuse("camera:0", predictions(3), output, "expected a video file to draw on, got camera:0")
    with pytest.raises(ValueError, match="expected trail_frames of 0"):
        write_overlay_video(source, predictions(3), output, trail_frames=-1)
    with pytest.raises(FileNotFoundError, match="expected a video file, found none"):
        write_overlay_video(tmp_path / "missing.mp4", predictions(3), output)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("stage", ["predict", "draw", "encode"])
def test_a_failure_on_the_way_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool, stage: str
) -> None:
    path = write_opencv_video(tmp_path / "source.mp4", 20, draw=dark)
    if hidden:
        monkeypatch.setitem(sys.modules, "av", None)

    def failing(*_: object, **__: object):
        raise KeyboardInterrupt

    def given():
        yield from predictions(12)
        failing()

    if stage == "draw":
        monkeypatch.setattr(overlay_video, "draw_prediction", failing)
    if stage == "encode":
        monkeypatch.setattr(overlay_video, "_padded_to_even", failing)
    n_threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        write_overlay_video(path, given(), tmp_path / "overlay.mp4")
    assert files(tmp_path) == ["source.mp4"]
    assert threading.active_count() == n_threads


def test_damage_in_the_source_is_named_and_leaves_no_file(source: Path, tmp_path: Path, monkeypatch) -> None:
    frames = frames_of(source)

    def broken(self):
        yield from frames[:9]
        raise ValueError("frame 9 of source.mp4 cannot be decoded")

    monkeypatch.setattr(VideoFrames, "_read", broken)
    assert write_overlay_video(source, predictions(9), tmp_path / "first.mp4") == 9
    with pytest.raises(ValueError, match=r"^frame 9 of source\.mp4 cannot be decoded"):
        write_overlay_video(source, predictions(10), tmp_path / "overlay.mp4")
    assert files(tmp_path) == ["first.mp4", "source.mp4"]


def test_few_frames_are_held_at_a_time(source: Path, tmp_path: Path, monkeypatch) -> None:
    """Predictions come from an iterator without end; reading is at most a few frames ahead of it."""
    read: list[int] = []
    frames = frames_of(source)

    def counted(self):
        for frame in itertools.chain(*[frames] * 6):
            read.append(frame.index)
            yield Frame(len(read) - 1, 0.04 * len(read), frame.image)

    monkeypatch.setattr(VideoFrames, "_read", counted)
    ahead: list[int] = []

    def given():
        for count, one in enumerate(itertools.islice(itertools.cycle(predictions(20)), 100)):
            ahead.append(len(read) - count)
            yield one

    assert write_overlay_video(source, given(), tmp_path / "overlay.mp4") == 100
    assert max(ahead) <= 5
