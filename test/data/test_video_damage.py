import logging
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import HW, av, packets_of, write_video

from keypoint_detection.data.video import Frame, VideoFrames
from keypoint_detection.data.video_pyav import PyAVFile


@pytest.fixture(params=["pyav", "opencv"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each of the two readers."""
    if request.param == "pyav":
        pytest.importorskip("av", reason="the extra video is not installed")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    return request.param


def frames_of(path: Path) -> list[Frame]:
    with VideoFrames(path) as frames:
        return list(frames)


def damaged(path: Path, frame: int) -> Path:
    """Copy a file of one packet per frame with noise in the whole of one packet."""
    packets = packets_of(path)
    content = path.read_bytes()
    place = content.index(packets[frame])
    noise = np.random.default_rng(0).bytes(len(packets[frame]))
    copy = path.with_name(f"damaged{path.suffix}")
    copy.write_bytes(content[:place] + noise + content[place + len(noise) :])
    return copy


def assert_same(a: list[Frame], b: list[Frame]) -> None:
    assert [frame[:2] for frame in a] == [frame[:2] for frame in b]
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one.image, other.image), one.index


def test_damage_ends_the_frames_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_video(tmp_path / "whole.mkv", range(0, 1600, 40), bf="0")
    good = frames_of(whole)
    path = damaged(whole, 25)
    given = []
    with (
        VideoFrames(path) as frames,
        pytest.raises(ValueError, match=r"^frame 25 of \S+damaged\.mkv cannot be decoded .*[^\n]$"),
    ):
        given.extend(frames)
    assert_same(given, good[:25])
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(frames_of(path)) == 25


@pytest.mark.parametrize("packet", [1, 2, 5, 6, 7, 8, 17, 18, 19])
def test_everything_in_front_of_damage_comes_out(tmp_path: Path, packet: int) -> None:
    whole = write_video(tmp_path / "whole.mkv", range(0, 800, 40), bf="3", preset="veryslow")
    assert av is not None
    with av.open(str(whole)) as container:
        places = [int(entry.pts or 0) // 40 for entry in container.demux(video=0) if entry.size]
    assert places[:5] != sorted(places[:5])  # stored in another order than shown
    n_frames = min(places[packet:])  # all that is shown before is stored before the damage
    good, given = frames_of(whole), []
    with (
        VideoFrames(damaged(whole, packet)) as frames,
        pytest.raises(ValueError, match=rf"^frame {n_frames} of \S+ cannot be decoded"),
    ):
        given.extend(frames)
    assert_same(given, good[:n_frames])


@pytest.mark.parametrize("start", [0, 12, 15])
def test_threads_that_lose_a_frame_to_damage(
    tmp_path: Path, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_video(tmp_path / "whole.avi", range(0, 800, 40), "mjpeg")
    good, given, decode = frames_of(whole), [], PyAVFile._decode

    def lose(self: PyAVFile, container: Any, stream: Any, index: int) -> Iterator[Any]:
        held = []  # as PyAV 17: what is ready when the error comes is dropped with it
        for item in decode(self, container, stream, index):
            yield from held
            held = [item]
            if stream.codec_context.thread_count == 1:
                yield held.pop()
        yield from held

    monkeypatch.setattr(PyAVFile, "_decode", lose)
    with (
        VideoFrames(damaged(whole, 15), start=start) as frames,
        pytest.raises(ValueError, match=r"^frame 15 of .* cannot be decoded"),
    ):
        given.extend(frames)
    assert_same(given, good[start:15])


def test_a_file_cut_short_ends_with_a_line_in_the_log(
    tmp_path: Path, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_video(tmp_path / "whole.mkv", range(0, 1600, 40))
    frames_of(whole)
    assert not caplog.records
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with caplog.at_level(logging.WARNING, "keypoint_detection"):
        given = frames_of(cut)
    assert 5 < len(given) < 35
    assert_same(given, frames_of(whole)[: len(given)])
    assert [record.message.count("it may be cut or damaged") for record in caplog.records] == [1]
    assert "announces 1.6 s" in caplog.text


def test_what_is_no_video(tmp_path: Path, reader: str) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "empty.mp4").touch()
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    for name in ("text.mp4", "empty.mp4", "sound.mp4"):
        with pytest.raises(ValueError, match=f"^expected a video, .*{name}.*check that it plays$"):
            VideoFrames(tmp_path / name)


@pytest.mark.parametrize("name", ["missing.mp4", ""])
def test_a_missing_file(tmp_path: Path, reader: str, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"^expected a video file, found none at .*; check the path$"):
        VideoFrames(tmp_path / name)


def test_frames_of_two_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        write_video(tmp_path / f"{hw[0]}.h264", range(0, 400, 40), hw=hw, bf="0", tune="zerolatency")
        for hw in (HW, (32, 64))
    ]
    path = tmp_path / "two.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with (
        VideoFrames(path) as frames,
        pytest.raises(ValueError, match=r"^expected frames of 64x48 pixels .*, got 64x32 at frame 10 of"),
    ):
        list(frames)
    monkeypatch.setitem(sys.modules, "av", None)
    assert {frame.image.shape for frame in frames_of(path)} == {(*HW, 3)}  # OpenCV stretches them


@pytest.mark.parametrize("hidden", [False, True])
def test_nothing_is_printed_about_bad_files(tmp_path: Path, hidden: bool) -> None:
    whole = write_video(tmp_path / "whole.mkv", range(0, 800, 40), bf="0")
    (tmp_path / "text.mp4").write_text("no video")
    code = (
        "import logging, sys\n"
        f"sys.modules.update({{'av': None}} if {hidden} else {{}})\n"
        "logging.disable()\n"
        "from keypoint_detection.data.video import VideoFrames\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        list(VideoFrames(path))\n"
        "    except ValueError:\n"
        "        pass\n"
    )
    paths = [str(damaged(whole, 9)), str(tmp_path / "text.mp4"), "camera:98"]
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
