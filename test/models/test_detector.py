import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from keypoint_detection.data.coco_dataset import Batch
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference import decode_batch
from keypoint_detection.utils.heatmap import generate_heatmaps

NAN = float("nan")


def make_detector(**options: object) -> KeypointDetector:
    pl.seed_everything(0, verbose=False)
    return KeypointDetector([["a"], ["b", "c"]], "Unet", {"n_channels": 8}, **options)  # pyright: ignore


def make_batch(visibility: list | None = None) -> Batch:
    """Return two 32x48 images: one point in the first channel, two in the second; the other is a negative."""
    keypoints = torch.full((2, 2, 2, 2), NAN)
    keypoints[0, 0, 0] = torch.tensor([10.25, 20.5])
    keypoints[0, 1] = torch.tensor([[30.0, 8.0], [40.75, 25.0]])
    flags = torch.zeros(2, 2, 2, dtype=torch.uint8)
    flags[0] = torch.tensor(visibility or [[2, 0], [1, 2]])
    generator = torch.Generator().manual_seed(0)
    return {  # pyright: ignore[reportReturnType]
        "image": torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8, generator=generator),
        "keypoints": keypoints,
        "visibility": flags,
        "to_image": torch.tensor([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]]).repeat(2, 1, 1),
        "image_id": torch.tensor([1, 2]),
        "image_hw": torch.tensor([[64, 96], [64, 96]]),
        "input_hw": torch.tensor([[32, 48], [32, 48]]),
    }


def test_forward_gives_logits_with_a_low_initial_probability() -> None:
    detector = make_detector()
    logits = detector(make_batch()["image"]).detach()
    assert logits.shape == (2, 2, 32, 48)
    assert 0.01 < float(logits.sigmoid().mean()) < 0.03


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("hw", [(33, 47), (64, 40)])
def test_heatmaps_have_the_declared_stride_for_any_size(stride: int, hw: tuple[int, int]) -> None:
    detector = KeypointDetector([["a"]], "Unet", {"n_channels": 8, "output_stride": stride})
    logits = detector(torch.zeros(1, 3, *hw, dtype=torch.uint8))
    assert logits.shape[-2:] == (-(-hw[0] // stride), -(-hw[1] // stride))


def test_images_are_normalised_inside_as_the_backbone_asks() -> None:
    detector = make_detector()
    image = make_batch()["image"]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = detector.head(detector.backbone((image / 255.0 - mean) / std))
    assert torch.allclose(detector(image), expected, atol=1e-4)


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 32, 32), torch.zeros(3, 32, 32, dtype=torch.uint8)])
def test_images_of_another_kind_are_refused(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expects uint8 images \[n, channels, height, width\]"):
        make_detector()(image)


def test_targets_are_gaussians_at_the_points_of_this_stride() -> None:
    detector = KeypointDetector(
        [["a"], ["b"]], "Unet", {"n_channels": 8, "output_stride": 2}, heatmap_sigma=1.5
    )
    target, weight = detector.targets(make_batch(), torch.zeros(2, 2, 16, 24))
    y, x = np.mgrid[:16, :24]
    u, v = (10.25 + 0.5) / 2 - 0.5, (20.5 + 0.5) / 2 - 0.5
    assert weight is None
    assert np.allclose(target[0, 0], np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 1.5**2)), atol=1e-5)
    assert target[1].abs().max() == 0


def test_occluded_points_are_left_out_and_masked_on_request() -> None:
    batch = make_batch()
    everything, _ = make_detector().targets(batch, torch.zeros(2, 2, 32, 48))
    visible, unmasked = make_detector(detect_only_visible_keypoints=True).targets(
        batch, torch.zeros(2, 2, 32, 48)
    )
    masked, weight = make_detector(detect_only_visible_keypoints=True, mask_excluded_keypoints=True).targets(
        batch, torch.zeros(2, 2, 32, 48)
    )
    assert everything[0, 1, 8, 30] == pytest.approx(1.0)
    assert visible[0, 1, 8, 30] < 1e-3
    assert unmasked is None
    assert weight is not None
    assert torch.equal(masked, visible)
    assert weight[0, 1, 8, 30] == pytest.approx(0.0, abs=1e-3)
    assert weight[0, 1, 25, 41] == pytest.approx(1.0, abs=1e-3)
    assert weight[0, 0].min() == 1.0


def test_sigma_falls_from_epoch_ten_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_detector(heatmap_sigma=3.0, variable_heatmap_sigma=1.0)
    trainer = pl.Trainer(max_epochs=31, logger=False, enable_checkpointing=False, accelerator="cpu")
    detector._trainer = trainer
    seen = []
    for epoch in (0, 10, 20, 30):
        monkeypatch.setattr(type(detector), "current_epoch", property(lambda _, epoch=epoch: epoch))
        seen.append(detector.sigma_px())
    assert seen == pytest.approx([3.0, 3.0, 2.0, 1.0])


def test_perfect_heatmaps_score_perfectly_in_original_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, batch = make_detector(), make_batch()
    target = generate_heatmaps(batch["keypoints"], batch["visibility"], (32, 48), 2.0)
    points, scores = decode_batch(detector, torch.logit(target.clamp(1e-6, 1 - 1e-6)), batch)
    assert points[0, 0, 0].tolist() == pytest.approx([2 * 10.25 + 0.5, 2 * 20.5 + 0.5], abs=0.05)
    stage = detector.test_scores
    stage.update(points, scores, batch, 1)
    values = stage.compute()
    assert values["map"] == 1.0
    assert values["b=c/ap@2px"] == 1.0
    assert values["mean_error_px"] < 0.05
    assert values["missed"] == 0


@pytest.mark.parametrize(
    ("validated", "expected"), [(range(10), [2, 5, 8, 9]), ([1, 4, 6, 8, 9], [4, 8, 9]), ([0, 3, 6], [3, 6])]
)
def test_scores_fall_due_whenever_validations_happen(
    validated: list[int], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = make_detector(ap_epoch_start=2, ap_epoch_freq=3)
    trainer = pl.Trainer(max_epochs=10, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.state.fn = TrainerFn.FITTING
    detector._trainer = trainer
    due = []
    for epoch in validated:
        monkeypatch.setattr(type(detector), "current_epoch", property(lambda _, epoch=epoch: epoch))
        if detector.is_score_epoch():
            due.append(epoch)
            detector.latest_score_epoch = epoch
    assert due == expected


def test_scores_of_earlier_validations_do_not_count_in_a_training() -> None:
    detector = make_detector()
    detector.latest_map, detector.latest_score_epoch = 0.9, 99  # as the learning-rate finder leaves them
    detector.on_train_start()
    assert (detector.latest_map, detector.latest_score_epoch) == (-1.0, None)


def test_hyperparameters_are_plain_enough_for_a_safe_checkpoint(tmp_path: Path) -> None:
    detector = make_detector(image_size=(32, 48), maximal_gt_keypoint_pixel_distances=np.array([1, 3]))
    torch.save(dict(detector.hparams), tmp_path / "h.pt")
    loaded = torch.load(tmp_path / "h.pt", weights_only=True)
    assert loaded["image_size"] == [32, 48]
    assert loaded["maximal_gt_keypoint_pixel_distances"] == [1.0, 3.0]


def test_weight_decay_spares_biases_and_norms() -> None:
    detector = make_detector(weight_decay=0.3)
    detector._trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    optimizer = detector.configure_optimizers()["optimizer"]
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in spared["params"])
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert count == sum(p.numel() for p in detector.parameters())


def multi_stage_detector() -> KeypointDetector:
    pl.seed_everything(0, verbose=False)
    options = {"n_hourglasses": 3, "n_hg_blocks": 1, "n_channels": 8}
    return KeypointDetector([["a"], ["b", "c"]], "Hourglass", options)


def test_every_stage_is_supervised_and_the_last_one_predicts() -> None:
    detector, batch = multi_stage_detector(), make_batch()
    stages = detector.forward_stages(batch["image"])
    assert [stage.shape for stage in stages] == [(2, 2, 8, 12)] * 3
    detector.eval()
    assert torch.equal(detector(batch["image"]), detector.forward_stages(batch["image"])[-1])
    detector.train()
    target, _ = detector.targets(batch, stages[-1])
    expected = sum(detector.loss_function(stage.detach(), target).sum().item() for stage in stages) / 3
    detector.log = detector.log_dict = lambda *_args, **_named: None  # pyright: ignore
    assert detector.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-4)


def test_earlier_stages_learn_from_their_own_loss() -> None:
    detector, batch = multi_stage_detector(), make_batch()
    first, *_ = detector.forward_stages(batch["image"])
    first.sum().backward()
    touched = {name for name, p in detector.named_parameters() if p.grad is not None}
    assert touched
    assert touched < {name for name, _ in detector.named_parameters()}
    assert not any(name.startswith("head") for name in touched)


def make_regressor(backbone: str = "Unet", **options: object) -> KeypointDetector:
    pl.seed_everything(0, verbose=False)
    width = {"n_channels": 8} if backbone == "Unet" else {"encoder": "ViT-Ti_16"}
    return KeypointDetector([["a"], ["b"]], backbone, width, head="regression", **options)  # pyright: ignore


@pytest.mark.parametrize("backbone", ["Unet", "ViT"])
def test_direct_regression_predicts_a_point_per_channel(backbone: str) -> None:
    detector = make_regressor(backbone).eval()
    image = make_batch()["image"]
    assert detector(image).shape == (2, 2, 2)
    assert detector.loss_name == "SmoothL1"
    (prediction,) = detector.predict(image[:1])
    assert [len(prediction[name]) for name in ("a", "b")] == [1, 1]
    # untrained, it points to about the middle
    assert prediction["a"][0].x == pytest.approx(23.5, abs=4)
    assert prediction["a"][0].y == pytest.approx(15.5, abs=4)
    detector.train()
    detector(image).square().sum().backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_direct_regression_scores_in_original_pixels() -> None:
    detector, batch = make_regressor(), make_batch([[2, 0], [2, 0]])
    target, weight = detector.targets(batch, torch.zeros(2, 2, 2))
    points, scores = decode_batch(detector, target, batch)
    assert weight is not None
    assert weight.tolist() == [[1, 1], [0, 0]]
    assert points[0, 0, 0].tolist() == pytest.approx([2 * 10.25 + 0.5, 2 * 20.5 + 0.5], abs=1e-3)
    assert scores[0, 0, 0] == 1.0


def test_direct_regression_refuses_several_points_in_a_channel() -> None:
    with pytest.raises(ValueError, match=r"one point per channel.*--head heatmap"):
        make_regressor().targets(make_batch(), torch.zeros(2, 2, 2))


@pytest.mark.parametrize(
    ("head", "loss"), [("heatmap", "Wing"), ("regression", "BCE"), ("heatmaps", "BCE"), ("heatmap", "bce")]
)
def test_heads_and_losses_that_do_not_exist(head: str, loss: str) -> None:
    with pytest.raises(ValueError, match=r"unknown (head|loss)") as caught:
        KeypointDetector([["a"]], "Unet", {"n_channels": 8}, head=head, loss_function=loss)
    assert "\n" not in str(caught.value)


def train_two_epochs(detector: KeypointDetector) -> None:
    batch = {**make_batch(), "keypoint_area": torch.full((2, 2, 2), torch.nan)}
    trainer = pl.Trainer(
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    loader = torch.utils.data.DataLoader([batch] * 2, batch_size=None)  # pyright: ignore
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(detector, loader)


@pytest.mark.parametrize("unfreeze_epoch", [None, 1, 5])
def test_a_frozen_backbone_stays_still_until_it_is_unfrozen(unfreeze_epoch: int | None) -> None:
    detector = make_detector(freeze_backbone=True, unfreeze_epoch=unfreeze_epoch, weight_decay=0.5)
    assert not detector.train().backbone.training
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    train_two_epochs(detector)
    moved = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    assert {"head.weight", "head.bias"} <= moved
    assert any(name.startswith("backbone") for name in moved) == (unfreeze_epoch == 1)
    assert detector.train().backbone.training == (unfreeze_epoch == 1)


def test_a_frozen_backbone_is_not_in_the_optimiser() -> None:
    detector = make_detector(freeze_backbone=True)
    detector._trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    groups = detector.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in detector.head.parameters()}


def test_layers_nearer_to_the_image_learn_slower() -> None:
    detector = make_detector(layer_decay=0.5, learning_rate=0.01)
    detector._trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    groups = detector.configure_optimizers()["optimizer"].param_groups
    rate = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    rates = [rate[id(block.conv.weight)] for block in detector.backbone.down_blocks]
    assert rates == sorted(rates)
    assert rates[1] == pytest.approx(2 * rates[0])
    assert rate[id(detector.head.weight)] == pytest.approx(0.01)
