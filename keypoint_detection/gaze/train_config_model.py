"""The parts of GazeTrainConfig that say what is trained: network, diffusion, losses and optimiser."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from keypoint_detection.gaze.train_values import Grid, Options, Parts, Rates, WholeNumbers
from keypoint_detection.train.loss_names import loss_names
from keypoint_detection.train.values import OptionalText, Share, Size


class GazeModelConfig(BaseModel):
    """Hold the network; what is not given is as the preset has it."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    preset: Literal["published", "light"] = Field(
        default="published",
        description="what all that is not given below is taken from: the network of the publication (58 "
        "million parameters, scenes of 224x224), or one to train on two CPU cores (scenes of 128x128)",
    )
    image_size: Size = Field(default=None, description="HEIGHTxWIDTH that scenes are stretched to")
    head_size: Size = Field(default=None, description="HEIGHTxWIDTH that head crops are stretched to")
    map_size: Size = Field(default=None, description="HEIGHTxWIDTH of the heatmaps")
    scene_encoder: OptionalText = Field(
        default=None,
        description="encoder of the scene: resnet50_fifth_stage, light, or a backbone "
        "(keypoint-detection backbones lists them)",
    )
    scene_options: Options = Field(
        default_factory=dict, description="options of that encoder, such as 'output_stride=8'"
    )
    head_encoder: OptionalText = Field(
        default=None, description="encoder of the head; default: that of the scene"
    )
    head_options: Options = Field(default_factory=dict, description="options of that encoder")
    pretrained: bool = Field(
        default=False, description="start the encoders from pretrained weights, where they have some"
    )
    width: int | None = Field(
        default=None, ge=4, description="channels of a token, and so of what the decoder attends to"
    )
    grid: Grid = Field(default=None, description="rows and columns of the tokens of the scene")
    head_grid: Grid = Field(default=None, description="rows and columns of the tokens of the head")
    head_attention: bool | None = Field(
        default=None, description="weigh the scene by the place and the look of the head"
    )
    head_position: bool | None = Field(
        default=None, description="tell the tokens of the head where in the scene it is"
    )
    gaze_frame: bool | None = Field(
        default=None, description="read a direction from the head and tell every place how it lies from it"
    )
    mixing_layers: int | None = Field(
        default=None, ge=0, description="transformer layers over all tokens before the decoder"
    )
    mixing_heads: int | None = Field(default=None, ge=1, description="attention heads of those")
    decoder_width: int | None = Field(
        default=None, ge=4, description="channels of the decoder at full size; a multiple of 4"
    )
    multipliers: WholeNumbers = Field(
        default=None, description="channels of each level of the decoder, in multiples of its width"
    )
    decoder_blocks: int | None = Field(
        default=None, ge=1, description="residual blocks per level of the decoder"
    )
    attention_strides: WholeNumbers = Field(
        default=None, description="map pixels per pixel of the levels of the decoder that attend to tokens"
    )
    attention_heads: int | None = Field(default=None, ge=1, description="attention heads of the decoder")
    transformer_layers: int | None = Field(
        default=None, ge=1, description="layers of each transformer of the decoder"
    )
    overlay: bool | None = Field(
        default=None, description="also add the tokens of the scene to the maps where they lie"
    )
    scale_shift: bool | None = Field(
        default=None, description="let the time scale and shift features of the denoiser; false: add it"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="probability of leaving out a value in training"
    )


class GazeDiffusionConfig(BaseModel):
    """Hold how maps are drawn."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    decoder: Literal["diffusion", "direct"] = Field(
        default="diffusion",
        description="draw maps from noise, so that several samples tell how sure it is; or one map directly",
    )
    prediction: Literal["x0", "noise", "v"] = Field(
        default="x0", description="what the denoiser is asked for"
    )
    noise_schedule: Literal["linear", "cosine"] = Field(default="linear", description="betas of the noise")
    zero_terminal_snr: bool = Field(default=False, description="let the last timestep be noise alone")
    n_timesteps: int = Field(default=1000, ge=1, description="timesteps of the training")
    sampler: str = Field(
        default="ddim",
        description="ddim, ddpm, or with diffusers installed dpmsolver++, sde-dpmsolver++, unipc, euler",
    )
    sampling_steps: int = Field(default=50, ge=1, description="steps of the sampling, up to the timesteps")
    eta: Share = Field(default=0.0, description="share of fresh noise of ddim")
    map_scale: float = Field(
        default=0.1, gt=0, description="greatest value of what is drowned in noise; small ones drown early"
    )
    standardize_input: bool = Field(
        default=True, description="divide what the denoiser sees by its standard deviation"
    )
    offset_noise: float = Field(
        default=0.0, ge=0, description="strength of noise that is the same for a whole map"
    )
    loss_weights: Literal["constant", "snr", "truncated_snr", "inverse_snr", "min_snr", "max_snr"] = Field(
        default="constant", description="how much each timestep counts"
    )
    loss_weights_k: float = Field(default=5.0, gt=0, description="limit of min_snr and max_snr")


class GazeLossConfig(BaseModel):
    """Hold what counts as an error, and how much."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    sigma_px: float = Field(default=3.0, gt=0, description="standard deviation of the target in map pixels")
    loss_function: Literal[loss_names("heatmap")] = Field(  # pyright: ignore[reportInvalidTypeForm]
        default="BCE", description=f"loss of a direct decoder: {', '.join(loss_names('heatmap'))}"
    )
    in_out_weight: float = Field(
        default=1.0, ge=0, description="weight of telling who looks into the image; 0 leaves it untrained"
    )
    kl_weight: float = Field(default=0.0, ge=0, description="weight of the divergence of map and target")
    point_weight: float = Field(
        default=0.0, ge=0, description="weight of the squared distance of the map's soft argmax"
    )
    direction_weight: float = Field(
        default=0.0, ge=0, description="weight of the direction that is read; with --gaze_frame"
    )


class GazeOptimizerConfig(BaseModel):
    """Hold how the weights change."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    learning_rate: float = Field(default=2.5e-4, gt=0, description="peak learning rate of AdamW")
    learning_rates: Rates = Field(
        default_factory=dict,
        description="factors of it for parts, such as 'scene=0.1 head=0.1'; parts: scene, head, conditioner, "
        "in_out, denoiser (also that of a direct decoder)",
    )
    freeze: Parts = Field(
        default=None, description="parts to keep as they are, batch statistics too, such as 'scene head'"
    )
    init_weights: OptionalText = Field(
        default=None, description="start from the weights of this checkpoint, as far as they fit"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="decay of the weights")
    warmup: Share = Field(
        default=0.05, description="share of the run in which the learning rate rises to its peak"
    )
    decay_type: Literal["cosine", "linear", "constant", "onecycle"] = Field(
        default="cosine", description="what the learning rate does after that"
    )
    final_lr_share: Share = Field(default=0.0, description="learning rate at the end, as a share of the peak")
    gradient_clip_val: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0: none")
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="validate with, and keep, an average of the weights that keeps this share in a step, "
        "such as 0.999; 0: none",
    )
