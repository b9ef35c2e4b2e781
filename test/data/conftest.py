"""Small COCO data sets, written where a test wants them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

NAMES = ["nose", "left_eye", "right_eye"]


class CocoFolder:
    """Write images and a COCO file into a folder.

    Args:
        folder: Where everything goes.
        names: Keypoint names of the one category.
    """

    def __init__(self, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.folder = folder
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "face", "keypoints": list(names)}],
        }

    def add(
        self, image: np.ndarray, instances: Sequence[Sequence[float]] = (), file_name: str = "", **fields: Any
    ) -> int:
        """Write an image (RGB or grey) with instances as COCO keypoint lists; return its id."""
        image_id = 10 + len(self.content["images"])
        file_name = file_name or f"images/{image_id}.png"
        path = self.folder / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
        self.content["images"].append(
            {"id": image_id, "file_name": file_name, "width": image.shape[1], "height": image.shape[0]}
        )
        for keypoints in instances:
            annotation = {"id": len(self.content["annotations"]), "image_id": image_id, "category_id": 1}
            self.content["annotations"].append({**annotation, "keypoints": list(keypoints), **fields})
        return image_id

    def write(self, name: str = "train.json") -> Path:
        """Write the COCO file and return its path."""
        path = self.folder / name
        path.write_text(json.dumps(self.content))
        return path


@pytest.fixture
def coco_folder(tmp_path: Path) -> CocoFolder:
    return CocoFolder(tmp_path)


def noise_image(image_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*image_hw, 3), dtype=np.uint8)


@pytest.fixture
def ten_images(coco_folder: CocoFolder) -> Path:
    """Return a COCO file of ten 40x48 noise images with one face each."""
    for index in range(10):
        face = [10 + index, 20, 2, 12.5, 10, 2, 22, 30.25, 1]
        coco_folder.add(noise_image((40, 48), index), [face], area=100.0, bbox=[1, 2, 30, 20])
    return coco_folder.write()
