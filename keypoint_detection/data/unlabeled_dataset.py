"""Images without labels, from a file, a folder, a glob or a list, in the network's frame."""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from keypoint_detection.data.coco_dataset_images import channels_first, stack_images
from keypoint_detection.data.imageloader import ImageLoader
from keypoint_detection.geometry import identity_affine, invert, letterbox_affine, warp_image

IMAGE_SUFFIXES = frozenset(
    (
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
    )
) | {".webp"}
"""What counts as an image in a folder or a glob, in lower case."""


class UnlabeledBatch(TypedDict):
    """Hold n images to predict on; the keys mean what they mean in `coco_dataset.Batch`.

    Attributes:
        image: uint8 `[n, c_in, h, w]`.
        to_image: float32 `[n, 2, 3]`.
        image_hw: int64 `[n, 2]`.
        input_hw: int64 `[n, 2]`.
        path: Where each image came from, empty for an array.
    """

    image: Tensor
    to_image: Tensor
    image_hw: Tensor
    input_hw: Tensor
    path: list[str]


class UnlabeledKeypointsDataset(Dataset[dict[str, Any]]):
    """Give the images of a source in natural order (`frame2` before `frame10`)."""

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        image_size: tuple[int, int] | None = None,
        n_channels_in: int = 3,
    ) -> None:
        """Find the files.

        Args:
            source: An image, a folder, a glob such as `"frames/**/*.png"`, or a list of images (kept in its
                order).
            image_size: Height and width in pixels to letterbox to; None keeps each image's own size.
            n_channels_in: 1 for grey, 3 for RGB; any other number must be that of the files.

        Raises:
            FileNotFoundError: There is nothing at the source, or no image in it.
        """
        self.paths = find_images(source)
        self.image_size = image_size
        self._loader = ImageLoader(n_channels_in)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample, see `prepare_image`; an unreadable image raises the loader's one-line error."""
        path = self.paths[index]
        return prepare_image(self._loader(path), self.image_size, str(path))


def prepare_image(
    image: NDArray[np.uint8], image_size: tuple[int, int] | None, path: str = ""
) -> dict[str, Any]:
    """Return a sample: the keys of `UnlabeledBatch` without its first axis, as NumPy arrays and plain values.

    Args:
        image: `[h, w, c]`, uint8.
        image_size: Height and width in pixels to letterbox to; None keeps the image's own size.
        path: Where the image came from.
    """
    image_hw = (image.shape[0], image.shape[1])
    input_hw = image_size or image_hw
    to_input = identity_affine() if image_size is None else letterbox_affine(image_hw, input_hw)
    return {
        "image": channels_first(warp_image(image, to_input, input_hw)),
        "to_image": invert(to_input).astype(np.float32),
        "image_hw": image_hw,
        "input_hw": input_hw,
        "path": path,
    }


def collate_unlabeled(samples: Sequence[Mapping[str, Any]]) -> UnlabeledBatch:
    """Return a batch of samples; smaller images are padded at the right and the bottom."""
    return UnlabeledBatch(
        image=stack_images([sample["image"] for sample in samples]),
        to_image=torch.from_numpy(np.stack([sample["to_image"] for sample in samples])),
        image_hw=torch.tensor([sample["image_hw"] for sample in samples]),
        input_hw=torch.tensor([sample["input_hw"] for sample in samples]),
        path=[sample["path"] for sample in samples],
    )


def find_images(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the images of a source, see `UnlabeledKeypointsDataset`."""
    if not isinstance(source, str | Path):
        return _existing([Path(path) for path in source])
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = list(path.iterdir())
    elif glob.has_magic(str(source)):
        found = [Path(name) for name in glob.glob(str(source), recursive=True)]
    else:
        raise FileNotFoundError(f"expected an image, a folder or a glob, found nothing at {source}")
    images = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
    if not images:
        raise FileNotFoundError(
            f"expected images (such as .png or .jpg) in {source}, found none among {len(found)} entries"
        )
    return sorted(images, key=natural_order)


def _existing(paths: list[Path]) -> list[Path]:
    if not paths:
        raise FileNotFoundError("expected a list of images, got an empty list")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"expected {len(paths)} images, {len(missing)} are missing, first {missing[0]}"
        )
    return paths


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a key by which numbers in a path sort as numbers."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]
