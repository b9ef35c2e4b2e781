from pathlib import Path

import numpy as np
import pytest

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.visibility.patch_benchmark import PlainPatches, draw_noise, patch_rows, random_points
from keypoint_detection.visibility.pyramid import build_pyramid, crop_patches

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_the_row_names_both_ways() -> None:
    (row,) = patch_rows(2, (90, 130), 70, 2, 1)
    assert row.name == "1000 patches x 5 levels, 2 workers | plain"
    assert row.seconds > 0
    assert row.reference_seconds is not None
    assert "patches/s (wanted >= 5000), plain" in row.note


def test_the_plain_way_gives_the_same_patches(tmp_path: Path) -> None:
    size = (96, 160)  # whole blocks: the plain way darkens those that the border cuts
    paths, depth_path = draw_noise(tmp_path, 2, size)
    pyramid = build_pyramid(tmp_path / "pyramid", paths, [size] * 2, [depth_path] * 2)
    table = random_points(pyramid.image_names, size, 5)
    plain = PlainPatches(table, [load_image(path) for path in paths], np.load(depth_path))
    for index in range(len(plain)):
        patch, label = plain[index]
        ours = crop_patches(pyramid, table.image[[index]], table.xy[[index]])[0]
        assert label == table.label[index]
        difference = np.abs(patch.numpy() * 255 - ours)
        assert difference[np.arange(20) % 4 < 3].max() <= 0.51
        assert difference[3::4].max() <= 1.6  # the code of depth begins at 1
