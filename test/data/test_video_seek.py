from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import write_video

from keypoint_detection.data.video_seek import (
    _fixed,
    _golomb,
    _is_whole_frames,
    _nal_types,
    _times_from_entry,
    entry_times,
)

av = pytest.importorskip("av", reason="the extra video is not installed")
TIMES_MS = range(0, 40 * 40, 40)


def entries(path: Path, starts: Sequence[int]) -> list[list[int]]:
    """Return what `entry_times` finds for each start, in frames."""
    found = []
    for start in starts:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = entry_times(container, stream, start)
            found.append([round(time * stream.time_base / 0.04) for time in times])
    return found


def instant_refreshes(path: Path) -> list[int]:
    """Return the IDR frames by FFmpeg's own rewriting with start codes, for a file without B-frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rewrite = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream)
        packets = [bytes(out) for packet in container.demux(stream) for out in rewrite.filter(packet)]
    kinds = [{unit[0] & 31 for unit in packet.split(b"\0\0\1")[1:]} for packet in packets]
    return [index for index, kind in enumerate(kinds) if 5 in kind]


def test_the_last_fresh_start_is_taken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", TIMES_MS, x264_params="keyint=10:scenecut=0:bframes=2")
    assert entries(path, [0, 9, 10, 27, 39, 40]) == [
        [],  # from the beginning anyway
        [],
        [10],
        list(range(20, 28)),
        list(range(30, 40)),
        [],  # there is no such frame
    ]


def test_an_open_group_is_no_fresh_start(tmp_path: Path) -> None:
    options = "keyint=10:scenecut=0:bframes=2:b-adapt=0:open-gop=1"
    path = write_video(tmp_path / "a.mp4", TIMES_MS, x264_params=options)
    with av.open(str(path)) as container:
        n_keys = sum(frame.key_frame for frame in container.decode(video=0))
    assert n_keys > 2
    assert entries(path, range(0, 40, 5)) == [[]] * 8


def test_the_fresh_starts_are_those_of_ffmpeg(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", TIMES_MS, bf="0", g="13")  # every picture can be a change of scene
    expected = instant_refreshes(path)
    assert len(expected) > 2
    firsts = [times[0] for times in entries(path, range(40)) if times]
    assert sorted(set(firsts)) == expected[1:]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("fields.mp4", "libx264", {"g": "5", "flags": "+ildct+ilme"}),  # a frame may be two packets
        ("repeated.mp4", "libx264", {"x264_params": "keyint=5:repeat-headers=1"}),  # parameters may change
        (
            "refresh.mp4",
            "libx264",
            {"x264_params": "keyint=8:scenecut=0:intra-refresh=1"},
        ),  # no key frame in one piece
        ("transport.ts", "libx264", {"g": "5"}),
        ("hidden.webm", "libvpx", {"g": "5", "auto_alt_ref": "1", "lag_in_frames": "8"}),
    ],
)
def test_no_proof_no_entry(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = write_video(tmp_path / name, TIMES_MS, codec, **options)
    assert entries(path, [7, 22, 39]) == [[], [], []]


def test_a_picture_of_its_own_is_an_entry(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", TIMES_MS, "mjpeg")
    assert entries(path, [1, 17]) == [[1], [17]]


@pytest.mark.parametrize(
    ("times", "fresh", "start", "expected"),
    [
        ([0, 3, 1, 2, 4, 6, 5], [0, 4], 5, [4, 5]),
        ([0, 3, 1, 2, 4, 6, 5], [0, 4], 3, []),
        ([0, 3, 1, 2, 4, 6, 5], [0, 4], 7, []),
        ([0, 3, 1, 1, 4, 6, 5], [0, 4], 5, []),  # a time comes twice
        ([2, 0, 1, 3, 4, 5, 6], [2, 4], 5, []),  # frames before the first key frame are never shown
        ([0, 1, 2, 3, 4, 5, 6], [4], 5, []),
        ([0, 1, 2], [], 1, []),
    ],
)
def test_times_from_entry(times: list[int], fresh: list[int], start: int, expected: list[int]) -> None:
    assert _times_from_entry(times, fresh, start) == expected


def test_units_of_a_packet() -> None:
    packet = bytes([0, 0, 0, 2, 0x06, 9, 0, 0, 0, 1, 0x65, 0, 0, 0, 3, 0x41, 5, 5])
    assert _nal_types(packet, 4) == [6, 5, 1]
    assert _nal_types(b"", 4) == []
    assert _nal_types(bytes([1, 0x65, 1, 0x41]), 1) == [5, 1]


def test_numbers_of_table_9_2() -> None:
    codes = {"1": 0, "010": 1, "011": 2, "00100": 3, "00111": 6, "0001000": 7}
    for code, number in codes.items():
        bits = iter([int(bit) for bit in code + "1"])
        assert _golomb(bits) == number
        assert list(bits) == [1]
    assert _fixed(iter([1, 0, 1, 1]), 3) == 5


@given(st.binary(max_size=40))
def test_any_bytes_are_a_parameter_set_or_none(content: bytes) -> None:
    assert _is_whole_frames(content) in (True, False)
    assert not _is_whole_frames(content[:3])
