"""Sets much larger than the memory that is used for them."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.visibility.pyramid import FACTORS, crop_patches, open_pyramid
from keypoint_detection.visibility.pyramid_layout import PyramidLayout, write_manifest

MB = 1_000_000
ONLY_LINUX = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")


def own_memory_bytes() -> int:
    """Return the memory of this process without the pages of files, which the system takes back at will."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def sparse_set(folder: Path, n_images: int, image_hw: tuple[int, int]) -> PyramidLayout:
    """Write a pyramid of zeros that takes no room on the disk, but for one pixel per image."""
    layout = PyramidLayout(
        factors=FACTORS,
        image_names=tuple(f"{number}.jp2" for number in range(n_images)),
        image_hw=np.tile(image_hw, (n_images, 1)),
        depth_of_image=np.arange(n_images) % 9,
        depth_hw=np.tile(image_hw, (9, 1)),
        has_depth=True,
        source_key="sparse",
    )
    for level in range(len(FACTORS)):
        with layout.level_path(folder, level).open("wb") as file:
            file.truncate(layout.n_bytes(level))
            for image in range(n_images):  # its pixel (0, 0), red
                file.seek(int(layout.places(level)[image]))
                file.write(bytes([1 + image % 255]))
    write_manifest(folder, layout)
    return layout


@ONLY_LINUX
@pytest.mark.slow
def test_patches_of_13_gb_are_read_in_flat_memory(tmp_path: Path) -> None:
    layout = sparse_set(tmp_path, 512, (4140, 6198))
    pyramid = open_pyramid(tmp_path)
    assert pyramid.n_bytes == sum(layout.n_bytes(level) for level in range(5)) > 13e9
    assert sum(512 * path.stat().st_blocks for path in tmp_path.iterdir()) < 30 * MB
    rng = np.random.default_rng(0)
    out = np.zeros((32, 20, 128, 128), np.uint8)
    before = own_memory_bytes()
    for _ in range(16):
        crop_patches(pyramid, rng.integers(0, 512, 32), rng.uniform(0, [6197, 4139], (32, 2)), out=out)
    assert not out[:, ::4, :, 127].any()
    for image in (0, 254, 255, 511):
        patch = crop_patches(pyramid, image, [[0.0, 0.0]])[0]
        assert patch[::4, 64, 64].tolist() == [1 + image % 255] * 5
        assert np.count_nonzero(patch) == 5
    assert own_memory_bytes() - before < 20 * MB


BUILD = """
import resource, sys
from pathlib import Path
from keypoint_detection.visibility.pyramid import build_pyramid
folder, count, side = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
build_pyramid(folder / f"pyramid_{count}", [folder / "image.bmp"] * count, [(side, side)] * count,
              [folder / "depth.npy"] * count, image_names=[str(n) for n in range(count)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@ONLY_LINUX
@pytest.mark.slow
def test_a_pyramid_is_built_in_flat_memory(tmp_path: Path) -> None:
    side = 1001
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "image.bmp"), rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    np.save(tmp_path / "depth.npy", rng.uniform(1, 1e4, (side, side)).astype(np.float32))
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", BUILD, str(tmp_path), str(count), str(side)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for count in (2, 120)
    ]
    written = sum(path.stat().st_size for path in (tmp_path / "pyramid_120").iterdir())
    assert written > 110 * MB
    assert peaks[1] - peaks[0] < 12 * MB  # four images' worth; 120 hold 120
