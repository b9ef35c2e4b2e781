"""From a GazeTrainConfig to a new GazeFollower: the preset, what was given beside it, and initial weights."""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from keypoint_detection.gaze.encoders import FIFTH_STAGE
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.network_presets import PRESETS
from keypoint_detection.gaze.sampling_diffusers import SAMPLERS
from keypoint_detection.gaze.train_config import GazeTrainConfig
from keypoint_detection.models.backbones.backbone_factory import backbone_options, list_backbones
from keypoint_detection.train.values import parse_size
from keypoint_detection.utils.init_weights import describe, init_weights

logger = logging.getLogger("keypoint_detection")

HW = tuple[int, int]

SIZES: dict[str, tuple[HW, HW]] = {"published": ((224, 224), (224, 224)), "light": ((128, 128), (32, 32))}
"""Height and width of scene and head of each preset."""

_GIVEN_OF_CONDITIONER = {
    "width": "width",
    "grid": "grid_hw",
    "head_grid": "head_grid_hw",
    "head_attention": "head_attention",
    "head_position": "head_position",
    "gaze_frame": "gaze_frame",
    "mixing_layers": "mixing_layers",
    "mixing_heads": "mixing_heads",
}
_GIVEN_OF_DECODER = {
    "decoder_width": "base_width",
    "multipliers": "multipliers",
    "decoder_blocks": "n_blocks",
    "attention_strides": "attention_strides",
    "attention_heads": "heads",
    "transformer_layers": "transformer_layers",
    "overlay": "overlay",
}
_DIFFUSION = (
    *("n_timesteps", "zero_terminal_snr", "prediction", "map_scale", "standardize_input", "offset_noise"),
    *("loss_weights", "loss_weights_k", "sampler", "sampling_steps", "eta"),
)
_OF_FOLLOWER = (
    *("sigma_px", "in_out_weight", "kl_weight", "point_weight", "direction_weight", "learning_rate"),
    *("learning_rates", "weight_decay", "warmup", "decay_type", "final_lr_share"),
)


def make_follower(config: GazeTrainConfig, *, is_resumed: bool = False) -> GazeFollower:
    """Return a new follower for a configuration.

    Args:
        config: Every choice.
        is_resumed: The weights come from the checkpoint to go on from: read no others.

    Raises:
        FileNotFoundError: There are no weights to start from where they should be.
        ValueError: Options do not fit together, or none of the weights fits.
    """
    _check_sampler(config)
    conditioner = conditioner_options(config, pretrained=config.pretrained and not is_resumed)
    scene_hw, head_hw = input_sizes(config)
    follower = GazeFollower(
        config.decoder,
        conditioner,
        decoder_options(config, conditioner),
        scene_hw=scene_hw,
        head_hw=head_hw,
        frozen=config.freeze or (),
        **{name: getattr(config, name) for name in _OF_FOLLOWER},
    )
    if config.init_weights is not None and not is_resumed:
        for line in describe(init_weights(follower, config.init_weights)):
            logger.info(line)
    return follower


def input_sizes(config: GazeTrainConfig) -> tuple[HW, HW]:
    """Return height and width of scenes and of head crops."""
    scene, head = SIZES[config.preset]
    return (
        parse_size(config.image_size) if config.image_size else scene,
        parse_size(config.head_size) if config.head_size else head,
    )


def conditioner_options(config: GazeTrainConfig, *, pretrained: bool) -> dict[str, Any]:
    """Return the options of the conditioner: those of the preset, and over them those given."""
    preset = PRESETS[config.preset]["conditioner"]
    own = preset.get("scene_encoder", FIFTH_STAGE)
    scene = config.scene_encoder or own
    head = config.head_encoder or scene
    options = {**preset, **_given(config, _GIVEN_OF_CONDITIONER)}
    options |= {"scene_encoder": scene, "head_encoder": head}
    options |= {"dropout": config.dropout, "depth": config.depth_folder is not None}
    if config.depth_folder is not None:
        options |= _one_grid(config, options)
    of_scene = {**(preset.get("scene_options", {}) if scene == own else {}), **config.scene_options}
    of_head = {**(preset.get("head_options", {}) if head == own else {}), **config.head_options}
    if head == scene and not config.head_options and not of_head:
        of_head = of_scene
    options["scene_options"] = _with_weights(scene, of_scene, pretrained)
    options["head_options"] = _with_weights(head, of_head, pretrained)
    return options


def decoder_options(config: GazeTrainConfig, conditioner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the decoder that fits a conditioner."""
    kind = "denoiser" if config.decoder == "diffusion" else "direct"
    network = {**PRESETS[config.preset][kind], **_given(config, _GIVEN_OF_DECODER), "dropout": config.dropout}
    network["context_dim"] = conditioner.get("width", 1024)
    network["token_grid_hw"] = conditioner.get("grid_hw", (7, 7))
    if config.map_size is not None:
        network["map_hw"] = parse_size(config.map_size)
    if config.decoder == "direct":
        return {"decoder": network, "loss_function": config.loss_function}
    if config.scale_shift is not None:
        network["scale_shift"] = config.scale_shift
    values = {name: getattr(config, name) for name in _DIFFUSION}
    return {"denoiser": network, "schedule": config.noise_schedule, **values}


def _check_sampler(config: GazeTrainConfig) -> None:
    """Say before a training, not after it, that a library is missing."""
    is_used = config.decoder == "diffusion" and config.sampler in SAMPLERS
    if is_used and find_spec("diffusers") is None:
        raise ValueError(
            f"--sampler {config.sampler} needs diffusers, which is not installed; run: pip install "
            "'keypoint-detection[gaze]', or sample with ddim"
        )


def _given(config: GazeTrainConfig, names: Mapping[str, str]) -> dict[str, Any]:
    values = {option: getattr(config, name) for name, option in names.items()}
    return {option: value for option, value in values.items() if value is not None}


def _one_grid(config: GazeTrainConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of the head that a depth branch needs: that of the scene."""
    grid = list(options.get("grid_hw", (7, 7)))
    if config.head_grid is not None and config.head_grid != grid:
        raise ValueError(
            "--depth_folder joins scene and head cell by cell: expected a --head_grid as the --grid has, "
            f"{grid[0]} {grid[1]}, got {config.head_grid[0]} {config.head_grid[1]}"
        )
    return {"head_grid_hw": options["grid_hw"]} if "grid_hw" in options else {}


def _with_weights(encoder: str, options: dict[str, Any], pretrained: bool) -> dict[str, Any]:
    """Say whether an encoder reads pretrained weights: never unless it was asked for."""
    can = encoder == FIFTH_STAGE or (
        encoder in list_backbones() and "pretrained" in backbone_options(encoder)
    )
    if can:
        return {**options, "pretrained": options.get("pretrained", pretrained)}
    if pretrained:
        raise ValueError(f"--pretrained: the encoder {encoder!r} has no pretrained weights; choose another")
    return options
