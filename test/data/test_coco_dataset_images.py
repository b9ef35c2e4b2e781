import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CocoFolder, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import centroid, draw_dot

from keypoint_detection.data.augmentations import AugmentationConfig, Augmenter
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, collate
from keypoint_detection.data.coco_dataset_images import stack_images
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.image_cache import ImageCache
from keypoint_detection.data.image_cache_plan import cached_frame
from keypoint_detection.data.imageloader import ImageError
from keypoint_detection.data.synthetic import draw_image
from keypoint_detection.geometry import PAD_VALUE, identity_affine, letterbox_affine

AUGMENTER = Augmenter(AugmentationConfig())
GEOMETRY = AugmentationConfig(color=0.0, color_probability=0.0, vertical_flip=0.3, rotation_degrees=180.0)


def test_cached_frames_by_hand() -> None:
    assert cached_frame((100, 200), None, 1.25).is_whole  # own size
    assert cached_frame((100, 200), (64, 64), 1.25).hw == (40, 80)  # 64 / 200 * 1.25
    assert np.allclose(cached_frame((100, 200), (64, 64), 1.25).affine, [[0.4, 0, -0.3], [0, 0.4, -0.3]])
    assert cached_frame((64, 64), (64, 64), 1.25).is_whole
    assert cached_frame((100, 100), (64, 64), 1.25).is_whole  # 0.8 is more than 0.75
    assert cached_frame((40, 40), (64, 64), None).is_whole  # smaller than the frame
    plain = cached_frame((100, 200), (64, 96), None)
    assert plain.hw == (64, 96)
    assert np.array_equal(plain.affine, letterbox_affine((100, 200), (64, 96)))
    assert plain.n_bytes(3) == 64 * 96 * 3
    assert np.array_equal(cached_frame((9, 9), None, None).affine, identity_affine())


@pytest.mark.parametrize("image_size", [None, (40, 48), (24, 32), (64, 64)])
@pytest.mark.parametrize("augmenter", [None, AUGMENTER])
def test_samples_are_the_same_bit_for_bit(
    ten_images: Path, tmp_path: Path, image_size: tuple[int, int] | None, augmenter: Augmenter | None
) -> None:
    """Neither the first time, when the cache is filled, nor later; (24, 32) is reduced only where plain."""
    if image_size == (24, 32) and augmenter is not None:
        augmenter = Augmenter(AugmentationConfig(scale=1.5))  # 0.6 * 1.5 is more than 0.75
    options = {"image_size": image_size, "augmenter": augmenter}
    cache = ImageCache(tmp_path / "cache", 10**6)
    cached = COCOKeypointsDataset(ten_images, cache=cache, **options)
    plain = COCOKeypointsDataset(cached.table, **options)
    for seed in range(3):
        for position in range(4):
            ours, expected = cached[(position, seed)], plain[(position, seed)]
            for key in ("image", "keypoints", "visibility", "to_image", "input_hw", "image_hw"):
                assert np.array_equal(ours[key], expected[key], equal_nan=key == "keypoints"), key
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 4


def test_a_cached_image_is_not_decoded_again_until_its_file_changes(
    ten_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = COCOKeypointsDataset(ten_images, cache=ImageCache(tmp_path / "cache", 10**6))
    first = dataset[0]["image"]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(dataset[0]["image"], first)
    monkeypatch.undo()
    path = dataset.table.image_path(0)
    cv2.imwrite(str(path), np.full((40, 48, 3), 7, np.uint8))
    os.utime(path, ns=(1, 1))
    assert (dataset[0]["image"] == 7).all()
    assert (dataset[0]["image"] == 7).all()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="nothing at"):
        dataset[0]
    cv2.imwrite(str(path), np.full((41, 48, 3), 7, np.uint8))
    with pytest.raises(ImageError, match="to have width x height 48x40"):
        dataset[0]


def test_what_does_not_fit_is_decoded(ten_images: Path, tmp_path: Path) -> None:
    entry = 40 * 48 * 3 + 64
    cache = ImageCache(tmp_path / "cache", 3 * entry)
    cached, plain = COCOKeypointsDataset(ten_images, cache=cache), COCOKeypointsDataset(ten_images)
    for _ in range(2):
        for position in range(10):
            assert np.array_equal(cached[position]["image"], plain[position]["image"])
    entries = list((tmp_path / "cache").glob("*.pixels"))
    assert sum(path.stat().st_size for path in entries) == 3 * entry


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> COCOKeypointsDataset:
    """Return a cached data set: a large image, reduced to 0.4, whose red dot is the left eye."""
    folder = CocoFolder(tmp_path_factory.mktemp("dots"))
    left, right = (188.3, 131.6), (155.75, 184.1)
    image = np.full((300, 320, 3), PAD_VALUE, np.uint8)
    image[..., 0], image[..., 1] = draw_dot((300, 320), left, 6.0), draw_dot((300, 320), right, 6.0)
    folder.add(image, [[0, 0, 0, *left, 2, *right, 2]])
    cache = ImageCache(folder.folder / "cache", 10**6)
    swap = {"left_eye": "right_eye", "right_eye": "left_eye"}
    table = read_table(folder.write())
    return COCOKeypointsDataset(
        table, image_size=(102, 102), augmenter=Augmenter(GEOMETRY, swap), cache=cache
    )


@given(st.integers(0, 2**62))
@settings(max_examples=60, deadline=None)
def test_points_of_a_reduced_image_stay_on_their_dots(dots: COCOKeypointsDataset, seed: int) -> None:
    sample = dots[(0, seed)]
    plain = COCOKeypointsDataset(dots.table, image_size=(102, 102), augmenter=dots.augmenter)[(0, seed)]
    assert np.allclose(sample["keypoints"], plain["keypoints"], atol=1e-3, equal_nan=True)
    mirrored = np.linalg.det(sample["to_image"][:, :2]) < 0
    for color, channel in ((0, 2 if mirrored else 1), (1, 1 if mirrored else 2)):
        point = sample["keypoints"][channel, 0]
        if np.minimum(point, 101 - point).min() > 12:
            assert np.abs(centroid(sample["image"][color]) - point).max() <= 0.05


@pytest.mark.parametrize("noise", [0, 12])
def test_a_reduced_image_stays_sharp(tmp_path: Path, noise: int) -> None:
    image, _ = draw_image("flowers", (768, 1024), np.random.default_rng(0))
    grain = np.random.default_rng(1).normal(0, 1, image.shape) * noise
    folder = CocoFolder(tmp_path)
    folder.add(np.clip(image + grain, 0, 255).astype(np.uint8), [[500, 300, 2] * 3])
    options = {"image_size": (256, 256), "augmenter": Augmenter(GEOMETRY)}
    plain = COCOKeypointsDataset(folder.write(), **options)
    cached = COCOKeypointsDataset(plain.table, cache=ImageCache(tmp_path / "cache", 10**8), **options)
    assert cached[0]["image"].shape == (3, 256, 256)
    assert [path.stat().st_size for path in (tmp_path / "cache").glob("*.pixels")] == [240 * 320 * 3 + 64]
    differences, contrast = [], []
    for seed in range(6):
        ours, expected = (dataset[(0, seed)]["image"].astype(float) for dataset in (cached, plain))
        differences.append(np.abs(ours - expected).mean())
        contrast.append(np.abs(np.diff(ours)).mean() / np.abs(np.diff(expected)).mean())
    assert np.mean(differences) < 1.5  # grey levels of 255
    assert np.mean(contrast) > 0.75
    assert np.mean(contrast) < 1.02


def test_crops_are_cached_at_the_images_own_size(coco_folder: CocoFolder) -> None:
    from keypoint_detection.data.instance_crops import label_crops

    face = [10, 20, 2, 12.5, 10, 2, 22, 30.25, 2]
    coco_folder.add(noise_image((80, 96)), [face, face], bbox=[5, 5, 40, 30])
    table = read_table(coco_folder.write())
    options = {"image_size": (16, 16), "crops": label_crops(table, 1.25), "augmenter": AUGMENTER}
    cache = ImageCache(coco_folder.folder / "cache", 10**6)
    cached = COCOKeypointsDataset(table, cache=cache, **options)
    plain = COCOKeypointsDataset(table, **options)
    for position in (0, 1, 0):
        assert np.array_equal(cached[(position, 3)]["image"], plain[(position, 3)]["image"])
    assert [p.stat().st_size for p in cache.folder.glob("*.pixels")] == [80 * 96 * 3 + 64]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_loader_processes_fill_and_share_the_cache(ten_images: Path, tmp_path: Path, workers: int) -> None:
    from keypoint_detection.data.datamodule import KeypointsDataModule

    def two_epochs(num_workers: int, kind: str) -> list[torch.Tensor]:
        data = KeypointsDataModule(
            json_dataset_path=ten_images,
            num_workers=num_workers,
            batch_size=3,
            augment_train=True,
            validation_split_ratio=0,
            cache=kind,
            cache_dir=tmp_path / kind,
        )
        loader = data.train_dataloader()
        return [batch["image"].clone() for _ in range(2) for batch in loader]

    alone, shared = two_epochs(0, "off"), two_epochs(workers, "disk")
    assert len(alone) == len(shared) == 8
    assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))
    assert len(list((tmp_path / "disk").glob("*.pixels"))) == 10
    in_memory = two_epochs(workers, "ram")
    assert all(torch.equal(one, other) for one, other in zip(alone, in_memory, strict=True))
    assert not (tmp_path / "ram").exists()


def test_stacked_images_are_padded_with_grey() -> None:
    images = [np.full((3, 4, 6), 9, np.uint8), np.full((3, 5, 2), 8, np.uint8)]
    stacked = stack_images(images)
    assert stacked.shape == (2, 3, 5, 6)
    assert (stacked[0, :, :4] == 9).all()
    assert (stacked[0, :, 4:] == PAD_VALUE).all()
    assert (stacked[1, :, :, :2] == 8).all()
    assert (stacked[1, :, :, 2:] == PAD_VALUE).all()
    assert torch.equal(stack_images(images[:1])[0], torch.full((3, 4, 6), 9, dtype=torch.uint8))


def test_a_batch_of_cached_images_is_a_copy(ten_images: Path, tmp_path: Path) -> None:
    dataset = COCOKeypointsDataset(ten_images, cache=ImageCache(tmp_path / "cache", 10**6))
    batch = collate([dataset[0], dataset[1]])
    batch["image"].zero_()
    assert dataset[0]["image"].any()
