"""From a GazeTrainConfig to the people that a training sees."""

from pathlib import Path

from keypoint_detection.gaze.augmentation import GazeAugmentation
from keypoint_detection.gaze.people import INSIDE, GazeTable, sample_frames
from keypoint_detection.gaze.people_data import GazeData, GazePart
from keypoint_detection.gaze.read_people import read_people
from keypoint_detection.gaze.train_config import TRAINING_FILE, GazeTrainConfig


def open_data(config: GazeTrainConfig, *, scene_hw: tuple[int, int], head_hw: tuple[int, int]) -> GazeData:
    """Read the people of a configuration, and hold some out if none to validate on are given.

    Args:
        config: Every choice.
        scene_hw: Height and width of scenes.
        head_hw: Height and width of head crops.

    Raises:
        FileNotFoundError: A file, an image or a depth map is missing.
        ValueError: A file is broken, or nobody to train on looks into the image; one line.
    """
    if config.gazefollow is not None:
        training = _part(config, Path(config.gazefollow) / TRAINING_FILE, "gazefollow")
    else:
        training = _part(config, Path(config.data or ""), config.data_format)
    validation: GazePart | float = config.validation_split_ratio
    if config.validation_data is not None:
        validation = _part(config, Path(config.validation_data), config.data_format)
    data = GazeData(
        training,
        validation,
        scene_hw=scene_hw,
        head_hw=head_hw,
        augmentation=augmentation(config),
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        seed=config.seed,
    )
    check_people(data)
    return data


def check_people(data: GazeData) -> None:
    """Raise a ValueError where nobody tells where to look: neither in training nor in validation."""
    for purpose, dataset in (("train", data.train_dataset), ("validate", data.validation_dataset)):
        if dataset is not None and not (dataset.table.in_frame == INSIDE).any():
            raise ValueError(
                f"expected people to {purpose} on who look into the image, got none among "
                f"{len(dataset.table)}; add data, or change the split"
            )


def augmentation(config: GazeTrainConfig) -> GazeAugmentation | None:
    """Return how samples to train on are changed, or None."""
    if not config.augment_train:
        return None
    pairs = (config.augment_brightness, config.augment_contrast, config.augment_saturation)
    brightness, contrast, saturation = ((low, high) for low, high in pairs)
    return GazeAugmentation(
        box_jitter=config.augment_box,
        crop_size=config.augment_crop_size,
        crop_probability=config.augment_crop,
        flip_probability=config.augment_flip,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        color_probability=config.augment_color,
    )


def _part(config: GazeTrainConfig, path: Path, data_format: str) -> GazePart:
    people = read_people(path, data_format, root=config.data_root, skip_broken=config.skip_broken)
    return GazePart(_some_frames(people.table, config), people.root, config.depth_folder)


def _some_frames(table: GazeTable, config: GazeTrainConfig) -> GazeTable:
    if config.frame_share == 1:
        return table
    images = [table.image_names[index] for index in table.image.tolist()]
    return table.select(sample_frames(images, table.group, config.frame_share, config.seed))
