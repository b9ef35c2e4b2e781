"""Small drawn people and the configuration of a training of a second, for the tests of what is trained."""

from pathlib import Path

from keypoint_detection.gaze.synthetic import make_gaze_scenes
from keypoint_detection.gaze.train_config import GazeTrainConfig

IMAGE_HW = (72, 96)

TINY = {
    "preset": "light",
    "image_size": "64x64",
    "grid": [4, 4],
    "head_grid": [2, 2],
    "width": 16,
    "map_size": "16x16",
    "decoder_width": 8,
    "multipliers": [1, 2],
    "attention_strides": [2],
    "n_timesteps": 50,
    "sampling_steps": 5,
    "sigma_px": 1.5,
    "batch_size": 4,
    "max_epochs": 2,
    "num_workers": 0,
    "accelerator": "cpu",
    "validation_split_ratio": 0.3,
    "evaluate": False,
    "seed": 1,
}


def draw_people(folder: Path, n_images: int = 12) -> Path:
    """Draw scenes and return the table of the people in them."""
    return make_gaze_scenes(folder, n_images, image_hw=IMAGE_HW, seed=3, annotators=2)


def tiny_config(data: Path, root: Path, **values: object) -> GazeTrainConfig:
    """Return the configuration of a training of a second."""
    given = {"data": str(data), "default_root_dir": str(root), **TINY, **values}
    return GazeTrainConfig(**given)  # pyright: ignore[reportArgumentType]
