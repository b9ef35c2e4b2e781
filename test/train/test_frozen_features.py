import logging
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from keypoint_detection.data.coco_dataset import collate
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.feature_cache import FrozenEncoder
from keypoint_detection.train import frozen_features as module
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.frozen_features import (
    KeptFeatures,
    collate_kept,
    frozen_features,
    kept_of,
    view_seed,
)
from keypoint_detection.train.train import train
from keypoint_detection.train.utils import (
    build_data_module,
    build_detector,
    build_trainer,
    expected_warnings_ignored,
)

CHANNELS = "flap_left; flap_right"


def config(boxes_json: Path, folder: Path, **options: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "json_dataset_path": str(boxes_json),
        "keypoint_channel_configuration": CHANNELS,
        "default_root_dir": str(folder),
        "backbone_type": "ConvNeXtUnet",
        "encoder": "convnext_atto",
        "output_stride": 4,
        "frozen_features": 2,
        "max_epochs": 3,
        "batch_size": 2,
        "augment_train": True,
        "accelerator": "cpu",
        "devices": 1,
        "num_workers": 0,
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**values, **options})


class LiveViews:
    """Give the same views as kept features do, through the encoder."""

    def __init__(self, dataset: Any, n_views: int, seed: int) -> None:
        self.dataset, self.n_views, self.seed = dataset, n_views, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __getitem__(self, index: tuple[int, int]) -> Any:
        position, seed = index
        return self.dataset[position, view_seed(self.seed, position, seed % self.n_views)]


def trained(configured: TrainConfig, folder: Path, *, live: bool) -> tuple[KeypointDetector, float]:
    torch.manual_seed(0)
    data = build_data_module(configured)
    detector = build_detector(configured, data.channels)
    trainer = build_trainer(configured, folder)
    with expected_warnings_ignored():
        if live:
            views: Any = LiveViews(data.train_dataset, configured.frozen_features, configured.seed)
            data.train_dataset = views
            trainer.fit(detector, data)
        else:
            with frozen_features(configured, trainer, detector, data):
                assert (folder / "frozen_features" / "train_0.npy").is_file()
                trainer.fit(detector, data)
    return detector, float(trainer.callback_metrics["validation/loss"])


def test_a_training_on_kept_features_is_the_live_one_but_for_rounding(
    boxes_json: Path, tmp_path: Path
) -> None:
    configured = config(boxes_json, tmp_path)
    kept, kept_loss = trained(configured, tmp_path / "kept", live=False)
    live, live_loss = trained(configured, tmp_path / "live", live=True)
    assert kept_loss == pytest.approx(live_loss, rel=2e-3)
    untrained = build_detector(configured, kept.hparams["keypoint_channel_configuration"]).state_dict()
    moved = 0.0
    for name, value in live.state_dict().items():
        if name.startswith("backbone.encoder"):
            assert torch.equal(kept.state_dict()[name], value), name
        elif value.is_floating_point():
            torch.testing.assert_close(kept.state_dict()[name], value, atol=2e-2, rtol=2e-2)
            moved = max(moved, float((value - untrained[name]).abs().max()))
    assert moved > 2e-3  # the training has done something
    assert not (tmp_path / "kept" / "frozen_features").exists()
    assert "forward" not in vars(kept.backbone.encoder)  # the detector is its own again


def test_kept_samples_are_the_views_of_the_data_set(boxes_json: Path, tmp_path: Path) -> None:
    configured = config(boxes_json, tmp_path)
    data = build_data_module(configured)
    detector = build_detector(configured, data.channels)
    encoder = FrozenEncoder(detector.backbone)
    kept = KeptFeatures(module._Views(data.train_dataset, 2, configured.seed), 2, tmp_path / "train")
    kept.fill(detector, encoder, 2)
    for position, seed in ((0, 0), (2, 1), (1, 8), (2, 7)):
        live = data.train_dataset[position, view_seed(configured.seed, position, seed % 2)]
        sample = kept[position, seed]
        np.testing.assert_array_equal(sample["image"], live["image"])
        np.testing.assert_array_equal(sample["keypoints"], live["keypoints"])
        image = (torch.from_numpy(live["image"])[None] - detector.image_mean) / detector.image_std
        for found, expected in zip(sample["features"], encoder.record(image), strict=True):
            np.testing.assert_allclose(found, expected[0].numpy(), atol=2e-2)
    batch = collate_kept([kept[0, 0], kept[1, 1]])
    levels = kept_of(batch)
    assert levels is not None
    assert [tuple(level.shape) for level in levels] == [
        (2, 40, 16, 16),
        (2, 80, 8, 8),
        (2, 160, 4, 4),
        (2, 320, 2, 2),
    ]
    assert kept_of({"image": batch["image"]}) is None
    assert batch["image"].shape == (2, 3, 64, 64)


def test_features_are_those_of_images_that_are_augmented_on_the_device(
    boxes_json: Path, tmp_path: Path
) -> None:
    configured = config(boxes_json, tmp_path, augment_device="gpu")
    data = build_data_module(configured)
    detector = build_detector(configured, data.channels)
    encoder = FrozenEncoder(detector.backbone)
    kept = KeptFeatures(module._Views(data.train_dataset, 2, configured.seed), 2, tmp_path / "train")
    kept.fill(detector, encoder, 2)
    live: Any = collate([data.train_dataset[1, view_seed(configured.seed, 1, 1)]])
    expected = data.on_after_batch_transfer(live, 0)["image"]
    sample = kept[1, 1]
    np.testing.assert_array_equal(sample["image"], expected[0].numpy())
    features = encoder.record((expected - detector.image_mean) / detector.image_std)
    for found, level in zip(sample["features"], features, strict=True):
        np.testing.assert_allclose(found, level[0].numpy(), atol=2e-2)
    assert "change" not in collate_kept([sample])  # it is done


def test_what_a_killed_run_has_left_is_made_anew(boxes_json: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "frozen_features").mkdir(parents=True)
    (tmp_path / "run" / "frozen_features" / "train_0.npy").write_bytes(b"half")
    _, loss = trained(config(boxes_json, tmp_path, max_epochs=1), tmp_path / "run", live=False)
    assert np.isfinite(loss)


def test_unreadable_images_are_replaced_before_their_features_are_kept(
    boxes_json: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(boxes_json.parent, folder)
    configured = config(
        folder / boxes_json.name, tmp_path, max_epochs=1, skip_unreadable=True, run_name="run"
    )
    dataset = build_data_module(configured).train_dataset
    dataset.table.image_path(int(dataset._rows[1])).write_bytes(b"no image")
    result = train(configured)
    assert result.last_checkpoint is not None
    assert result.last_checkpoint.is_file()


def test_the_size_is_said_first_and_a_full_disk_is_an_error(
    boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    with (
        caplog.at_level(logging.INFO, "keypoint_detection"),
        pytest.raises(ValueError, match=r"--frozen_features 2: expected .* GB free in .* use fewer views"),
    ):
        trained(config(boxes_json, tmp_path), tmp_path / "run", live=False)
    # 2 views of 4 training images and 2 validation images
    assert "frozen features: 10 views of " in caplog.text
    assert not (tmp_path / "run" / "frozen_features").exists()


def test_images_of_several_sizes_need_an_image_size(boxes_json: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(boxes_json.parent, folder)
    data = build_data_module(config(folder / boxes_json.name, tmp_path))
    dataset = data.train_dataset
    path = dataset.table.image_path(int(dataset._rows[1]))
    Image.open(path).crop((0, 0, 64, 60)).save(path)
    dataset.table.image_hw[int(dataset._rows[1])] = (60, 64)
    detector = build_detector(config(boxes_json, tmp_path), data.channels)
    kept = KeptFeatures(dataset, 1, tmp_path / "train")
    with pytest.raises(ValueError, match="images of one size, got 60x64, 64x64; add such as --image_size"):
        kept.fill(detector, FrozenEncoder(detector.backbone), 4)


def test_several_devices_are_refused(boxes_json: Path, tmp_path: Path) -> None:
    class TwoDevices:
        world_size = 2

    entered = frozen_features(
        config(boxes_json, tmp_path),
        TwoDevices(),
        None,
        None,  # pyright: ignore[reportArgumentType]
    )
    with pytest.raises(ValueError, match="expected one device, got 2"), entered:
        pass


def test_without_the_flag_nothing_happens(boxes_json: Path, tmp_path: Path) -> None:
    with frozen_features(config(boxes_json, tmp_path, frozen_features=0), None, None, None):  # pyright: ignore
        pass
    data = KeypointsDataModule(json_dataset_path=boxes_json)
    assert "train_dataloader" not in vars(data)


def test_full_training_goes_on_from_kept_features(boxes_json: Path, tmp_path: Path) -> None:
    first = config(boxes_json, tmp_path, max_epochs=1)
    detector, _ = trained(first, tmp_path / "first", live=False)
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    then = config(boxes_json, tmp_path, frozen_features=0, max_epochs=1, init_weights=str(checkpoint))
    data = build_data_module(then)
    tuned = build_detector(then, data.channels)
    for name, value in detector.state_dict().items():
        assert torch.equal(tuned.state_dict()[name], value), name
    before = tuned.backbone.encoder.stem_0.weight.detach().clone()  # pyright: ignore
    with expected_warnings_ignored():
        build_trainer(then, tmp_path / "then").fit(tuned, data)
    assert not torch.equal(tuned.backbone.encoder.stem_0.weight.detach(), before)  # pyright: ignore
