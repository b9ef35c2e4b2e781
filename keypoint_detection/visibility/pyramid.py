"""Pre-scaled images as memory-mapped files, and patches cropped from them around points.

Level f holds averages of f x f pixels: pixel `x_f` of it is centred at `x = (x_f + 0.5) * f - 0.5`. A patch
is cropped around the pixel of the level that the point lies in, `floor((x + 0.5) / f)`, which is patch pixel
`patch_px // 2`; outside the image it is 0. Only the pages that a patch touches are read, and they belong to
the system's cache of files, so that a set of any size is used in flat memory.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keypoint_detection.visibility.pyramid_build import SIZE_ADVICE, planned_layout, write_pyramid
from keypoint_detection.visibility.pyramid_layout import COLORS, MANIFEST, PyramidLayout, read_manifest

FACTORS = (2, 4, 8, 16, 32)
PATCH_PX = 128


class PatchSource(Protocol):
    """Hold images at several scales, as `crop_patches` reads them: a `Pyramid`, or one in memory."""

    @property
    def factors(self) -> tuple[int, ...]:
        """Return the demagnification of each level, finest first."""
        ...

    @property
    def n_channels(self) -> int:
        """Return the channels of a patch per level, 3 or 4."""
        ...

    @property
    def n_images(self) -> int:
        """Return the number of images."""
        ...

    def level_hw(self, level: int) -> NDArray[np.int64]:
        """Return height and width of all images at a level, `[i, 2]`."""
        ...

    def color(self, level: int, image: int) -> NDArray[np.uint8]:
        """Return an image at a level, `[3, h, w]`."""
        ...

    def depth(self, level: int, image: int) -> NDArray[np.uint8] | None:
        """Return the log depth of an image at a level, `[1, h, w]`, or None without one."""
        ...


class Pyramid:
    """Read the levels of images and depth maps.

    Attributes:
        folder: Where the files are.
        factors: Demagnification of each level, finest first.
        n_channels: Channels of a patch per level: red, green, blue, and log depth where there are depth maps.
        image_names: One per image.
        image_hw: Height and width of the full images in pixels, `[i, 2]`.
    """

    def __init__(self, folder: Path, layout: PyramidLayout) -> None:
        """Map the files of a whole pyramid, see `open_pyramid`."""
        self.folder, self._layout = folder, layout
        self.factors, self.image_names, self.image_hw = layout.factors, layout.image_names, layout.image_hw
        self.n_channels = COLORS + layout.has_depth
        levels = range(len(self.factors))
        # Slices of a plain array are made several times as quickly as those of a memmap.
        self._bytes = [
            np.asarray(np.memmap(layout.level_path(folder, level), np.uint8, mode="r")) for level in levels
        ]
        self._places = [layout.places(level) for level in levels]
        self._level_hw = [layout.level_hw(level) for level in levels]

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes as a folder, not as bytes."""
        return Pyramid, (self.folder, self._layout)

    @property
    def n_images(self) -> int:
        """Return the number of images."""
        return len(self.image_names)

    @property
    def n_bytes(self) -> int:
        """Return the size of all levels in bytes."""
        return sum(len(level) for level in self._bytes)

    def level_hw(self, level: int) -> NDArray[np.int64]:
        """Return height and width of all images at a level, `[i, 2]`."""
        return self._level_hw[level]

    def color(self, level: int, image: int) -> NDArray[np.uint8]:
        """Return a view of an image at a level, `[3, h, w]`, read-only."""
        start, stop = self._places[level][image : image + 2]
        return self._bytes[level][start:stop].reshape(COLORS, *self._level_hw[level][image])

    def depth(self, level: int, image: int) -> NDArray[np.uint8] | None:
        """Return a view of the log depth of an image at a level, `[1, h, w]`, or None without one."""
        depth_map = int(self._layout.depth_of_image[image])
        if depth_map < 0:
            return None
        start, stop = self._places[level][self.n_images + depth_map :][:2]
        return self._bytes[level][start:stop].reshape(1, *self._level_hw[level][image])


def build_pyramid(
    folder: str | Path,
    image_paths: Sequence[str | Path],
    image_hw: NDArray[np.integer] | Sequence[Sequence[int]],
    depth_by_image: Sequence[str | Path | None] | None = None,
    factors: Sequence[int] = FACTORS,
    *,
    image_names: Sequence[str] | None = None,
    on_image: Callable[[int, int], None] | None = None,
    before_replacing: Callable[[], None] | None = None,
    size_advice: str = SIZE_ADVICE,
) -> Pyramid:
    """Write pre-scaled images, one image in memory at a time, and open them.

    What is there already and made of the same files is used again, and a build that was cut short is gone on
    with. An older pyramid of the folder stays as it is until the new one is whole.

    Args:
        folder: Made if need be.
        image_paths: One per image.
        image_hw: Height and width of each in pixels, `[i, 2]`.
        depth_by_image: Depth map (`.npy`, metres, see `scenes`) of each image or None; images that name the
            same file share it. None makes a pyramid without depth.
        factors: Demagnifications, rising.
        image_names: One per image, as in the table of points; None takes the paths.
        on_image: Called with the number of pictures that are done, and of all, images and depth maps alike.
        before_replacing: Called when all is written, right before it takes the place of an older pyramid.
        size_advice: How to mend a file of another size than said.

    Raises:
        FileNotFoundError: An image or a depth map is missing.
        ValueError: A file is damaged or has another size than said, the lists do not fit together, or the
            disk has no room.
    """
    folder = Path(folder)
    names = [str(path) for path in image_paths] if image_names is None else list(image_names)
    layout, depth_paths = planned_layout(image_paths, names, image_hw, depth_by_image, factors)
    if not _is_built(folder, layout):
        write_pyramid(
            folder,
            layout,
            image_paths,
            depth_paths,
            on_image,
            before_replacing=before_replacing,
            size_advice=size_advice,
        )
    return open_pyramid(folder)


def open_pyramid(folder: str | Path) -> Pyramid:
    """Open a pyramid that `build_pyramid` has finished.

    Raises:
        FileNotFoundError: There is none, or its building was not finished.
        ValueError: Its files are not what its manifest says.
    """
    return Pyramid(Path(folder), read_manifest(Path(folder)))


def _is_built(folder: Path, layout: PyramidLayout) -> bool:
    try:
        return read_manifest(folder).source_key == layout.source_key
    except FileNotFoundError:
        return False
    except ValueError:  # damaged, and it must not describe files that are being written anew
        (folder / MANIFEST).unlink(missing_ok=True)
        return False


def crop_patches(
    pyramid: PatchSource,
    image: ArrayLike,
    xy: ArrayLike,
    patch_px: int = PATCH_PX,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Crop patches around points at every level.

    Args:
        pyramid: The images.
        image: Index of each point's image `[n]`, or one index for all.
        xy: Original-image pixels `[n, 2]`, finite.
        patch_px: Side of the patches in pixels of the level.
        out: Where to write, `[n, levels * channels, patch_px, patch_px]`; None makes a new array.

    Returns:
        uint8 `[n, levels * channels, patch_px, patch_px]`, finest level first; 0 outside the image.

    Raises:
        ValueError: A point is not finite, an image is not there, or `out` has another shape.
    """
    xy = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    image = np.broadcast_to(np.asarray(image, dtype=np.int64), len(xy))
    shape = (len(xy), len(pyramid.factors) * pyramid.n_channels, patch_px, patch_px)
    out = np.empty(shape, np.uint8) if out is None else out
    _check_crop(pyramid, image, xy, out, shape)
    channels = pyramid.n_channels
    for level, factor in enumerate(pyramid.factors):
        hw = pyramid.level_hw(level)[image]
        # Far away is as good as just outside, and fits an integer.
        first = np.clip(np.floor((xy[:, ::-1] + 0.5) / factor) - patch_px // 2, -patch_px, hw).astype(
            np.int64
        )
        start, stop = np.clip(first, 0, hw), np.clip(first + patch_px, 0, hw)
        windows = np.concatenate([start, stop, start - first], axis=1).tolist()
        _copy_windows(
            pyramid, level, image.tolist(), windows, out[:, level * channels : (level + 1) * channels]
        )
    return out


def _copy_windows(
    pyramid: PatchSource, level: int, image: list[int], windows: list[list[int]], out: NDArray[np.uint8]
) -> None:
    """Copy a window of each image: plain slices, as quick as the memory is."""
    height, width = out.shape[2:]
    for target, number, (top, left, bottom, right, to_top, to_left) in zip(out, image, windows, strict=True):
        depth = pyramid.depth(level, number)
        part = target
        if bottom - top < height or right - left < width or (depth is None and len(target) > COLORS):
            target[...] = 0
            part = target[:, to_top : to_top + bottom - top, to_left : to_left + right - left]
        part[:COLORS] = pyramid.color(level, number)[:, top:bottom, left:right]
        if depth is not None:
            part[COLORS:] = depth[:, top:bottom, left:right]


def _check_crop(
    pyramid: PatchSource,
    image: NDArray[np.int64],
    xy: NDArray[np.float64],
    out: NDArray[Any],
    shape: tuple[int, ...],
) -> None:
    if not np.isfinite(xy).all():
        bad = int(np.flatnonzero(~np.isfinite(xy).all(axis=1))[0])
        raise ValueError(f"expected finite points, got {xy[bad].tolist()} at index {bad}; leave it out")
    if len(image) and (image.min() < 0 or image.max() >= pyramid.n_images):
        raise ValueError(
            f"expected images from 0 to {pyramid.n_images - 1}, got {image.min()} to {image.max()}"
        )
    if out.shape != shape or out.dtype != np.uint8:
        raise ValueError(f"expected out of shape {shape} and uint8, got {out.shape} and {out.dtype}")
