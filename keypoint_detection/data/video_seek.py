"""Find where a video can be entered in the middle without changing a pixel of what follows.

A key frame alone proves nothing: pictures after it may lean on pictures before it, and a decoder may drop or
merge packets on the way. So a place counts only where the file itself shows that every packet is one frame
and that decoding starts afresh there; anything else is for the caller to decode from the beginning.
"""

from collections.abc import Iterator
from typing import Any

_INTRA_CODECS = frozenset({"mjpeg", "png", "prores", "rawvideo"})  # every packet is a picture of its own
_REORDERED_FRAMES = 32  # H.264 displays a picture at most 16 places from where it is stored
_H264_SLICES, _H264_IDR, _H264_PARAMETER_SETS = range(1, 6), 5, (7, 8)
_H264_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


def entry_times(container: Any, stream: Any, start: int) -> list[int]:
    """Read packets, without decoding, up to frame `start` and find the last entry at or before it.

    Proved for H.264 of whole frames in MP4, MOV and Matroska, whose parameters stand once in the header, and
    for codecs without references between frames.

    Args:
        container: An open PyAV container, at its beginning; it has to be sought or opened anew afterwards.
        stream: Its video stream.
        start: Index of a frame, counted from 0.

    Returns:
        The time stamps, in units of the stream, of the frame to enter at and of all frames up to frame
        `start`, which is last; empty where exactness cannot be proved or the entry is the beginning.
    """
    codec = stream.codec_context
    intra = codec.name in _INTRA_CODECS
    prefix_bytes = 0 if intra else _h264_prefix_bytes(codec.name, codec.extradata or b"")
    if not intra and not prefix_bytes:
        return []
    times: list[int] = []
    entries: list[int] = []
    for packet in container.demux(stream):
        if not packet.size or len(times) > start + _REORDERED_FRAMES:
            break
        types = [] if intra else _nal_types(bytes(packet), prefix_bytes)
        if packet.pts is None or packet.is_corrupt or packet.is_discard or _has_parameters(types):
            return []
        times.append(packet.pts)
        if intra or _starts_afresh(types):
            entries.append(packet.pts)
    return _times_from_entry(times, entries, start)


def _times_from_entry(times: list[int], entries: list[int], start: int) -> list[int]:
    ordered = sorted(times)
    one_frame_each = len(set(times)) == len(times) > start
    if not one_frame_each or not entries or not entries[0] == times[0] == ordered[0]:
        return []
    entry = max(time for time in entries if time <= ordered[start])
    return [] if entry == ordered[0] else ordered[ordered.index(entry) : start + 1]


def _has_parameters(types: list[int]) -> bool:
    return any(kind in _H264_PARAMETER_SETS for kind in types)


def _starts_afresh(types: list[int]) -> bool:
    """Tell an IDR picture, before which nothing is referred to, from a mere I picture."""
    slices = [kind for kind in types if kind in _H264_SLICES]
    return bool(slices) and all(kind == _H264_IDR for kind in slices)


def _nal_types(packet: bytes, prefix_bytes: int) -> list[int]:
    """Return the types of the units of an H.264 packet, each of which follows its length."""
    types, place = [], 0
    while place + prefix_bytes < len(packet):
        types.append(packet[place + prefix_bytes] & 0x1F)
        place += prefix_bytes + int.from_bytes(packet[place : place + prefix_bytes], "big")
    return types


def _h264_prefix_bytes(codec_name: str, header: bytes) -> int:
    """Return the bytes before each unit of an H.264 stream, 0 where a packet need not be a whole frame.

    Args:
        codec_name: FFmpeg's name of the codec.
        header: The decoder configuration record (ISO/IEC 14496-15, section 5.3.3).
    """
    if codec_name != "h264" or len(header) < 9 or header[0] != 1 or header[5] & 0x1F != 1:
        return 0
    n_bytes = int.from_bytes(header[6:8], "big")
    sequence = header[9 : 8 + n_bytes].replace(b"\0\0\3", b"\0\0")  # undo emulation prevention
    return (header[4] & 3) + 1 if _is_whole_frames(sequence) else 0


def _is_whole_frames(sequence: bytes) -> bool:
    """Read from a sequence parameter set (ITU-T H.264, section 7.3.2.1.1) that no frame is two fields."""
    bits = _bits(sequence)
    try:
        profile = _fixed(bits, 8)
        _fixed(bits, 16)
        _golomb(bits)
        if profile in _H264_HIGH_PROFILES:
            chroma, _, _ = _golomb(bits), _golomb(bits), _golomb(bits)
            _, has_matrices = _fixed(bits, 1), _fixed(bits, 1)
            if chroma == 3 or has_matrices:  # rare, and long to read
                return False
        _golomb(bits)
        order_type = _golomb(bits)
        if order_type == 1:
            return False
        if order_type == 0:
            _golomb(bits)
        _golomb(bits)
        has_gaps, _, _, whole = _fixed(bits, 1), _golomb(bits), _golomb(bits), _fixed(bits, 1)
    except StopIteration:
        return False
    return bool(whole) and not has_gaps


def _bits(content: bytes) -> Iterator[int]:
    return (byte >> shift & 1 for byte in content for shift in range(7, -1, -1))


def _fixed(bits: Iterator[int], count: int) -> int:
    value = 0
    for _ in range(count):
        value = 2 * value + next(bits)
    return value


def _golomb(bits: Iterator[int]) -> int:
    """Read an unsigned Exp-Golomb number: n zeros, a one, n more bits."""
    zeros = 0
    while not next(bits):
        zeros += 1
    return (1 << zeros) - 1 + _fixed(bits, zeros)
