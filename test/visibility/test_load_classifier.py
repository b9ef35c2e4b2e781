import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import keypoint_detection.visibility
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.load_classifier import load_classifier

VARIANTS = [
    {},
    {"share_weights": False, "use_mlp": False},
    {"align_features": True},
    {"backbone_type": "Unet", "backbone_options": {"n_channels": 8, "output_stride": 4}},
]


def patches(n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 6, 16, 16), dtype=torch.uint8, generator=generator)


def trained_checkpoint(folder: Path, **options) -> tuple[VisibilityClassifier, Path]:
    torch.manual_seed(0)
    statistics = {"channel_mean": [100.1] * 6, "channel_std": [50.3] * 6}
    classifier = VisibilityClassifier((2, 4), 3, patch_px=16, size_hidden=8, **statistics, **options)
    points = [{"patch": patch, "label": torch.tensor(float(i % 2))} for i, patch in enumerate(patches())]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    fit = pl.Trainer(accelerator="cpu", max_epochs=2, enable_checkpointing=False, **quiet)
    loader = DataLoader(points, 6)  # pyright: ignore[reportArgumentType]
    fit.fit(classifier, loader, loader)
    path = folder / "classifier.ckpt"
    fit.save_checkpoint(path)
    return classifier.eval(), path


@pytest.mark.filterwarnings("ignore:The .*dataloader.* does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("options", VARIANTS)
def test_a_checkpoint_gives_the_same_bits(options: dict, tmp_path: Path) -> None:
    classifier, path = trained_checkpoint(tmp_path, **options)
    loaded = load_classifier(path)
    assert not loaded.training
    assert loaded.hparams == classifier.hparams
    with torch.inference_mode():
        assert torch.equal(loaded(patches()), classifier(patches()))
    assert torch.equal(loaded.predict_proba(patches()), classifier.predict_proba(patches()))
    state = classifier.state_dict()
    assert set(state) == set(loaded.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


@pytest.fixture
def untrained_checkpoint(tmp_path: Path) -> Path:
    classifier = VisibilityClassifier((2, 4), 3, patch_px=16, size_hidden=8)
    path = tmp_path / "untrained.ckpt"
    torch.save({"hyper_parameters": dict(classifier.hparams), "state_dict": classifier.state_dict()}, path)
    return path


def test_loading_never_asks_for_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"encoder": "mobilenetv3_small_050"}
    classifier = VisibilityClassifier(
        (2, 4), 3, size_hidden=8, backbone_type="MobileNetV3", backbone_options=options
    )
    hparams = {**classifier.hparams, "backbone_options": {**options, "pretrained": True}}
    path = tmp_path / "pretrained.ckpt"
    torch.save({"hyper_parameters": hparams, "state_dict": classifier.state_dict()}, path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_classifier(path).hparams["backbone_options"]["pretrained"] is False


def test_the_checkpoint_of_a_detector_is_named_as_such(tiny_checkpoint: Path) -> None:
    with pytest.raises(
        ValueError, match="is a checkpoint of a keypoint detector; expected one of a visib"
    ) as caught:
        load_classifier(tiny_checkpoint)
    assert "\n" not in str(caught.value)


def test_a_detector_is_not_loaded_from_a_classifier(untrained_checkpoint: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is a checkpoint of a visibility classifier, not .* --visibility"
    ) as caught:
        load_model(untrained_checkpoint)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.ckpt"):
        load_classifier(tmp_path / "none.ckpt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken zip"])
def test_a_file_that_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.ckpt is not a checkpoint") as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {"hyper_parameters": {}, "state_dict": {}}])
def test_a_checkpoint_of_something_else_is_one_line(content: object, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(
        ValueError, match="lacks settings or weights; expected one of a visibility classifier"
    ):
        load_classifier(path)


@pytest.mark.parametrize("change", ["setting", "weight"])
def test_what_does_not_fit_is_one_line(change: str, untrained_checkpoint: Path) -> None:
    content = torch.load(untrained_checkpoint, weights_only=True)
    if change == "setting":
        content["hyper_parameters"]["unheard_of"] = 1
    else:
        content["state_dict"].popitem()
    torch.save(content, untrained_checkpoint)
    with pytest.raises(ValueError, match="do not fit this version") as caught:
        load_classifier(untrained_checkpoint)
    assert "\n" not in str(caught.value)


def test_the_public_name_answers_whatever_was_imported_first(untrained_checkpoint: Path) -> None:
    assert isinstance(
        keypoint_detection.visibility.load_classifier(untrained_checkpoint), VisibilityClassifier
    )


def test_the_package_is_imported_lazily() -> None:
    code = (
        "import sys, keypoint_detection.visibility as visibility; assert 'torch' not in sys.modules; "
        "assert dir(visibility) == sorted(visibility.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    package = keypoint_detection.visibility
    assert all(callable(getattr(package, name)) for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Classifier'"):
        keypoint_detection.visibility.Classifier  # noqa: B018


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_short_is_one_line(share: float, untrained_checkpoint: Path) -> None:
    content = untrained_checkpoint.read_bytes()
    untrained_checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"is not a checkpoint: expected a \.ckpt file"):
        load_classifier(untrained_checkpoint)
