import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.patches import patches

from keypoint_detection.visibility.pyramid import FACTORS, Pyramid, build_pyramid, crop_patches, open_pyramid

SIZES = [(75, 101), (64, 96), (33, 32), (5, 7), (75, 101)]


def draw(folder: Path, sizes: list[tuple[int, int]], seed: int = 0) -> tuple[list[Path], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    for path, image in zip(paths, images, strict=True):
        assert cv2.imwrite(str(path), image[..., ::-1])
    return paths, images


def draw_depth(folder: Path, size: tuple[int, int], name: str) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(len(name))
    depth_m = np.exp(rng.uniform(-1, 12, size)).astype(np.float32)
    depth_m[: size[0] // 3] = np.nan
    np.save(folder / name, depth_m)
    return folder / name, depth_m


class Drawn:
    def __init__(self, folder: Path) -> None:
        self.paths, self.images = draw(folder, SIZES)
        (shared, shared_m), (own, own_m) = (draw_depth(folder, SIZES[i], f"{i}_depth.npy") for i in (0, 2))
        self.depths, self.depths_m = (
            [shared, None, own, None, shared],
            [shared_m, None, own_m, None, shared_m],
        )
        self.folder = folder / "pyramid"
        self.pyramid = build_pyramid(self.folder, self.paths, SIZES, self.depths)
        self.plain = build_pyramid(folder / "plain", self.paths, SIZES, None, (1, 3, 7))

    def expected(self, image: int, xy: tuple[float, float], patch_px: int) -> np.ndarray:
        depth_m = self.depths_m[image]
        none = np.full(SIZES[image], np.nan)
        return patches(self.images[image], none if depth_m is None else depth_m, xy, FACTORS, patch_px)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(tmp_path_factory.mktemp("drawn"))


def border_points(size: tuple[int, int]) -> list[tuple[float, float]]:
    height, width = size
    xs, ys = (-0.5, 0.0, width / 2, width - 1.0, width - 0.51), (-0.5, height / 3, height - 1.0)
    return [(x, y) for x in xs for y in ys]


@pytest.mark.parametrize("image", range(len(SIZES)))
def test_patches_equal_the_slow_reference_at_every_level_and_border(drawn: Drawn, image: int) -> None:
    points = border_points(SIZES[image])
    ours = crop_patches(drawn.pyramid, image, points, 16)
    assert ours.shape == (len(points), 20, 16, 16)
    assert ours.dtype == np.uint8
    for patch, xy in zip(ours, points, strict=True):
        assert np.abs(patch - drawn.expected(image, xy, 16)).max() <= 1


def test_full_size_patches_equal_the_slow_reference(tmp_path: Path) -> None:
    size = (203, 349)
    paths, images = draw(tmp_path, [size], seed=3)
    depth_path, depth_m = draw_depth(tmp_path, size, "depth.npy")
    pyramid = build_pyramid(tmp_path / "pyramid", paths, [size], [depth_path])
    xy = (10.3, 199.5)
    ours = crop_patches(pyramid, 0, [xy])[0]
    expected = patches(images[0], depth_m, xy, FACTORS, 128)
    assert ours.shape == expected.shape == (20, 128, 128)
    assert np.abs(ours - expected).max() <= 1
    assert np.count_nonzero(expected[16]) == 7 * 11


@given(
    image=st.integers(0, len(SIZES) - 1),
    x=st.floats(-40, 150),
    y=st.floats(-40, 150),
    patch_px=st.sampled_from([1, 2, 5, 8]),
)
def test_points_anywhere_equal_the_slow_reference(
    drawn: Drawn, image: int, x: float, y: float, patch_px: int
) -> None:
    ours = crop_patches(drawn.plain, [image], [[x, y]], patch_px)[0]
    expected = patches(drawn.images[image], None, (x, y), (1, 3, 7), patch_px)
    assert np.abs(ours - expected).max() <= 1


def test_patch_pixel_in_the_middle_holds_the_point(tmp_path: Path) -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[100, 60] = (12, 200, 88)  # RGB
    cv2.imwrite(str(tmp_path / "dot.png"), image[..., ::-1])
    pyramid = build_pyramid(tmp_path / "pyramid", [tmp_path / "dot.png"], [(256, 256)], None, (1, 2))
    patch = crop_patches(pyramid, 0, [[60.4, 99.6]])[0]
    assert patch[:3, 64, 64].tolist() == [12, 200, 88]
    assert patch[3:, 64, 64].tolist() == [3, 50, 22]  # a quarter of it
    assert np.count_nonzero(patch) == 6


def test_levels_and_names(drawn: Drawn) -> None:
    pyramid = drawn.pyramid
    assert (pyramid.factors, pyramid.n_channels, pyramid.n_images) == (FACTORS, 4, 5)
    assert pyramid.image_names == tuple(map(str, drawn.paths))
    assert pyramid.color(0, 0).shape == (3, 38, 51)
    assert pyramid.color(4, 3).shape == (3, 1, 1)
    assert pyramid.depth(1, 2).shape == (1, 9, 8)
    assert pyramid.depth(1, 1) is None
    assert np.shares_memory(pyramid.depth(0, 0), pyramid.depth(0, 4))
    assert not pyramid.color(0, 0).flags.writeable
    assert drawn.plain.n_channels == 3
    per_level = [3 * sum(-(-h // f) * -(-w // f) for h, w in SIZES) for f in (1, 3, 7)]
    assert drawn.plain.n_bytes == sum(per_level)


def test_out_is_written_in_whole(drawn: Drawn) -> None:
    out = np.full((2, 20, 8, 8), 77, np.uint8)
    ours = crop_patches(drawn.pyramid, [0, 3], [[50, 40], [1e300, -1e300]], 8, out)
    assert ours is out
    assert not out[1].any()
    assert np.array_equal(out, crop_patches(drawn.pyramid, [0, 3], [[50, 40], [500, -500]], 8))
    assert crop_patches(drawn.pyramid, [], np.empty((0, 2))).shape == (0, 20, 128, 128)


def test_it_goes_to_other_processes_as_a_folder(drawn: Drawn) -> None:
    content = pickle.dumps(drawn.pyramid)
    assert len(content) < 3000
    copy = pickle.loads(content)
    assert isinstance(copy, Pyramid)
    assert np.array_equal(crop_patches(copy, 1, [[9, 9]]), crop_patches(drawn.pyramid, 1, [[9, 9]]))


@pytest.mark.parametrize(
    ("image", "xy", "out", "message"),
    [
        ([0], [[np.nan, 1]], None, "expected finite points, got [nan, 1.0] at index 0"),
        ([5], [[1, 1]], None, "expected images from 0 to 4, got 5 to 5"),
        ([-1], [[1, 1]], None, "expected images from 0 to 4, got -1 to -1"),
        ([0], [[1, 1]], np.empty((1, 20, 8, 8), np.float32), "expected out of shape (1, 20, 8, 8) and uint8"),
    ],
)
def test_crop_errors(drawn: Drawn, image: list, xy: list, out: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        crop_patches(drawn.pyramid, image, xy, 8, out)


def test_opening_needs_a_whole_pyramid(drawn: Drawn, tmp_path: Path) -> None:
    assert open_pyramid(drawn.folder).image_names == drawn.pyramid.image_names
    with pytest.raises(FileNotFoundError, match=r"expected a pyramid, found no pyramid\.json in"):
        open_pyramid(tmp_path)
