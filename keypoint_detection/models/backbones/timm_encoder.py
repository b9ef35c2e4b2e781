"""Convolutional encoders from timm: found by name, checked, built with or without pretrained weights."""

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.decoder import BatchNorm
from keypoint_detection.registry import nearest_name

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


@dataclass(frozen=True)
class TimmEncoder:
    """Hold an encoder and what a decoder needs to know about it.

    Attributes:
        network: Maps an image to a list of feature maps, from fine to coarse.
        widths: Channels of each map.
        strides: Image pixels per pixel of each map.
        normalization: `image_mean` and `image_std` that the weights were trained with.
        image_side: Height and width of the images that the weights were trained with, in pixels.
    """

    network: nn.Module
    widths: list[int]
    strides: list[int]
    normalization: dict[str, tuple[float, ...] | None]
    image_side: int


class BatchNormAct(BatchNorm):
    """Replace timm's `BatchNormAct2d`, whose layers `drop` and `act` it keeps, where one value may come."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalise and activate `[n, c, h, w]`."""
        return self.act(self.drop(super().forward(input)))


def create_encoder(
    backbone: str,
    encoder: str,
    n_channels_in: int,
    *,
    pretrained: bool,
    finest_stride: int = 1,
    family: str = "*",
    timm_arguments: Mapping[str, Any] | None = None,
) -> TimmEncoder:
    """Build an encoder that gives its feature maps of every stride from `finest_stride` on.

    Args:
        backbone: Name of the backbone that asks, for messages.
        encoder: Name in timm, optionally with the tag of its weights (`name.tag`).
        n_channels_in: Channels of the image.
        pretrained: Fill in timm's weights: from the file that `pretrained_file` names if it exists, else from
            the model hub.
        finest_stride: Feature maps of smaller strides are left out.
        family: Pattern that the name has to match, such as `convnext*`.
        timm_arguments: More arguments for `timm.create_model` that encoders of that family know.

    Raises:
        ValueError: If timm has no such encoder or no such tag.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """
    import timm

    configuration = encoder_configuration(backbone, encoder, family)
    arguments = {"features_only": True, "in_chans": n_channels_in, **(timm_arguments or {})}
    if finest_stride > 1:
        with torch.device("meta"):
            strides = timm.create_model(encoder, **arguments).feature_info.reduction()  # pyright: ignore
        chosen = [index for index, stride in enumerate(strides) if stride >= finest_stride]
        arguments["out_indices"] = tuple(chosen)
    network: Any = load_network(encoder, configuration, pretrained, **arguments)
    _adapt_batch_norms(network, pretrained)
    return TimmEncoder(
        network,
        network.feature_info.channels(),
        network.feature_info.reduction(),
        normalization(configuration, n_channels_in),
        configuration.input_size[-1],
    )


def _adapt_batch_norms(network: nn.Module, pretrained: bool) -> None:
    """Let a network's batch normalisations take one value per channel, and its residual branches learn.

    timm starts the last scale of most residual branches at 0, so that the layers before it get no gradient
    in the first step. A small scale keeps the reason for it (blocks start close to the identity).
    """
    adapted = {"BatchNorm2d": BatchNorm, "BatchNormAct2d": BatchNormAct}
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Only the behaviour changes: parameters, statistics and their names stay as they are.
            module.__class__ = adapted.get(type(module).__name__, type(module))
            if not pretrained:
                module.weight.data.masked_fill_(module.weight == 0, 0.1)


def check_pyramid(backbone: str, encoder: str) -> None:
    """Check, without memory or computing, that an encoder halves images of any size step by step.

    Args:
        backbone: Name of the backbone that asks, for messages.
        encoder: Name in timm, optionally with the tag of its weights.

    Raises:
        ValueError: If it does not; the message says what it does and names alternatives.
    """
    fixed = encoder_configuration(backbone, encoder).fixed_input_size
    failure = "takes images of one size only" if fixed else _pyramid_failure(encoder)
    if failure:
        raise ValueError(
            f"{backbone} needs an encoder whose feature maps halve step by step for images of any size, but "
            f"{encoder!r} {failure}; use a convolutional encoder such as resnet18, or the backbone ViT."
        )


def _pyramid_failure(encoder: str) -> str:
    """Return how the feature maps of an encoder fail to halve step by step; nothing where they do."""
    import timm

    try:
        with torch.device("meta"):
            network: Any = timm.create_model(encoder, features_only=True).eval()
            strides, widths = network.feature_info.reduction(), network.feature_info.channels()
            height, width = 2 * strides[-1], 3 * strides[-1]
            shapes = [list(features.shape) for features in network(torch.empty(1, 3, height, width))]
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return f"gives no feature maps ({type(error).__name__})"
    expected = [
        [1, channels, height // stride, width // stride]
        for channels, stride in zip(widths, strides, strict=True)
    ]
    if shapes == expected and all(coarse == 2 * fine for fine, coarse in pairwise(strides)):
        return ""
    return f"has strides {strides} and maps [1, 3, {height}, {width}] to {', '.join(map(str, shapes))}"


def normalization(configuration: "PretrainedCfg", n_channels_in: int) -> dict[str, Any]:
    """Return `image_mean` and `image_std` of an encoder; None for images of another kind than it knows."""
    known = n_channels_in == len(configuration.mean)
    mean, std = tuple(configuration.mean), tuple(configuration.std)
    return {"image_mean": mean if known else None, "image_std": std if known else None}


def encoder_configuration(backbone: str, encoder: str, family: str = "*") -> "PretrainedCfg":
    """Return timm's description of an encoder's weights: where they are, and the normalisation they expect.

    Args:
        backbone: Name of the backbone that asks, for messages.
        encoder: Name in timm, optionally with the tag of its weights (`name.tag`).
        family: Pattern that the name has to match, such as `convnext*`.

    Raises:
        ValueError: If timm has no such encoder in that family, or no such tag.
    """
    import timm

    architecture, _, tag = encoder.partition(".")
    known = timm.list_models(family)
    if architecture not in known:
        listed = "see timm.list_models()" if len(known) > 100 else f"known: {', '.join(known)}"
        raise ValueError(
            f"{backbone} has no encoder {encoder!r}; {listed}.{nearest_name(architecture, known)}"
        )
    configuration = timm.get_pretrained_cfg(architecture)
    known_tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag:
        if tag not in known_tags:
            raise ValueError(
                f"encoder {architecture!r} has no weights {tag!r}; known: {', '.join(known_tags) or 'none'}."
                f"{nearest_name(tag, known_tags)}"
            )
        configuration = timm.get_pretrained_cfg(encoder)
    assert configuration is not None
    return configuration


def pretrained_file(configuration: "PretrainedCfg") -> Path:
    """Return the file that an encoder's weights are read from if it exists, before the model hub is asked."""
    name = f"{configuration.architecture}.{configuration.tag}.safetensors"
    return Path(torch.hub.get_dir()) / "checkpoints" / name


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the hub's client from repeating itself, and from trying for a minute where there is no network."""
    from huggingface_hub import constants

    was_offline = constants.HF_HUB_OFFLINE
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True  # what an earlier run has downloaded is still found
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def load_network(
    encoder: str, configuration: "PretrainedCfg", pretrained: bool, **arguments: Any
) -> nn.Module:
    """Build a network of timm, with its pretrained weights when asked for.

    Args:
        encoder: Name in timm, optionally with the tag of its weights.
        configuration: Its `encoder_configuration`.
        pretrained: Whether to fill in weights.
        **arguments: For `timm.create_model`.

    Raises:
        FileNotFoundError: If the weights are neither on disk nor downloadable.
    """
    import timm

    weights_file = pretrained_file(configuration)
    local_weights = {"file": str(weights_file)} if pretrained and weights_file.is_file() else None
    create: Callable[..., nn.Module] = timm.create_model
    try:
        with _quiet_hub() if pretrained and local_weights is None else nullcontext():
            return create(encoder, pretrained=pretrained, pretrained_cfg_overlay=local_weights, **arguments)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise FileNotFoundError(
            f"no pretrained weights of encoder {encoder!r}: downloading model.safetensors of "
            f"https://huggingface.co/{configuration.hf_hub_id} failed ({type(error).__name__}); save it as "
            f"{weights_file}, or train without --pretrained."
        ) from error
