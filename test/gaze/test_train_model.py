from pathlib import Path

import pytest
import torch

from keypoint_detection.gaze.decoders import DiffusionDecoder, MapDecoder
from keypoint_detection.gaze.named_groups import named_groups
from keypoint_detection.gaze.train_config import GazeTrainConfig
from keypoint_detection.gaze.train_model import (
    conditioner_options,
    decoder_options,
    input_sizes,
    make_follower,
)


def config(**values: object) -> GazeTrainConfig:
    return GazeTrainConfig(**{"data": "x", **values})  # pyright: ignore[reportArgumentType]


def light(**values: object) -> GazeTrainConfig:
    return config(preset="light", **values)


def test_the_published_network_is_the_default() -> None:
    follower = make_follower(config())
    n_parameters = sum(parameter.numel() for parameter in follower.parameters())
    assert n_parameters == pytest.approx(58.2e6, rel=0.03)
    assert follower.map_hw == (64, 64)
    assert follower.conditioner.n_tokens == 98
    assert follower.conditioner.token_width == 1024
    assert input_sizes(config()) == ((224, 224), (224, 224))


def test_what_is_given_goes_over_the_preset() -> None:
    follower = make_follower(
        light(
            width=32,
            grid="8 8",
            map_size="16x24",
            decoder_width=8,
            multipliers="1 2",
            attention_strides="2",
            attention_heads=2,
            mixing_layers=2,
            gaze_frame="false",
            head_attention=True,
            scale_shift=False,
            image_size="64x64",
            sigma_px=1.0,
            noise_schedule="cosine",
            prediction="v",
            map_scale=0.5,
        )
    )
    assert follower.conditioner.token_width == 32
    assert follower.conditioner.grid_hw == (8, 8)
    assert follower.conditioner.gaze_frame is None
    assert follower.conditioner.head_attention is not None
    assert follower.map_hw == (16, 24)
    assert isinstance(follower.decoder, DiffusionDecoder)
    assert follower.decoder.denoiser.context_dim == 32
    assert follower.decoder.denoiser.attention_strides == (2,)
    assert (follower.decoder.prediction, follower.decoder.map_scale) == ("v", 0.5)
    assert follower.hparams["scene_hw"] == (64, 64)
    assert follower.hparams["sigma_px"] == 1.0


@pytest.mark.parametrize("decoder", ["diffusion", "direct"])
@pytest.mark.parametrize("preset", ["light", "published"])
def test_the_context_follows_the_conditioner(decoder: str, preset: str) -> None:
    for values in ({}, {"width": 48, "grid": "8 4"}):
        given = config(preset=preset, decoder=decoder, **values)
        conditioner = conditioner_options(given, pretrained=False)
        options = decoder_options(given, conditioner)
        network = options["denoiser" if decoder == "diffusion" else "decoder"]
        assert network["context_dim"] == conditioner.get("width", 1024)
        assert list(network["token_grid_hw"]) == list(conditioner.get("grid_hw", (7, 7)))


def test_every_option_of_the_diffusion_arrives() -> None:
    values = {
        "prediction": "v",
        "zero_terminal_snr": True,
        "n_timesteps": 30,
        "sampler": "ddpm",
        "sampling_steps": 7,
        "map_scale": 0.3,
        "standardize_input": False,
        "offset_noise": 0.2,
        "eta": 0.0,
        "loss_weights": "min_snr",
        "loss_weights_k": 3.0,
    }
    decoder = make_follower(light(**values)).decoder
    assert isinstance(decoder, DiffusionDecoder)
    for name in ("prediction", "sampler", "sampling_steps", "map_scale", "standardize_input", "offset_noise"):
        assert getattr(decoder, name) == values[name]
    assert len(decoder.schedule) == 30
    assert decoder.schedule.exact_alpha_bar[-1] == 0
    assert decoder.weights[0] == pytest.approx(3.0 / (decoder.schedule.snr()[0].item() + 1))


def test_a_missing_library_is_told_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keypoint_detection.gaze.train_model.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--sampler unipc needs diffusers"):
        make_follower(light(sampler="unipc"))
    assert make_follower(light(sampler="ddpm")).decoder.map_hw == (32, 32)
    assert make_follower(light(sampler="unipc", decoder="direct")).decoder.map_hw == (32, 32)


def test_a_direct_decoder_has_its_loss() -> None:
    follower = make_follower(light(decoder="direct", loss_function="MSE"))
    assert isinstance(follower.decoder, MapDecoder)
    assert follower.hparams["decoder_options"]["loss_function"] == "MSE"


def test_another_encoder_takes_no_options_of_the_one_of_the_preset() -> None:
    given = light(scene_encoder="MobileNetV3", scene_options="output_stride=4", head_encoder="light")
    options = conditioner_options(given, pretrained=False)
    assert options["scene_options"] == {"output_stride": 4, "pretrained": False}
    assert options["head_options"] == {"stride": 8}
    assert conditioner_options(light(scene_encoder="MobileNetV3"), pretrained=False)["head_options"] == {
        "pretrained": False
    }
    assert make_follower(given).conditioner.grid_hw == (16, 16)


def test_pretrained_weights_are_read_only_when_asked_for() -> None:
    assert conditioner_options(config(), pretrained=False)["scene_options"] == {"pretrained": False}
    options = conditioner_options(config(pretrained=True), pretrained=True)
    assert options["scene_options"] == options["head_options"] == {"pretrained": True}
    given = config(scene_options="pretrained=false", pretrained=True)
    options = conditioner_options(given, pretrained=True)
    assert (options["scene_options"]["pretrained"], options["head_options"]["pretrained"]) == (False, False)
    with pytest.raises(ValueError, match="--pretrained: the encoder 'light' has no pretrained"):
        make_follower(light(pretrained=True))


def test_weights_of_another_run_are_the_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = make_follower(light(decoder="direct"))
    path = tmp_path / "first.ckpt"
    torch.save({"hyper_parameters": dict(first.hparams), "state_dict": first.state_dict()}, path)
    torch.manual_seed(1)
    second = make_follower(light(init_weights=str(path)))
    before, after = first.state_dict(), second.state_dict()
    shared = [name for name in before if name.startswith(("conditioner", "in_out"))]
    assert shared
    assert all(torch.equal(before[name], after[name]) for name in shared)
    torch.manual_seed(1)
    resumed = make_follower(light(init_weights=str(path)), is_resumed=True)
    assert not torch.equal(resumed.state_dict()[shared[0]], before[shared[0]])
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        make_follower(light(init_weights=str(tmp_path / "none.ckpt")))


def test_freezing_and_learning_rates_arrive() -> None:
    follower = make_follower(light(freeze="scene", learning_rates="denoiser=2"))
    assert not any(parameter.requires_grad for parameter in named_groups(follower)["scene"])
    assert follower.hparams["learning_rates"] == {"denoiser": 2}
    with pytest.raises(ValueError, match="Did you mean 'light'"):
        make_follower(light(scene_encoder="ligth"))


def test_a_depth_branch_takes_the_grid_of_the_scene_for_the_head() -> None:
    assert make_follower(light(depth_folder="maps")).conditioner.head_grid_hw == (16, 16)
    assert make_follower(light(depth_folder="maps", grid="8 8")).conditioner.head_grid_hw == (8, 8)
    with pytest.raises(ValueError, match="expected a --head_grid as the --grid has, 16 16, got 4 4"):
        make_follower(light(depth_folder="maps", head_grid="4 4"))
