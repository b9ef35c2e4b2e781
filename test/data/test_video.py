import gc
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from video_files import (
    HW,
    dark,
    picture,
    turned,
    write_opencv_video,
    write_video,
)

from keypoint_detection.data import video_pyav
from keypoint_detection.data.video import VIDEO_SUFFIXES, Frame, VideoFrames, camera_number, is_video

UNEVEN_MS = [0, 33, 40, 120, 121, 300, 317, 350, 400, 480, 481, 600, 640, 700, 733, 800, 871, 900, 1000, 1040]


@pytest.fixture(params=["pyav", "opencv"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each of the two readers."""
    if request.param == "pyav":
        pytest.importorskip("av", reason="the extra video is not installed")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    return request.param


@pytest.fixture
def without_av(monkeypatch: pytest.MonkeyPatch):
    """Return a function that hides PyAV from then on."""
    return lambda: monkeypatch.setitem(sys.modules, "av", None)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of variable frame rate with B-frames, a fresh start every 6 frames, and few bits."""
    path = tmp_path_factory.mktemp("video") / "uneven.mp4"
    return write_video(path, UNEVEN_MS, bf="3", g="6", b_strategy="0")


def frames_of(path: Path | str, start: int = 0, n_channels: int = 3) -> list[Frame]:
    with VideoFrames(path, start=start, n_channels=n_channels) as frames:
        return list(frames)


def resident_bytes() -> int:
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def assert_same(a: list[Frame], b: list[Frame]) -> None:
    assert [frame[:2] for frame in a] == [frame[:2] for frame in b]
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one.image, other.image), one.index


def test_videos_are_known_by_their_suffix() -> None:
    assert is_video("a/b.MP4")
    assert is_video(Path("x.webm"))
    assert not is_video("mp4")
    assert not is_video("a.mp4/frame.png")
    assert {".mp4", ".avi", ".mov", ".mkv"} <= VIDEO_SUFFIXES


@pytest.mark.parametrize(
    ("source", "number"), [("camera:0", 0), ("camera:12", 12), ("a.mp4", None), ("my camera:0", None)]
)
def test_camera_number(source: str, number: int | None) -> None:
    assert camera_number(source) == number


@pytest.mark.parametrize("source", ["camera:x", "camera:", "camera:-1", "camera:1.5", "camera:²"])
def test_a_camera_needs_a_whole_number(source: str) -> None:
    with pytest.raises(ValueError, match=f"expected a camera such as camera:0, got {source}; ") as error:
        camera_number(source)
    assert "\n" not in str(error.value)


def test_times_are_the_presentation_times_of_the_file(uneven: Path) -> None:
    with VideoFrames(uneven) as frames:
        given = list(frames)
        assert frames.exact_times
        assert frames.n_frames == 20
        assert frames.image_hw == HW
    assert [frame.index for frame in given] == list(range(20))
    assert [frame.time_s for frame in given] == [time_ms / 1000 for time_ms in UNEVEN_MS]


def test_times_start_at_the_first_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mkv", [500, 540, 600])
    assert [frame.time_s for frame in frames_of(path)] == [0.0, 0.04, 0.1]


def test_avi_without_presentation_times_still_moves_on(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", range(0, 800, 40), "mpeg4", bf="2")
    times = [frame.time_s for frame in frames_of(path)]
    assert len(times) == 20
    assert np.diff(times).min() > 0
    for start in (1, 18, 19):
        assert [frame.time_s for frame in frames_of(path, start)] == times[start:]


def test_the_pictures_are_those_that_were_encoded(tmp_path: Path, reader: str) -> None:
    given = frames_of(write_opencv_video(tmp_path / "a.mp4", 12))
    assert len(given) == 12
    for frame in given:
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - picture(frame.index)).mean() < 6  # other pictures: > 40
        assert frame.time_s == pytest.approx(frame.index / 25)
    assert np.abs(given[0].image.astype(int) - picture(1)).mean() > 30


def test_both_readers_give_the_same_pixels_and_times(uneven: Path, without_av) -> None:
    exact = frames_of(uneven)
    without_av()
    with VideoFrames(uneven) as frames:
        assert not frames.exact_times
        plain = list(frames)
        assert frames.n_frames == 20
    assert len(plain) == len(exact)
    for one, other in zip(exact, plain, strict=True):
        assert np.abs(one.image.astype(int) - other.image).max() <= 2
        assert one.time_s == pytest.approx(other.time_s, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"bf": "3", "g": "7", "b_strategy": "0"}),
        ("open_gop.mp4", "libx264", {"bf": "3", "g": "7", "b_strategy": "0", "x264_params": "open-gop=1"}),
        ("b_frames.mkv", "libx264", {"bf": "2", "g": "5", "b_strategy": "0"}),
        ("transport.ts", "libx264", {"bf": "2", "g": "5"}),
        ("refresh.mp4", "libx264", {"x264_params": "keyint=8:scenecut=0:intra-refresh=1"}),
        ("hidden_frames.webm", "libvpx", {"auto_alt_ref": "1", "lag_in_frames": "8", "g": "9"}),
        ("intra.avi", "mjpeg", {}),
        ("part2.avi", "mpeg4", {"bf": "2", "g": "6"}),
    ],
)
def test_a_later_start_changes_no_pixel(
    tmp_path: Path, reader: str, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, range(0, 24 * 40, 40), codec, **options)
    whole = frames_of(path)
    assert len(whole) == 24
    for start in range(1, 25, 1 if reader == "pyav" else 5):
        with VideoFrames(path, start=start) as frames:
            assert_same(list(islice(frames, 3)), whole[start : start + 3])


def test_interlaced_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", range(0, 800, 40), g="5", bf="2", flags="+ildct+ilme")
    whole = frames_of(path)
    for frame in whole:
        assert np.abs(frame.image.astype(int) - picture(frame.index)).mean() < 8
        assert_same(frames_of(path, frame.index)[:1], [frame])


def test_a_late_start_is_reached_by_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", range(0, 60 * 40, 40), x264_params="keyint=10:scenecut=0")
    decoded: list[int] = []
    decode = video_pyav.PyAVFile._decode

    def counted(*args: object):
        for item in decode(*args):
            decoded.append(item[0])
            yield item

    with VideoFrames(path, start=47) as frames:
        monkeypatch.setattr(video_pyav.PyAVFile, "_decode", counted)
        assert next(iter(frames)).index == 47
    assert decoded == list(range(40, 48))  # the key frames are 0, 10, 20, ...


def test_a_seek_that_leads_elsewhere_is_made_up_for(uneven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = frames_of(uneven)
    monkeypatch.setattr(video_pyav, "entry_times", lambda *_: [1, 2, 3])  # no frame is shown at these times
    assert_same(frames_of(uneven, 14), whole[14:])


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_stand_as_they_were_filmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degrees: int
) -> None:
    plain = write_video(tmp_path / "a.mp4", range(0, 400, 40))
    upright = [np.rot90(frame.image, -degrees // 90) for frame in frames_of(plain)]
    for hidden in (False, True):
        if hidden:
            monkeypatch.setitem(sys.modules, "av", None)
        with VideoFrames(turned(plain, degrees)) as frames:
            assert frames.image_hw == (HW if degrees == 180 else HW[::-1])
            for frame, expected in zip(frames, upright, strict=True):
                assert frame.image.flags.c_contiguous
                assert np.abs(frame.image.astype(int) - expected).max() <= 2


def test_a_quarter_turn_goes_clockwise(tmp_path: Path) -> None:
    def lit_top_left(index: int, hw: tuple[int, int]) -> np.ndarray:
        image = dark(index, hw)
        image[:16, :16] = 220
        return image

    path = turned(write_video(tmp_path / "a.mp4", [0, 40], draw=lit_top_left), 90)
    image = frames_of(path)[0].image  # the top left corner is the top right one now
    assert image[:12, -12:].min() > 180
    assert image[:12, :12].max() < 80


def test_grey(tmp_path: Path, reader: str) -> None:
    path = write_opencv_video(tmp_path / "a.mp4", 3)
    colour, grey = frames_of(path), frames_of(path, n_channels=1)
    for one, other in zip(colour, grey, strict=True):
        assert other.image.shape == (*HW, 1)
        assert np.abs(one.image @ [0.299, 0.587, 0.114] - other.image[..., 0]).max() <= 1


def test_a_file_is_read_anew_each_time_until_it_is_closed(tmp_path: Path, reader: str) -> None:
    frames = VideoFrames(write_opencv_video(tmp_path / "a.mp4", 5))
    assert_same(list(frames), list(frames))
    reading = iter(frames)
    assert next(reading).index == 0
    frames.close()
    assert list(reading) == []


def test_a_start_after_the_end_gives_nothing(tmp_path: Path, reader: str, caplog) -> None:
    path = write_opencv_video(tmp_path / "a.mp4", 5)
    assert frames_of(path, 5) == []
    assert frames_of(path, 500) == []
    assert not caplog.records


@pytest.mark.parametrize(("start", "n_channels"), [(-1, 3), (0, 4), (0, 0)])
def test_arguments_out_of_range(start: int, n_channels: int) -> None:
    with pytest.raises(ValueError, match=r"^expected start >= 0 and 1 or 3 channels for a\.mp4, got"):
        VideoFrames("a.mp4", start=start, n_channels=n_channels)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_flat(tmp_path: Path, reader: str) -> None:
    path = write_opencv_video(tmp_path / "a.mp4", 300)
    with VideoFrames(path) as frames:
        for frame in frames:
            if frame.index == 50:
                before = resident_bytes()
    # 250 frames of 64x48 would be 2.3 MB as RGB alone; larger pages of the allocator come and go.
    assert resident_bytes() - before < 1_500_000
