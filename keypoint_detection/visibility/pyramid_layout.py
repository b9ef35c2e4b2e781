"""The files of a pyramid: one per level, with every picture at a place that follows from the sizes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.files import write_json

MANIFEST = "pyramid.json"
FORMAT = "keypoint-detection pyramid 1"
COLORS = 3


@dataclass(frozen=True, eq=False)
class PyramidLayout:
    """Say what a pyramid holds.

    A file holds the images of one level after one another as planes `[3, h, w]`, then the depth maps
    `[h, w]`, all uint8.

    Attributes:
        factors: Demagnification of each level, rising.
        image_names: One per image.
        image_hw: Height and width of the images in pixels, int64 `[i, 2]`.
        depth_of_image: Index of each image's depth map, -1 for none, int64 `[i]`.
        depth_hw: Height and width of the depth maps, int64 `[m, 2]`.
        has_depth: Patches have depth as a fourth channel, also where an image has none.
        source_key: Tells what the files were made of.
    """

    factors: tuple[int, ...]
    image_names: tuple[str, ...]
    image_hw: NDArray[np.int64]
    depth_of_image: NDArray[np.int64]
    depth_hw: NDArray[np.int64]
    has_depth: bool
    source_key: str

    def level_hw(self, level: int) -> NDArray[np.int64]:
        """Return height and width of the images of a level, `[i, 2]`."""
        return -(-self.image_hw // self.factors[level])

    def level_depth_hw(self, level: int) -> NDArray[np.int64]:
        """Return height and width of the depth maps of a level, `[m, 2]`."""
        return -(-self.depth_hw // self.factors[level])

    def places(self, level: int) -> NDArray[np.int64]:
        """Return where images, then depth maps begin in the file of a level, and its end, `[i + m + 1]`."""
        image_bytes = COLORS * self.level_hw(level).prod(axis=1)
        sizes = np.concatenate([image_bytes, self.level_depth_hw(level).prod(axis=1)])
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def n_bytes(self, level: int) -> int:
        """Return the size of the file of a level."""
        return int(self.places(level)[-1])

    def level_path(self, folder: Path, level: int) -> Path:
        """Return the file of a level; those of other sources have other names, and are not touched."""
        return folder / f"pyramid-{self.source_key}-x{self.factors[level]}.bin"

    def progress_path(self, folder: Path) -> Path:
        """Return the file that says how far a build has come."""
        return folder / f"pyramid-{self.source_key}-progress.json"


def write_manifest(folder: Path, layout: PyramidLayout) -> None:
    """Write what makes the files of a folder a pyramid, atomically: the last step of building it."""
    images = zip(layout.image_names, layout.image_hw.tolist(), layout.depth_of_image.tolist(), strict=True)
    content = {
        "format": FORMAT,
        "source_key": layout.source_key,
        "factors": list(layout.factors),
        "has_depth": layout.has_depth,
        "images": [
            {"name": name, "height": height, "width": width, "depth_map": depth_map}
            for name, (height, width), depth_map in images
        ],
        "depth_maps": [{"height": height, "width": width} for height, width in layout.depth_hw.tolist()],
    }
    write_json(folder / MANIFEST, content)


def read_manifest(folder: Path) -> PyramidLayout:
    """Return the layout of a whole pyramid.

    Raises:
        FileNotFoundError: There is none, or its building was not finished.
        ValueError: The manifest is none, or a file has not the size that it says.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"expected a pyramid, found no {MANIFEST} in {folder}; build it first, or again if that "
            "was cut short"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}; build the pyramid again") from None
    layout = _layout(content, path)
    for level in range(len(layout.factors)):
        _check_size(layout.level_path(folder, level), layout.n_bytes(level))
    return layout


def sizes_hw(sizes: Sequence[Sequence[int]] | NDArray[Any]) -> NDArray[np.int64]:
    """Return heights and widths as int64 `[n, 2]`, also for none."""
    return np.asarray(sizes, dtype=np.int64).reshape(-1, 2)


def _layout(content: Any, path: Path) -> PyramidLayout:
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise ValueError(f"{path}: expected format {FORMAT!r}, got {found!r}; build the pyramid again")
    try:
        images, maps = content["images"], content["depth_maps"]
        return PyramidLayout(
            factors=tuple(int(factor) for factor in content["factors"]),
            image_names=tuple(str(image["name"]) for image in images),
            image_hw=sizes_hw([(image["height"], image["width"]) for image in images]),
            depth_of_image=np.array([image["depth_map"] for image in images], dtype=np.int64),
            depth_hw=sizes_hw([(depth["height"], depth["width"]) for depth in maps]),
            has_depth=bool(content["has_depth"]),
            source_key=str(content["source_key"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a manifest of a pyramid, got {error!r}; build it again") from None


def _check_size(path: Path, n_bytes: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != n_bytes:
        got = "no such file" if found is None else f"{found} bytes"
        raise ValueError(f"{path}: expected {n_bytes} bytes, got {got}; build the pyramid again")
