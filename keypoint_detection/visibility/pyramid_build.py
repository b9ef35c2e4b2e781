"""Build the files of a pyramid image by image, and go on where a build was cut short.

The files of a build carry the key of what it is made of in their names, so that a pyramid that others read is
never written to. The manifest comes last: without it there is no pyramid.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import ImageLoader
from keypoint_detection.files import write_json
from keypoint_detection.visibility.pyramid_layout import FORMAT, PyramidLayout, sizes_hw, write_manifest
from keypoint_detection.visibility.pyramid_levels import average_blocks, average_depth, log_depth
from keypoint_detection.visibility.scenes import Scene, load_depth

SIZE_ADVICE = "give the size that the file has"

BYTES_BETWEEN_RECORDS = 64_000_000
"""A build that is cut short loses so much of its work at most."""


def planned_layout(
    image_paths: Sequence[str | Path],
    image_names: Sequence[str],
    image_hw: NDArray[np.integer] | Sequence[Sequence[int]],
    depth_by_image: Sequence[str | Path | None] | None,
    factors: Sequence[int],
) -> tuple[PyramidLayout, list[Path]]:
    """Return the layout of a pyramid to be built, and the files of its depth maps.

    Images that name the same depth file share a map.

    Raises:
        FileNotFoundError: An image or a depth map is missing.
        ValueError: The lists differ in length, a name repeats, or sizes or factors are none.
    """
    sizes = sizes_hw(image_hw)
    depths: list[Path | None] = [None] * len(image_paths)
    if depth_by_image is not None:
        depths = [None if path is None else Path(path) for path in depth_by_image]
    _check_inputs(image_paths, image_names, sizes, depths, factors)
    maps, depth_of_image = _shared_maps(depths)
    depth_hw = _map_sizes(sizes, depth_of_image, len(maps), image_paths)
    states = [_state(Path(path)) for path in (*image_paths, *maps)]
    source = [FORMAT, list(factors), list(image_names), sizes.tolist(), depth_of_image.tolist(), states]
    source.append(depth_by_image is not None)
    layout = PyramidLayout(
        factors=tuple(int(factor) for factor in factors),
        image_names=tuple(image_names),
        image_hw=sizes,
        depth_of_image=depth_of_image,
        depth_hw=depth_hw,
        has_depth=depth_by_image is not None,
        source_key=hashlib.sha256(json.dumps(source).encode()).hexdigest()[:16],
    )
    return layout, maps


def _shared_maps(depths: Sequence[Path | None]) -> tuple[list[Path], NDArray[np.int64]]:
    """Return the depth maps without repetition, and the index of each image's, -1 for none."""
    maps = list(dict.fromkeys(path for path in depths if path is not None))
    index: dict[Path | None, int] = {path: number for number, path in enumerate(maps)}
    return maps, np.array([index.get(path, -1) for path in depths], dtype=np.int64)


def _map_sizes(
    sizes: NDArray[np.int64],
    depth_of_image: NDArray[np.int64],
    n_maps: int,
    image_paths: Sequence[str | Path],
) -> NDArray[np.int64]:
    """Return the size of each depth map: that of its images, which is one."""
    with_map = np.flatnonzero(depth_of_image >= 0)
    depth_hw = np.zeros((n_maps, 2), np.int64)
    depth_hw[depth_of_image[with_map]] = sizes[with_map]
    unlike = with_map[(depth_hw[depth_of_image[with_map]] != sizes[with_map]).any(axis=1)]
    if len(unlike):
        wanted = _size(depth_hw[depth_of_image[unlike[0]]])
        raise ValueError(
            f"{image_paths[unlike[0]]}: expected {wanted} pixels as another image of the same depth map, got "
            f"{_size(sizes[unlike[0]])}; give it a depth map of its own"
        )
    return depth_hw


def write_pyramid(
    folder: Path,
    layout: PyramidLayout,
    image_paths: Sequence[str | Path],
    depth_paths: Sequence[Path],
    on_image: Callable[[int, int], None] | None = None,
    *,
    before_replacing: Callable[[], None] | None = None,
    size_advice: str = SIZE_ADVICE,
) -> None:
    """Write the levels of every image and depth map, then the manifest, and remove what older builds left.

    Args:
        folder: Made if need be.
        layout: Of `planned_layout`.
        image_paths: One per image.
        depth_paths: One per depth map.
        on_image: Called with the number of pictures that are done, and of all, images and depth maps alike.
        before_replacing: Called before the manifest is written.
        size_advice: How to mend a picture of another size.

    Raises:
        ValueError: A picture has another size than said, or the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = _done(folder, layout)
    _check_room(folder, layout, done)
    n_pictures = len(image_paths) + len(depth_paths)
    with ExitStack() as stack:
        handles = [stack.enter_context(_Level(folder, layout, level)) for level in range(len(layout.factors))]
        unrecorded = 0
        for picture in range(done, n_pictures):
            for level, planes in enumerate(_planes(layout, picture, image_paths, depth_paths, size_advice)):
                handles[level].write(picture, planes)
                unrecorded += planes.nbytes
            if unrecorded >= BYTES_BETWEEN_RECORDS:
                _sync(handles)
                write_json(layout.progress_path(folder), {"pictures_done": picture + 1})
                unrecorded = 0
            if on_image is not None:
                on_image(picture + 1, n_pictures)
        _sync(handles)
    if before_replacing is not None:
        before_replacing()
    write_manifest(folder, layout)
    _remove_others(folder, layout)


class _Level:
    """Write to places of the file of one level; written pages are not memory of this process."""

    def __init__(self, folder: Path, layout: PyramidLayout, level: int) -> None:
        self._handle = os.open(layout.level_path(folder, level), os.O_RDWR | os.O_CREAT, 0o666)
        self._places = layout.places(level)
        os.ftruncate(self._handle, int(self._places[-1]))

    def __enter__(self) -> "_Level":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def write(self, picture: int, planes: NDArray[np.uint8]) -> None:
        """Write images and depth maps by their number, the depth maps after the images."""
        content, place = np.ascontiguousarray(planes).data.cast("B"), int(self._places[picture])
        while len(content):
            written = os.pwrite(self._handle, content, place)
            content, place = content[written:], place + written

    def sync(self) -> None:
        """Wait until the disk has it all."""
        os.fsync(self._handle)


def _planes(
    layout: PyramidLayout,
    picture: int,
    image_paths: Sequence[str | Path],
    depth_paths: Sequence[Path],
    size_advice: str,
) -> Iterator[NDArray[np.uint8]]:
    """Yield one picture at every level: `[3, h, w]` of an image, `[h, w]` of a depth map."""
    if picture < len(image_paths):
        image = ImageLoader()(image_paths[picture])
        _check_hw(image_paths[picture], image, layout.image_hw[picture], size_advice)
        for factor in layout.factors:
            yield average_blocks(image, factor).transpose(2, 0, 1)
        return
    path = depth_paths[picture - len(image_paths)]
    depth_m = load_depth(Scene(path.name, path.stem, path, path, None, None))
    _check_hw(path, depth_m, layout.depth_hw[picture - len(image_paths)], size_advice)
    ln_depth, is_there = log_depth(depth_m)
    for factor in layout.factors:
        yield average_depth(ln_depth, is_there, factor)


def _check_inputs(
    paths: Sequence[Any],
    names: Sequence[str],
    sizes: NDArray[np.int64],
    depths: Sequence[Any],
    factors: Sequence[int],
) -> None:
    lengths = {"paths": len(paths), "names": len(names), "sizes": len(sizes), "depth maps": len(depths)}
    if not paths or len(set(lengths.values())) > 1:
        raise ValueError(f"expected as many of each, and one or more, got {lengths}")
    if len(set(names)) < len(names):
        raise ValueError(
            f"expected names without repetition, got {max(names, key=list(names).count)!r} twice"
        )
    if sizes.min() < 1:
        raise ValueError(f"expected heights and widths of 1 pixel or more, got {sizes.min()}")
    if not factors or list(factors) != sorted(set(factors)) or min(factors) < 1:
        raise ValueError(f"expected rising demagnifications of 1 or more, got {list(factors)}")


def _state(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"expected a picture, found nothing at {path}; check the path") from None
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


def _size(hw: Any) -> str:
    return f"{hw[0]}x{hw[1]}"


def _check_hw(path: str | Path, picture: NDArray[Any], hw: NDArray[np.int64], advice: str) -> None:
    if picture.shape[:2] != tuple(hw.tolist()):
        raise ValueError(
            f"{path}: expected {_size(hw)} pixels (height x width), got {_size(picture.shape)}; {advice}"
        )


def _done(folder: Path, layout: PyramidLayout) -> int:
    """Return how many pictures an earlier build has finished; levels must be there in full size."""
    try:
        sizes = [layout.level_path(folder, level).stat().st_size for level in range(len(layout.factors))]
        if sizes != [layout.n_bytes(level) for level in range(len(layout.factors))]:
            return 0
        return int(json.loads(layout.progress_path(folder).read_text(encoding="utf-8"))["pictures_done"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0


def _check_room(folder: Path, layout: PyramidLayout, done: int) -> None:
    needed = sum(int(np.diff(layout.places(level))[done:].sum()) for level in range(len(layout.factors)))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder}: expected room for {needed / 1e9:.2f} GB of pre-scaled images, got {free / 1e9:.2f} "
            "GB; make room, or choose another folder"
        )


def _sync(handles: Sequence[_Level]) -> None:
    for handle in handles:
        handle.sync()


def _remove_others(folder: Path, layout: PyramidLayout) -> None:
    own = {layout.level_path(folder, level) for level in range(len(layout.factors))}
    for path in folder.glob("pyramid-*"):
        if path not in own:
            path.unlink(missing_ok=True)
