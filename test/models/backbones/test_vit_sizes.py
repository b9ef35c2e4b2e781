import functools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.models.backbones.timm_encoder import load_network
from keypoint_detection.models.backbones.vit import ViT
from keypoint_detection.models.backbones.vit_sizes import (
    ViTSize,
    google_file_size,
    load_google_weights,
    network_size,
)

WIDTH, HEADS, DEPTH, PATCH = 24, 2, 2, 16
SMALL = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH}
Arrays = dict[str, np.ndarray]


def google_arrays(grid: int = 14, width: int = WIDTH, depth: int = DEPTH) -> Arrays:
    """Return random weights in the original layout: kernels HWIO, projections [in, heads, out per head]."""
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/kernel": (PATCH, PATCH, 3, width),
        "embedding/bias": (width,),
        "cls": (1, 1, width),
        "Transformer/posembed_input/pos_embedding": (1, 1 + grid**2, width),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
        "head/kernel": (width, 10),
        "head/bias": (10,),
    }
    for index in range(depth):
        block = f"Transformer/encoderblock_{index}"
        attention, perceptron = f"{block}/MultiHeadDotProductAttention_1", f"{block}/MlpBlock_3"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}/{norm}/scale": (width,), f"{block}/{norm}/bias": (width,)}
        for part in ("query", "key", "value"):
            shapes[f"{attention}/{part}/kernel"] = (width, HEADS, width // HEADS)
            shapes[f"{attention}/{part}/bias"] = (HEADS, width // HEADS)
        shapes |= {
            f"{attention}/out/kernel": (HEADS, width // HEADS, width),
            f"{attention}/out/bias": (width,),
        }
        shapes |= {
            f"{perceptron}/Dense_0/kernel": (width, 4 * width),
            f"{perceptron}/Dense_0/bias": (4 * width,),
            f"{perceptron}/Dense_1/kernel": (4 * width, width),
            f"{perceptron}/Dense_1/bias": (width,),
        }
    return {key: random.normal(0, 0.2, shape).astype(np.float32) for key, shape in shapes.items()}


def layer_norm(tokens: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = tokens - tokens.mean(-1, keepdim=True)
    normalised = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return normalised * weights[f"{name}/scale"] + weights[f"{name}/bias"]


def forward_by_hand(arrays: Arrays, image: Tensor) -> Tensor:
    """Compute the tokens after the final norm, from the arrays as they are in the file."""
    weights = {key: torch.from_numpy(array).double() for key, array in arrays.items()}
    rows, columns = image.shape[2] // PATCH, image.shape[3] // PATCH
    patches = image.double().reshape(len(image), 3, rows, PATCH, columns, PATCH)
    tokens = torch.einsum("ncyixj,ijcw->nyxw", patches, weights["embedding/kernel"]).flatten(1, 2)
    tokens = tokens + weights["embedding/bias"]
    tokens = torch.cat([weights["cls"].expand(len(image), 1, -1), tokens], 1)
    tokens = tokens + weights["Transformer/posembed_input/pos_embedding"]
    for index in range(DEPTH):
        block = f"Transformer/encoderblock_{index}"
        attention, perceptron = f"{block}/MultiHeadDotProductAttention_1", f"{block}/MlpBlock_3"
        x = layer_norm(tokens, weights, f"{block}/LayerNorm_0")
        query, key, value = (
            torch.einsum("ntw,whd->nhtd", x, weights[f"{attention}/{part}/kernel"])
            + weights[f"{attention}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        shares = (torch.einsum("nhtd,nhsd->nhts", query, key) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        mixed = torch.einsum("nhts,nhsd->nthd", shares, value)
        mixed = torch.einsum("nthd,hdw->ntw", mixed, weights[f"{attention}/out/kernel"])
        tokens = tokens + mixed + weights[f"{attention}/out/bias"]
        x = layer_norm(tokens, weights, f"{block}/LayerNorm_2")
        x = F.gelu(x @ weights[f"{perceptron}/Dense_0/kernel"] + weights[f"{perceptron}/Dense_0/bias"])
        x = x @ weights[f"{perceptron}/Dense_1/kernel"] + weights[f"{perceptron}/Dense_1/bias"]
        tokens = tokens + x
    return layer_norm(tokens, weights, "Transformer/encoder_norm")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build encoders of a size that makes files of weights small."""
    replaced = functools.partial(load_network, **SMALL)
    monkeypatch.setattr("keypoint_detection.models.backbones.vit.load_network", replaced)


def write(path: Path, arrays: Arrays) -> str:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return str(path)


def build(pretrained_dir: str, **options) -> ViT:
    return ViT(encoder="ViT-Ti_16", n_channels=8, pretrained_dir=pretrained_dir, **options).eval()


@pytest.mark.usefixtures("small")
def test_the_network_computes_what_the_arrays_say(tmp_path: Path) -> None:
    arrays = google_arrays()
    backbone = build(write(tmp_path / "ViT.npz", arrays), class_token=True)
    image = torch.randn(2, 3, 224, 224)
    expected = forward_by_hand(arrays, image)
    tokens = backbone.encoder.forward_features(image).double()
    torch.testing.assert_close(tokens, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(backbone(image)[:, :, 0, 0].double(), expected[:, 0], rtol=1e-3, atol=1e-3)
    assert expected.std() > 0.1
    assert backbone.image_mean == backbone.image_std == (0.5, 0.5, 0.5)


@pytest.mark.usefixtures("small")
def test_positions_of_another_grid_are_resampled(tmp_path: Path) -> None:
    arrays = google_arrays(grid=24)
    backbone = build(write(tmp_path / "ViT-384.npz", arrays))
    loaded = backbone.encoder.pos_embed
    positions = torch.from_numpy(arrays["Transformer/posembed_input/pos_embedding"])
    grid = positions[0, 1:].T.reshape(1, WIDTH, 24, 24)
    assert loaded is not None
    assert torch.equal(loaded[:, 0], positions[:, 0])
    # The centre of new row 6 lies at (6 + 0.5) * 24 / 14 - 0.5 = 10.64: 0.36 of row 10, 0.64 of row 11.
    position = (6 + 0.5) * 24 / 14 - 0.5
    share = position - 10
    rows = (1 - share) * grid[0, :, 10] + share * grid[0, :, 11]
    expected = (1 - share) * rows[:, 10] + share * rows[:, 11]
    torch.testing.assert_close(loaded[0, 1 + 6 * 14 + 6], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("small")
def test_grey_images_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = google_arrays()
    write(tmp_path / "ViT.npz", arrays)
    monkeypatch.chdir(tmp_path)
    backbone = build("ViT.npz", n_channels_in=1)
    kernel = torch.from_numpy(arrays["embedding/kernel"]).permute(3, 2, 0, 1)
    torch.testing.assert_close(backbone.encoder.patch_embed.proj.weight, kernel.sum(1, keepdim=True))
    assert backbone.image_mean == backbone.image_std == (0.5,)


def test_hybrid_layout_is_read(tmp_path: Path) -> None:
    """A hybrid's ResNet has keys of its own; its tokens are made by a 1x1 convolution of 1024 channels."""
    torch.manual_seed(0)
    encoder = timm.create_model("vit_base_r50_s16_224", num_classes=0, dynamic_img_size=True, **SMALL)
    resnet = encoder.patch_embed.backbone
    arrays = google_arrays()
    arrays["embedding/kernel"] = np.zeros((1, 1, 1024, WIDTH), np.float32)

    def convolution(name: str, module: torch.nn.Conv2d) -> None:
        arrays[name] = np.full(module.weight.permute(2, 3, 1, 0).shape, 0.25, np.float32)

    def norm(name: str, module: torch.nn.Module) -> None:
        width = (1, 1, 1, len(module.weight))  # pyright: ignore[reportArgumentType]
        arrays[f"{name}/scale"], arrays[f"{name}/bias"] = (np.full(width, 0.5, np.float32) for _ in range(2))

    convolution("conv_root/kernel", resnet.stem.conv)
    norm("gn_root", resnet.stem.norm)
    for i, stage in enumerate(resnet.stages, 1):
        for j, block in enumerate(stage.blocks, 1):
            for k in (1, 2, 3):
                convolution(f"block{i}/unit{j}/conv{k}/kernel", getattr(block, f"conv{k}"))
                norm(f"block{i}/unit{j}/gn{k}", getattr(block, f"norm{k}"))
            if block.downsample is not None:
                convolution(f"block{i}/unit{j}/conv_proj/kernel", block.downsample.conv)
                norm(f"block{i}/unit{j}/gn_proj", block.downsample.norm)
    path = Path(write(tmp_path / "R50.npz", arrays))
    assert google_file_size(path) == ViTSize(WIDTH, DEPTH, HEADS, 4 * WIDTH, 1, hybrid=True)
    load_google_weights(encoder, path, "R50-ViT-B_16")
    for name, parameter in resnet.named_parameters():
        assert torch.unique(parameter).tolist() == [0.25 if parameter.ndim == 4 else 0.5], name
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    with pytest.raises(ValueError, match=r"patch 16 of the image; got .* patch 1 after a ResNet"):
        load_google_weights(plain, path, "ViT-Ti_16")


def test_sizes() -> None:
    with torch.device("meta"):
        encoder = timm.create_model("vit_huge_patch14_224", num_classes=0)
    assert network_size(encoder) == ViTSize(1280, 32, 16, 5120, 14, hybrid=False)
    assert str(network_size(encoder)) == (
        "width 1280, depth 32, 16 heads, hidden width 5120, patch 14 of the image"
    )


def refusal(path: Path | str, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        build(str(path))
    assert "\n" not in str(caught.value)
    assert str(Path(path).absolute()) in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("small")
def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "wide.npz", google_arrays(width=36)))
    assert "expected width 24, depth 2" in message
    assert "got width 36, depth 2" in message
    assert "'ViT-Ti_16'" in message
    assert "got width 24, depth 3" in refusal(write(tmp_path / "deep.npz", google_arrays(depth=3)))
    arrays = google_arrays()
    arrays["embedding/kernel"] = np.zeros((32, 32, 3, WIDTH), np.float32)  # timm would resample it
    assert "patch 32 of the image" in refusal(write(tmp_path / "patch.npz", arrays))


@pytest.mark.usefixtures("small")
def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "absent.npz", FileNotFoundError)
    assert "that is a folder" in refusal(tmp_path, FileNotFoundError)


@pytest.mark.usefixtures("small")
def test_other_layouts_are_refused_and_nothing_is_unpickled(tmp_path: Path) -> None:
    arrays = google_arrays()
    del arrays["cls"]
    assert "without cls" in refusal(write(tmp_path / "headless.npz", arrays))
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    assert "expected a .npz file with the keys embedding/kernel" in refusal(tmp_path / "weights.pth")
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "a single array" in refusal(tmp_path / "array.npy")
    (tmp_path / "text.npz").write_text("ViT")
    assert "not readable as Google's ViT weights" in refusal(tmp_path / "text.npz")
    whole = Path(write(tmp_path / "whole.npz", google_arrays())).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    assert "not readable" in refusal(tmp_path / "half.npz")
    for key in ("cls", "Transformer/encoder_norm/scale", "Transformer/encoderblock_1/LayerNorm_0/scale"):
        arrays = google_arrays()
        arrays[key] = np.array([Unpickled()], dtype=object)
        assert "allow_pickle=False" in refusal(write(tmp_path / "pickle.npz", arrays))
    arrays = google_arrays()
    arrays["Transformer/encoderblock_1/LayerNorm_0/scale"] = np.zeros(3, np.float32)
    assert "not readable" in refusal(write(tmp_path / "shape.npz", arrays))
    del arrays["Transformer/encoderblock_1/LayerNorm_0/scale"]
    assert "encoderblock_1/LayerNorm_0/scale is not a file" in refusal(write(tmp_path / "gap.npz", arrays))


def fail_when_unpickled() -> None:
    raise AssertionError("a pickle was read")


class Unpickled:
    """Refuse to be unpickled."""

    def __reduce__(self) -> tuple:
        return fail_when_unpickled, ()
