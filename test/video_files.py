"""Tiny videos for the tests, encoded on the spot, and what stands in for a camera."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

try:
    import av  # here, so that a test can hide it from the package afterwards
except ImportError:
    av = None

HW = (48, 64)


def picture(index: int, hw: tuple[int, int] = HW) -> NDArray[np.uint8]:
    """Return a smooth picture `[h, w, 3]` that is another one for every index."""
    coarse = np.random.default_rng(index).integers(40, 216, (4, 5, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def dark(index: int, hw: tuple[int, int] = HW) -> NDArray[np.uint8]:
    return np.full((*hw, 3), 30 + index % 7, np.uint8)


def write_video(
    path: Path,
    times_ms: Sequence[int],
    codec: str = "libx264",
    *,
    hw: tuple[int, int] = HW,
    draw: Any = picture,
    **options: str,
) -> Path:
    """Encode one picture per time with PyAV; options such as `bf` are the codec's (`_` for `-`)."""
    if av is None:
        pytest.skip("the extra video is not installed")
    tick = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        options = {name.replace("_", "-"): value for name, value in options.items()}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = hw
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = tick
        for index, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(draw(index, hw), format="rgb24")
            frame.pts, frame.time_base = time_ms, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packets_of(path: Path) -> list[bytes]:
    """Return the encoded frames of a file in the order in which they are stored."""
    assert av is not None
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def write_opencv_video(path: Path, n_frames: int, fps: float = 25.0, draw: Any = picture) -> Path:
    """Encode with OpenCV's MPEG-4, which needs no extra."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, HW[::-1])
    assert writer.isOpened()
    for index in range(n_frames):
        writer.write(np.ascontiguousarray(draw(index)[..., ::-1]))
    writer.release()
    return path


def turned(path: Path, degrees_clockwise: int) -> Path:
    """Copy an MP4 file with the display matrix of a turned camera in its track header (ISO/IEC 14496-12)."""
    one = 1 << 16
    cosine, sine = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees_clockwise]
    matrix = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    content = path.read_bytes()
    place = content.index(b"tkhd") + 4 + 40
    copy = path.with_name(f"{path.stem}_{degrees_clockwise}{path.suffix}")
    copy.write_bytes(content[:place] + matrix + content[place + len(matrix) :])
    return copy


class FakeCamera:
    """Stand in for `cv2.VideoCapture(N)`: gives BGR frames 0, 1, 2, ... and then no more."""

    def __init__(self, n_frames: int, fps: float = 30.0) -> None:
        self.n_frames, self.fps, self.given, self.released = n_frames, fps, 0, False

    def get(self, what: int) -> float:
        return self.fps if what == cv2.CAP_PROP_FPS else 0.0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        if self.given == self.n_frames:
            return False, None
        self.given += 1
        return True, np.ascontiguousarray(picture(self.given - 1)[..., ::-1])

    def release(self) -> None:
        self.released = True
