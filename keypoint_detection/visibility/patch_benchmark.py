"""Time batches of patches against the plain way, patch by patch from full images, in one run."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from keypoint_detection.benchmark import Row
from keypoint_detection.data.datamodule_loaders import limit_threads
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.visibility.patches import make_patch_loader
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.pyramid import FACTORS, PATCH_PX, build_pyramid
from keypoint_detection.visibility.pyramid_levels import log_depth

IMAGE_HW, N_IMAGES, BATCH_SIZE, WORKERS = (4140, 6198), 4, 64, 2


def patch_rows(
    n_images: int = N_IMAGES,
    image_hw: tuple[int, int] = IMAGE_HW,
    n_points: int = 4096,
    n_plain: int = 32,
    epochs: int = 4,
) -> Iterator[Row]:
    """Yield every row; about a minute on two cores, and 0.6 GB of temporary files.

    Args:
        n_images: Images of noise, with one depth map.
        image_hw: Their height and width in pixels.
        n_points: Points of an epoch, anywhere in the images.
        n_plain: How many of them the plain way gets; with all it would take minutes.
        epochs: Passes that are timed, after one that warms up; the best one counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths, depth_path = draw_noise(Path(folder), n_images, image_hw)
        sizes = [image_hw] * n_images
        pyramid = build_pyramid(Path(folder) / "pyramid", paths, sizes, [depth_path] * n_images)
        table = random_points(pyramid.image_names, image_hw, n_points)
        images = [load_image(path) for path in paths]
        plain = PlainPatches(table.select(np.arange(n_plain)), images, np.load(depth_path))
        reference = DataLoader(
            plain,
            max(n_plain // (2 * WORKERS), 1),  # few points: small batches, so that no worker is idle
            shuffle=True,
            num_workers=WORKERS,
            persistent_workers=True,
            worker_init_fn=limit_threads,
        )
        ours = make_patch_loader(table, pyramid, BATCH_SIZE, shuffle_seed=0, num_workers=WORKERS)
        yield _timed(ours, reference, epochs)


def draw_noise(folder: Path, n_images: int, image_hw: tuple[int, int]) -> tuple[list[Path], Path]:
    """Write images of noise that are quick to read, and a depth map; return their paths."""
    rng = np.random.default_rng(0)
    paths = [folder / f"image_{number}.bmp" for number in range(n_images)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8))
    np.save(folder / "depth.npy", rng.uniform(10, 1e4, image_hw).astype(np.float32))
    return paths, folder / "depth.npy"


def random_points(names: Sequence[str], image_hw: tuple[int, int], n_points: int) -> PointTable:
    """Return points anywhere in images of one size, of both classes."""
    rng = np.random.default_rng(1)
    height, width = image_hw
    return PointTable(
        image_names=tuple(names),
        views=("noise",) * len(names),
        image_hw=np.full((len(names), 2), image_hw, np.int64),
        image=rng.integers(0, len(names), n_points),
        xy=rng.uniform(-0.5, [width - 0.5, height - 0.5], (n_points, 2)),
        depth_m=np.full(n_points, np.nan),
        label=rng.integers(0, 2, n_points).astype(np.uint8),
    )


class PlainPatches(Dataset[tuple[Tensor, float]]):
    """Give the patches of one point: each cropped from the full image, resized, and made float.

    The images are decoded and in memory already, which is kind to this way.
    """

    def __init__(
        self, table: PointTable, images: Sequence[NDArray[np.uint8]], depth_m: NDArray[np.floating]
    ) -> None:
        self._table, self._images, self._ln_depth = table, images, log_depth(depth_m)[0]

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        """Return `[levels * 4, 128, 128]` in 0 to 1, and the label."""
        image, xy = self._images[self._table.image[index]], self._table.xy[index]
        levels = []
        for factor in FACTORS:
            color = cropped(image, xy, factor).astype(np.float32) / 255
            depth = cropped(self._ln_depth, xy, factor) / np.log(1e5, dtype=np.float32)
            levels += [color.transpose(2, 0, 1), depth[None]]
        return torch.from_numpy(np.concatenate(levels)), float(self._table.label[index])


def cropped(picture: NDArray[Any], xy: NDArray[np.float64], factor: int) -> NDArray[Any]:
    """Return a patch of a full image, resized by averaging; zeros outside."""
    side = PATCH_PX * factor
    left, top = (np.floor((xy + 0.5) / factor).astype(int) * factor - side // 2).tolist()
    height, width = picture.shape[:2]
    before, after = (max(-top, 0), max(-left, 0)), (max(top + side - height, 0), max(left + side - width, 0))
    part = picture[max(top, 0) : top + side, max(left, 0) : left + side]
    part = cv2.copyMakeBorder(part, before[0], after[0], before[1], after[1], cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(part, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA)


def seconds_per_patch(loader: Iterable[Any]) -> float:
    """Return the time of one pass per point."""
    start, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch["patch"] if isinstance(batch, dict) else batch[0])
    return (time.perf_counter() - start) / count


def _timed(ours: DataLoader, reference: DataLoader, epochs: int) -> Row:
    for loader in (ours, reference):
        seconds_per_patch(loader)
    # Taking turns, so that other work on the machine meets both alike.
    turns = [(seconds_per_patch(ours), seconds_per_patch(reference)) for _ in range(epochs)]
    best, plain = (min(times) for times in zip(*turns, strict=True))
    note = (
        f"{1 / best:.0f} patches/s (wanted >= 5000), plain {1 / plain:.0f}: full images in memory, cv2.resize"
    )
    name = f"1000 patches x {len(FACTORS)} levels, {WORKERS} workers | plain"
    return Row(name, 1000 * best, 1000 * plain, "", note)
