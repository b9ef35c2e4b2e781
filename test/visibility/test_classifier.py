from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from keypoint_detection.visibility import VisibilityClassifier
from keypoint_detection.visibility.network import MultiMagnificationNet
from keypoint_detection.visibility.network_backbone import BackboneMagnificationNet

# These trainings are small on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]
TINY = {"factors": (2, 4), "n_channels": 3, "patch_px": 16, "size_hidden": 8}


def tiny(**options) -> VisibilityClassifier:
    torch.manual_seed(0)
    return VisibilityClassifier(**{**TINY, **options})


def drawn_batch(n: int, side: int, n_channels: int, seed: int = 0) -> dict[str, Tensor]:
    """Return patches on grey of any brightness, those that are visible with a fine texture."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    grey = rng.uniform(60, 190, (n, 1, 1, 1))
    texture = rng.normal(0, 12, (n, n_channels, side, side)) * label[:, None, None, None]
    noise = rng.normal(0, 2, (n, n_channels, side, side))
    patch = np.clip(np.round(grey + texture + noise), 0, 255).astype(np.uint8)
    return {
        "patch": torch.from_numpy(patch),
        "label": torch.from_numpy(label.astype(np.float32)),
        "index": torch.arange(n),
    }


def loader(batch: dict[str, Tensor], batch_size: int, *, shuffle: bool = False) -> DataLoader:
    points = [{name: value[i] for name, value in batch.items()} for i in range(len(batch["label"]))]
    generator = torch.Generator().manual_seed(0)
    return DataLoader(points, batch_size, shuffle=shuffle, generator=generator)  # pyright: ignore


def trainer(folder: Path, **options) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": False, **options},
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"share_weights": False, "use_mlp": False}, {"align_features": True}, {"backbone_type": "Unet"}],
)
def test_it_learns_32_patches_by_heart(options: dict, tmp_path: Path) -> None:
    torch.manual_seed(1)
    if "backbone_type" in options:
        options = {**options, "backbone_options": {"n_channels": 8, "output_stride": 4}}
    classifier = tiny(**options, dropout=0.0, learning_rate=1e-2)
    batch = drawn_batch(32, 16, 6)
    pl.seed_everything(0, verbose=False)
    fit = trainer(tmp_path, max_epochs=50)
    fit.fit(classifier, loader(batch, 16, shuffle=True), loader(batch, 16))
    classifier.eval()
    p_visible = classifier.predict_proba(batch["patch"])
    assert torch.equal((p_visible > 0.5).float(), batch["label"])
    assert F.binary_cross_entropy(p_visible, batch["label"]) < 0.1


def test_validation_logs_the_numbers_of_all_points(tmp_path: Path) -> None:
    classifier, batch = tiny(), drawn_batch(21, 16, 6)
    (logged,) = trainer(tmp_path).validate(classifier, loader(batch, 4), verbose=False)
    with torch.inference_mode():
        logits = classifier.eval()(batch["patch"]).double()
    label = batch["label"].double()
    visible, other = logits[label == 1], logits[label == 0]
    recalls = [(visible > 0).double().mean(), (other <= 0).double().mean()]
    assert logged["validation/loss"] == pytest.approx(
        float(F.binary_cross_entropy_with_logits(logits, label)), abs=1e-5
    )
    assert logged["validation/balanced_accuracy"] == pytest.approx(float(sum(recalls) / 2), abs=1e-6)
    pairs = (visible[:, None] > other).double().mean()
    assert logged["validation/auroc"] == pytest.approx(float(pairs), abs=1e-6)
    (again,) = trainer(tmp_path).validate(classifier, loader(batch, 4), verbose=False)
    assert again == logged  # nothing is left over from the first time
    (tested,) = trainer(tmp_path).test(classifier, loader(batch, 7), verbose=False)
    assert tested["test/auroc"] == pytest.approx(logged["validation/auroc"])


def test_the_learning_rate_rises_and_falls_over_the_run(tmp_path: Path) -> None:
    class Rates(pl.Callback):
        rates: list[float]

        def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    observer = Rates()
    observer.rates = []
    classifier = tiny(learning_rate=1e-3, warmup=0.25)
    fit = trainer(tmp_path, max_epochs=5, callbacks=[observer])
    batch = drawn_batch(16, 16, 6)
    fit.fit(classifier, loader(batch, 4), loader(batch, 4))
    assert len(observer.rates) == 20
    # 1 % at the start, the peak after a quarter (5 steps), half of it half-way down the cosine, in 7.5 steps
    assert observer.rates[0] == pytest.approx(1e-5)
    assert observer.rates[5] == pytest.approx(1e-3)
    assert observer.rates[12] > 5e-4 > observer.rates[13]
    assert observer.rates[-1] < 2e-5


def test_patches_are_normalised_per_channel_of_each_level() -> None:
    mean, std = [10.0, 20, 30, 40, 50, 60], [1.0, 2, 4, 8, 16, 0.0]
    classifier = tiny(channel_mean=mean, channel_std=std).eval()
    patch = torch.randint(0, 256, (2, 6, 16, 16), dtype=torch.uint8)
    divisor = torch.tensor([1.0, 2, 4, 8, 16, 1])  # a channel that is constant counts as one grey level
    expected = (patch.double() - torch.tensor(mean)[:, None, None]) / divisor[:, None, None]
    with torch.inference_mode():
        assert torch.equal(classifier(patch), classifier.network(expected.float()))


def test_probabilities_are_the_sigmoid_of_the_logits_in_any_mode() -> None:
    classifier, batch = tiny(dropout=0.5), drawn_batch(10, 16, 6)
    with torch.inference_mode():
        logits = classifier.eval()(batch["patch"])
    classifier.train()
    found = classifier.predict_proba(batch["patch"].numpy(), batch_size=3)
    assert classifier.training
    torch.testing.assert_close(found, 1 / (1 + torch.exp(-logits)))
    assert classifier.predict_proba(batch["patch"][:0]).shape == (0,)


def test_a_point_in_training_without_company() -> None:
    for share_weights in (True, False):
        classifier, batch = tiny(share_weights=share_weights), drawn_batch(1, 16, 6)
        loss = F.binary_cross_entropy_with_logits(classifier(batch["patch"]), batch["label"])
        loss.backward()
        assert loss.isfinite()


def test_the_network_follows_the_hyperparameters() -> None:
    plain = VisibilityClassifier(n_channels=4, dropout=0.5)
    assert isinstance(plain.network, MultiMagnificationNet)
    assert sum(parameter.numel() for parameter in plain.parameters()) == 974_465
    other = tiny(backbone_type="Unet", backbone_options={"n_channels": 8, "output_stride": 2})
    assert isinstance(other.network, BackboneMagnificationNet)
    assert other.network.encoders[0].backbone.stride == 2


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    classifier = tiny(weight_decay=0.3)
    batch = loader(drawn_batch(8, 16, 6), 8)
    trainer(tmp_path, max_epochs=1).fit(classifier, batch, batch)
    groups = classifier.trainer.optimizers[0].param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(one.ndim == 4 for one in groups[0]["params"])
    assert all(one.ndim == 1 for one in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(classifier.parameters()))


@pytest.mark.parametrize(
    ("patches", "message"),
    [
        (torch.zeros(2, 6, 16, 16), "needs uint8 patches with values 0..255, got torch.float32"),
        (torch.zeros(2, 6, 8, 16, dtype=torch.uint8), r"needs patches of shape \[n, 6, 16, 16\]"),
        (torch.zeros(2, 8, 16, 16, dtype=torch.uint8), r"needs patches of shape \[n, 6, 16, 16\]"),
        (torch.zeros(6, 16, 16, dtype=torch.uint8), r"needs patches of shape \[n, 6, 16, 16\]"),
    ],
)
def test_wrong_patches_are_one_clear_line(patches: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        tiny()(patches)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": []}, r"rising whole numbers from 1, got \[\]"),
        ({"factors": [4, 2]}, r"rising whole numbers from 1, got \[4, 2\]"),
        ({"factors": [0, 2]}, r"rising whole numbers from 1, got \[0, 2\]"),
        (
            {"factors": [2, 8], "align_features": True},
            r"factors or more that double, such as 2 4 8, got \[2, 8\]",
        ),
        ({"channel_mean": [1.0] * 5}, "channel_mean needs 6 finite numbers.* got 5"),
        ({"channel_std": [1.0] * 5 + [float("nan")]}, "channel_std needs 6 finite numbers"),
        ({"channel_std": [-1.0] * 6}, "channel_std needs 6 finite numbers >= 0"),
        ({"decay_type": "plateau"}, "decay_type needs one that follows the progress"),
        ({"decay_type": "cosin"}, "Did you mean 'cosine'"),
        ({"warmup": 2.0}, r"warmup needs to be a share in \[0, 1\], got 2.0"),
        ({"backbone_type": "Unet", "align_features": True}, "align_features needs the convolution blocks"),
        ({"backbone_options": {"n_channels": 8}}, "need a backbone_type, got none"),
        ({"patch_px": 100}, "power of two from 4, got 100"),
    ],
)
def test_an_impossible_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        tiny(**options)
    assert "\n" not in str(caught.value)


def test_hyperparameters_are_plain_values() -> None:
    classifier = tiny(
        factors=np.array([2, 4]), channel_mean=np.full(6, 100.0), channel_std=torch.full((6,), 50.0)
    )
    plain = (int, float, bool, str, type(None))
    for name, value in classifier.hparams.items():
        values = value if isinstance(value, list) else [value]
        assert all(type(one) in plain for one in values), name
