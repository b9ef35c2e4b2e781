"""Sizes of Vision Transformers, and weights in Google's original `.npz` layout, which have to fit them."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.npyio import NpzFile

if TYPE_CHECKING:
    from timm.models import VisionTransformer

GOOGLE_URL = "https://storage.googleapis.com/vit_models/imagenet21k+imagenet2012"
_BLOCK = "Transformer/encoderblock_"
_HEADS = f"{_BLOCK}0/MultiHeadDotProductAttention_1/query/bias"
_HIDDEN = f"{_BLOCK}0/MlpBlock_3/Dense_0/bias"
_REQUIRED = (
    "embedding/kernel",
    "embedding/bias",
    "cls",
    "Transformer/posembed_input/pos_embedding",
    "Transformer/encoder_norm/scale",
    _HEADS,
    _HIDDEN,
)
_BROKEN_FILE = (
    EOFError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,  # what torch raises for arrays of another shape
    TypeError,
    ValueError,  # what NumPy raises for pickled objects
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class ViTSize:
    """Hold the numbers that tell Vision Transformers apart.

    Attributes:
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads of a block.
        hidden: Channels in the middle of a block's perceptron.
        patch: Side of the kernel that makes tokens: of image pixels, or of a hybrid's feature pixels.
        hybrid: Whether tokens are made from the features of a ResNet.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    hybrid: bool

    def __str__(self) -> str:
        stem = "after a ResNet" if self.hybrid else "of the image"
        return (
            f"width {self.width}, depth {self.depth}, {self.heads} heads, hidden width {self.hidden}, "
            f"patch {self.patch} {stem}"
        )


def network_size(encoder: "VisionTransformer") -> ViTSize:
    """Return the size of a network of timm."""
    block, embedding = encoder.blocks[0], encoder.patch_embed
    return ViTSize(
        encoder.embed_dim,
        len(encoder.blocks),
        block.attn.num_heads,  # pyright: ignore  attributes of modules are untyped
        block.mlp.fc1.out_features,  # pyright: ignore
        embedding.proj.kernel_size[0],
        hasattr(embedding, "backbone"),
    )


def check_google_file(path: Path) -> None:
    """Check that there is a file to read weights from, before anything is built.

    Raises:
        FileNotFoundError: If there is none; the message says what the path may be.
    """
    if not path.is_file():
        came = "that is a folder" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(
            f"pretrained_dir needs a Google .npz file of ViT weights, got {path.absolute()}: {came}; "
            f"download one from {GOOGLE_URL} and name it, a relative path starts in the working directory."
        )


def google_file_size(path: Path) -> ViTSize:
    """Return the size of the network whose weights a file holds; nothing in it is unpickled.

    Raises:
        ValueError: If it is not a `.npz` file in Google's original layout; the message lists missing keys.
    """
    try:
        with path.open("rb") as file:
            return _size(np.load(file, allow_pickle=False))
    except _BROKEN_FILE as error:
        raise ValueError(_unreadable(path, error)) from error


def load_google_weights(encoder: "VisionTransformer", path: Path, name: str) -> None:
    """Fill a network with weights in Google's original layout; the classifier in the file is not used.

    Position embeddings of another grid are resampled bilinearly, the kernel of the first convolution is
    summed or repeated to the network's number of image channels.

    Args:
        encoder: The network, built by timm.
        path: A `.npz` file with the keys of the original release.
        name: What the user calls the network, for messages.

    Raises:
        ValueError: If the file has another layout, or is of a ViT of another size.
    """
    expected, came = network_size(encoder), google_file_size(path)
    if came != expected:
        raise ValueError(
            f"{path.absolute()} is of another size than encoder {name!r}: expected {expected}; got {came}; "
            f"use the encoder that the file was made for, or the file of this one from {GOOGLE_URL}."
        )
    try:
        with path.open("rb") as file:  # given a path, timm leaves the file open where it fails
            encoder.load_pretrained(file)  # pyright: ignore[reportArgumentType]  NumPy reads it as well
    except _BROKEN_FILE as error:
        raise ValueError(_unreadable(path, error)) from error


def _size(weights: NpzFile | np.ndarray) -> ViTSize:
    if not isinstance(weights, NpzFile):
        raise ValueError("a single array without keys")
    missing = [key for key in _REQUIRED if key not in weights.files]
    if missing:
        came = ", ".join(weights.files[:3])
        raise ValueError(f"{came}, ... without {', '.join(missing[:3])}")
    kernel, heads, hidden = weights["embedding/kernel"], weights[_HEADS], weights[_HIDDEN]
    blocks = {key.split("/")[1] for key in weights.files if key.startswith(_BLOCK)}
    return ViTSize(
        width=len(weights["Transformer/encoder_norm/scale"]),
        depth=len(blocks),
        heads=len(heads),
        hidden=len(hidden),
        patch=len(kernel),
        hybrid="conv_root/kernel" in weights.files,
    )


def _unreadable(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return (
        f"{path.absolute()} is not readable as Google's ViT weights: expected a .npz file with the keys "
        f"{', '.join(_REQUIRED[:4])}, {_BLOCK}0/..., got {reason}; use a file from {GOOGLE_URL}."
    )
