import sys
from pathlib import Path

import numpy as np
import pytest
from video_files import HW, FakeCamera, picture, write_opencv_video

from keypoint_detection.data import video_opencv
from keypoint_detection.data.video import Frame, VideoFrames


@pytest.fixture(autouse=True)
def _without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)


def frames_of(path: Path | str, start: int = 0) -> list[Frame]:
    with VideoFrames(path, start=start) as frames:
        return list(frames)


@pytest.mark.parametrize("level", [0, 90])
def test_opencv_that_converts_nothing_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """As with interlaced video: OpenCV says that all is well, and returns what its memory happens to hold."""
    path = write_opencv_video(tmp_path / "a.mp4", 3)
    held = iter([level, 2 * level])

    class Unwritten(FakeCamera):
        def __init__(self, *_: object) -> None:
            super().__init__(8)
            self.image = np.full((*HW, 3), next(held), np.uint8)

        def set(self, *_: object) -> None:
            """Take any property."""

        def read(self) -> tuple[bool, np.ndarray]:
            return True, self.image

    monkeypatch.setattr(video_opencv.cv2, "VideoCapture", Unwritten)
    with pytest.raises(
        ValueError, match=r"unwritten memory from \S+a\.mp4 .*\[video\]' to read it with PyAV$"
    ):
        VideoFrames(path)


def test_a_still_video_is_no_failure(tmp_path: Path) -> None:
    path = write_opencv_video(tmp_path / "a.mp4", 8, draw=lambda _: picture(3))
    assert len(frames_of(path)) == 8


def test_black_at_the_beginning_is_no_failure(tmp_path: Path) -> None:
    def fade_in(index: int) -> np.ndarray:
        return np.zeros((*HW, 3), np.uint8) if index < 12 else picture(index)

    given = frames_of(write_opencv_video(tmp_path / "a.mp4", 20, draw=fade_in))
    assert len(given) == 20
    assert given[0].image.max() < 10
    assert given[19].image.max() > 100


def test_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = {2: FakeCamera(4, fps=0.0)}
    clock = iter([10.0, 10.25, 10.5, 11.5, 12.0, 12.5])
    monkeypatch.setattr(video_opencv.cv2, "VideoCapture", cameras.__getitem__)
    monkeypatch.setattr(video_opencv.time, "monotonic", lambda: next(clock))
    with VideoFrames("camera:2") as frames:
        assert frames.image_hw == HW
        assert frames.n_frames is None
        assert not frames.exact_times
        assert frames.fps == 25.0
        given = list(frames)
        assert list(frames) == []
    assert cameras[2].released
    assert [frame[:2] for frame in given] == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 1.5)]
    for frame in given:
        assert np.array_equal(frame.image, picture(frame.index))


def test_camera_from_a_later_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_opencv.cv2, "VideoCapture", lambda _: FakeCamera(5))
    assert [frame.index for frame in frames_of("camera:0", 3)] == [3, 4]


def test_a_camera_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeCamera(0)
    monkeypatch.setattr(video_opencv.cv2, "VideoCapture", lambda _: camera)
    with pytest.raises(ValueError, match=r"^expected a camera, camera:3 gives no frame; check its number"):
        VideoFrames("camera:3")
    assert camera.released
