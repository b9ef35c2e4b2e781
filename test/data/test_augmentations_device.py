import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CocoFolder, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import centroid, draw_dot

from keypoint_detection.data.augmentations import AugmentationConfig, Augmenter, ValueChange
from keypoint_detection.data.augmentations_device import change_arrays, change_images, stack_changes, warp
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, collate
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.instance_crops import label_crops
from keypoint_detection.data.synthetic import draw_image
from keypoint_detection.geometry import (
    PAD_VALUE,
    identity_affine,
    invert,
    similarity_affine,
    transform_points,
    warp_image,
)

GEOMETRY = AugmentationConfig(color=0.0, color_probability=0.0, vertical_flip=0.3, rotation_degrees=180.0)
NONE = ValueChange()


def changed(images: np.ndarray, *changes: dict) -> np.ndarray:
    """Change `[n, h, w, c]` images and return them in the same layout."""
    stacked = torch.from_numpy(images).permute(0, 3, 1, 2)
    input_hw = torch.tensor([images.shape[1:3]] * len(images))
    return change_images(stacked, input_hw, stack_changes(changes)).permute(0, 2, 3, 1).numpy()


@given(st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_dots_stay_under_their_points(seed: int) -> None:
    hw = (96, 120)
    config = dataclasses.replace(GEOMETRY, scale=2.0)
    xy = np.random.default_rng(seed).uniform((40, 30), (80, 65))
    affine = Augmenter(config).draw_affine(hw, hw, np.random.default_rng(seed))
    image = np.repeat(draw_dot(hw, (xy[0], xy[1]), 3.0)[..., None], 3, 2)
    frame = changed(image[None], change_arrays(affine, NONE, 3, 0))[0]
    point = transform_points(affine, xy)
    if np.minimum(point, np.array(hw[::-1]) - 1 - point).min() > 20:
        assert np.abs(centroid(frame[..., 1]) - point).max() <= 0.05


@pytest.mark.parametrize(("scale", "most"), [(1.3, 1.0), (0.9, 1.0), (0.5, 4.0), (0.3, 4.0)])
def test_the_warp_is_that_of_the_loader(scale: float, most: float) -> None:
    image, _ = draw_image("flowers", (96, 128), np.random.default_rng(0))
    affine = similarity_affine((96, 128), (96, 128), scale, 25.0, (3.2, -4.6))
    expected = warp_image(image, affine, (96, 128)).astype(float)
    ours = changed(image[None], change_arrays(affine, NONE, 3, 0))[0].astype(float)
    assert np.abs(ours - expected).mean() < most / 2
    assert expected.std() > 10


def test_no_change_leaves_every_value() -> None:
    image = noise_image((20, 30))
    assert np.array_equal(changed(image[None], change_arrays(identity_affine(), NONE, 3, 0))[0], image)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_colours_and_blur_are_those_of_the_loader(n_channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, n_channels), dtype=np.uint8)
    config = AugmentationConfig(color_probability=1.0, blur_probability=1.0, noise_probability=0.0)
    differences = []
    for seed in range(10):
        expected = Augmenter(config).change_values(image, np.random.default_rng(seed))
        values = Augmenter(config).draw_values(np.random.default_rng(seed))
        assert values.is_colored
        assert values.blur_sigma_px > 0
        ours = changed(image[None], change_arrays(identity_affine(), values, n_channels, 0))[0]
        differences.append(np.abs(ours.astype(int) - expected).mean())
    assert max(differences) < 1.0
    assert np.abs(image.astype(int) - ours).mean() > 10


def test_noise_has_its_strength_and_its_seed() -> None:
    grey = np.full((2, 200, 200, 3), 120, np.uint8)
    noisy = change_arrays(identity_affine(), ValueChange(noise_std=6.0), 3, 5)
    other = change_arrays(identity_affine(), ValueChange(noise_std=6.0), 3, 6)
    first = changed(grey, noisy, change_arrays(identity_affine(), NONE, 3, 5))
    assert np.array_equal(first[1], grey[1])
    noise = first[0].astype(float) - 120
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(6.0, rel=0.03)
    again = changed(grey, other, noisy)
    assert np.array_equal(again[1], first[0])  # whatever its place in the batch
    assert not np.array_equal(again[0], first[0])


def test_padding_stays_padding(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((20, 30), 1), [[7, 9, 2, 0, 0, 0, 0, 0, 0]])
    coco_folder.add(noise_image((26, 16), 2), [[7, 9, 2, 0, 0, 0, 0, 0, 0]])
    config = AugmentationConfig(color_probability=1.0, noise_probability=1.0, rotation_degrees=180.0)
    path, augmenter = coco_folder.write(), Augmenter(config)
    dataset = COCOKeypointsDataset(path, augmenter=augmenter, changes_on_device=True)
    batch = collate([dataset[(0, 1)], dataset[(1, 2)]])
    image = change_images(batch["image"], batch["input_hw"], batch["change"])
    assert image.dtype == torch.uint8
    assert (image[0, :, 20:] == PAD_VALUE).all()
    assert (image[1, :, :, 16:] == PAD_VALUE).all()
    assert image[0, :, :20].float().std() > 20


@pytest.mark.parametrize("image_size", [None, (64, 80)])
def test_the_distribution_is_that_of_the_loader(
    coco_folder: CocoFolder, image_size: tuple[int, int] | None
) -> None:
    """The same seed gives the same geometry and points and, but for rounding and noise, the same image."""
    image, _ = draw_image("flowers", (64, 80), np.random.default_rng(0))
    coco_folder.add(image, [[20, 30, 2, 40, 22, 1, 60, 50, 2]])
    augmenter = Augmenter(AugmentationConfig(noise_probability=0.0), {"left_eye": "right_eye"})
    options = {"image_size": image_size, "augmenter": augmenter}
    on_host = COCOKeypointsDataset(coco_folder.write(), **options)
    on_device = COCOKeypointsDataset(on_host.table, changes_on_device=True, **options)
    for seed in range(12):
        expected, ours = collate([on_host[(0, seed)]]), collate([on_device[(0, seed)]])
        for key in ("keypoints", "to_image", "visibility"):
            assert torch.allclose(ours[key].float(), expected[key].float(), atol=1e-3, equal_nan=True)
        result = change_images(ours["image"], ours["input_hw"], ours["change"])
        assert (result.float() - expected["image"].float()).abs().mean() < 1.5


def test_the_data_module_changes_batches_on_their_device(ten_images: Path, tmp_path: Path) -> None:
    data = KeypointsDataModule(
        json_dataset_path=ten_images,
        batch_size=4,
        num_workers=0,
        augment_train=True,
        augment_device="gpu",
        cache="disk",
        cache_dir=tmp_path / "cache",
    )
    batch = next(iter(data.train_dataloader()))
    before = batch["image"].clone()
    after = data.on_after_batch_transfer(batch, 0)
    assert "change" not in after
    assert after["image"].shape == before.shape
    assert not torch.equal(after["image"], before)
    validation = next(iter(data.val_dataloader()))
    kept = validation["image"].clone()
    assert torch.equal(data.on_after_batch_transfer(validation, 0)["image"], kept)


def test_crops_are_refused(ten_images: Path) -> None:
    table = COCOKeypointsDataset(ten_images).table
    with pytest.raises(ValueError, match="augment_device gpu: expected whole images"):
        COCOKeypointsDataset(
            table, image_size=(16, 16), crops=label_crops(table, 1.25), changes_on_device=True
        )


def test_warp_by_hand() -> None:
    image = torch.zeros(1, 1, 3, 4)
    image[0, 0, 1, 2] = 100.0
    shift = invert(np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 1.0]]))  # right by half a pixel, down by one
    moved = warp(image, torch.from_numpy(shift).float()[None])
    assert moved[0, 0, 2].tolist() == pytest.approx([PAD_VALUE / 2, 0, 50, 50])
    assert moved[0, 0, 0].tolist() == pytest.approx([PAD_VALUE] * 4)
