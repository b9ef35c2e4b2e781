from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keypoint_detection.browse_thumbnails import make_thumbnails


def test_thumbnails_are_small_copies(tmp_path: Path) -> None:
    picture = np.zeros((50, 200, 3), np.uint8)
    picture[:, 100:] = 255
    assert cv2.imwrite(str(tmp_path / "wide.png"), picture)
    wide, small = (
        make_thumbnails([tmp_path / "wide.png"] * 2, 64)[0],
        make_thumbnails([tmp_path / "wide.png"], 512)[0],
    )
    assert (wide.image_hw, wide.problem) == ((50, 200), "")
    decoded = cv2.imdecode(np.frombuffer(wide.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    assert decoded.shape == (16, 64)
    assert decoded[:, :24].max() < 30
    assert decoded[:, 40:].min() > 225
    enlarged = cv2.imdecode(np.frombuffer(small.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert enlarged is not None
    assert enlarged.shape == (50, 200)


def test_threads_leave_the_log_of_opencv_as_it_was(tmp_path: Path) -> None:
    log: Any = getattr(cv2.utils, "logging", cv2)
    for index in range(40):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((60, 60, 3), np.uint8))
    log.setLogLevel(3)  # warnings, as OpenCV starts
    assert len(make_thumbnails(sorted(tmp_path.glob("*.png")), 32)) == 40
    assert log.getLogLevel() == 3
