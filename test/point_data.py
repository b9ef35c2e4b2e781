"""A small data set of points on drawn terrain, for the tests of what is trained on it."""

from pathlib import Path

from keypoint_detection.visibility.make_dataset import make_dataset
from keypoint_detection.visibility.synthetic import make_terrain
from keypoint_detection.visibility.train_config import VisibilityTrainConfig

FACTORS = (1, 2)
N_VIEWS, IMAGES_PER_VIEW, POINTS_PER_IMAGE = 4, 2, 60


def make_points(folder: Path, *, depth_channel: bool = True) -> Path:
    """Draw four views of two images each, and return the folder of their points."""
    scenes = folder / "scenes"
    make_terrain(scenes, n_views=N_VIEWS, images_per_view=IMAGES_PER_VIEW, image_hw=(96, 128), seed=3)
    make_dataset(
        scenes,
        folder / "points",
        points_per_image=POINTS_PER_IMAGE,
        border_px=4,
        factors=FACTORS,
        seed=0,
        depth_channel=depth_channel,
    )
    return folder / "points"


def tiny_config(data: Path, root: Path, **values: object) -> VisibilityTrainConfig:
    """Return the configuration of a training of a second."""
    settings = {
        "data": str(data),
        "default_root_dir": str(root),
        "patch_px": 8,
        "size_hidden": 4,
        "batch_size": 32,
        "max_epochs": 2,
        "num_workers": 0,
        "accelerator": "cpu",
        "seed": 1,
    }
    return VisibilityTrainConfig(**{**settings, **values})  # pyright: ignore[reportArgumentType]
