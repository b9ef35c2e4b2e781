"""The conditioner: sizes, places, options, and the whole published network."""

from pathlib import Path

import pytest
import torch
from conditioners import VARIANTS, batch, build, randomized
from torch import nn

from keypoint_detection.gaze.conditioner import Conditioner, Conditioning, to_map, to_tokens
from keypoint_detection.gaze.denoiser import Denoiser
from keypoint_detection.gaze.in_out_head import InOutHead
from keypoint_detection.gaze.network_presets import LIGHT, PRESETS


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_network_has_58_million_parameters() -> None:
    conditioner, denoiser = Conditioner(), Denoiser()
    in_out_head = InOutHead(conditioner.feature_channels, conditioner.grid_hw)
    assert count(conditioner) + count(in_out_head) + count(denoiser) == pytest.approx(58.2e6, rel=0.03)
    for encoder in (conditioner.scene_encoder, conditioner.head_encoder):
        assert count(encoder) == pytest.approx(28.1e6, rel=0.005)
    assert (conditioner.n_tokens, conditioner.token_width) == (98, 1024)
    with torch.no_grad():
        conditioning = conditioner.eval()(*batch(conditioner, 1, (224, 224), (224, 224)))
        denoised = denoiser(torch.randn(1, 1, 64, 64), torch.tensor([5]), conditioning.tokens)
    assert conditioning.tokens.shape == (1, 98, 1024)
    assert conditioning.features.shape == (1, 2048, 7, 7)
    assert denoised.shape == (1, 1, 64, 64)
    assert in_out_head.eval()(conditioning.features).shape == (1,)


def test_the_published_network_with_depth_has_88_million_parameters() -> None:
    with torch.device("meta"):
        assert count(Conditioner(depth=True)) == pytest.approx(88.6e6, rel=0.005)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_parts_of_a_preset_fit_together(preset: str) -> None:
    options = PRESETS[preset]
    conditioner = Conditioner(**options["conditioner"])
    denoiser = Denoiser(**options["denoiser"])
    assert denoiser.context_dim == conditioner.token_width
    assert tuple(options["denoiser"].get("token_grid_hw", (7, 7))) == conditioner.grid_hw


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scene_hw", [(64, 64), (193, 257)])
def test_shapes_for_any_size_and_a_batch_of_one_in_training(variant: str, scene_hw: tuple[int, int]) -> None:
    conditioner = build(variant)
    tokens, features, direction = conditioner(*batch(conditioner, 1, scene_hw, (65, 97)))
    rows, columns = conditioner.grid_hw
    assert tokens.shape == (1, conditioner.n_tokens, 16)
    assert features.shape == (1, conditioner.feature_channels, rows, columns)
    assert (direction is None) == (conditioner.gaze_frame is None)
    assert tokens.isfinite().all()
    assert features.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_parameter(variant: str) -> None:
    conditioner = build(variant)
    conditioner(*batch(conditioner)).tokens.pow(3).sum().backward()
    for name, parameter in conditioner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_tokens_keep_their_places() -> None:
    """One bright cell lights one token, in all of its channels; `view` would scatter it over many."""
    for cell in range(6):
        features = torch.zeros(1, 5, 2, 3)
        features[0, :, cell // 3, cell % 3] = torch.arange(1.0, 6.0)
        tokens = to_tokens(features)
        assert torch.equal(tokens[0, cell], torch.arange(1.0, 6.0))
        assert tokens.abs().sum() == 15.0
        assert torch.equal(to_map(tokens, (2, 3)), features)


@torch.no_grad()
def test_a_bright_cell_of_the_scene_lights_its_token() -> None:
    conditioner = randomized("plain")
    scene, head, mask = batch(conditioner, 1)
    plain = conditioner(torch.zeros_like(scene), head, mask)
    for cell in range(16):
        row, column = cell // 4, cell % 4
        bright = torch.zeros_like(scene)
        bright[:, :, 16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12] = 255
        found = conditioner(bright, head, mask)
        change = (found.tokens - plain.tokens)[0].abs().sum(1)
        assert change.argmax() == cell
        assert not change[16:].any()  # the tokens of the head come after those of the scene
        of_map = (found.features - plain.features)[0].abs().sum(0)
        assert of_map.flatten().argmax() == cell


@torch.no_grad()
def test_positions_are_added_to_tokens_and_not_to_features() -> None:
    conditioner = randomized("plain")
    found = conditioner(*batch(conditioner))
    scene, head = found.features.chunk(2, dim=1)
    expected = torch.cat([to_tokens(scene), to_tokens(head)], dim=1)
    positions = torch.cat([conditioner.scene_positions, conditioner.head_positions])
    torch.testing.assert_close(found.tokens, expected + positions)


@torch.no_grad()
def test_the_mask_says_whose_gaze_it_is() -> None:
    for variant in VARIANTS:
        conditioner = randomized(variant)
        scene, head, mask, *depth = batch(conditioner, 1)
        elsewhere = conditioner(scene, head, mask.flip(3), *depth)
        change = (elsewhere.tokens - conditioner(scene, head, mask, *depth).tokens).abs().amax((0, 2))
        assert (change[: conditioner.n_scene_tokens] > 1e-6).any(), variant
        if conditioner.head_place is not None:
            assert (change[conditioner.n_scene_tokens :] > 1e-6).all(), variant


@torch.no_grad()
def test_depth_matters_and_is_asked_for() -> None:
    conditioner = randomized("depth")
    scene, head, mask, depth = batch(conditioner)
    found = conditioner(scene, head, mask, depth).tokens
    change = (conditioner(scene, head, mask, 255 - depth).tokens - found).abs().amax((0, 2))
    assert not change[:16].any()  # scene with head
    assert (change[16:] > 1e-6).all()  # depth with head
    with pytest.raises(ValueError, match="pass depth maps"):
        conditioner(scene, head, mask)
    with pytest.raises(ValueError, match="set the option depth"):
        randomized("plain")(scene, head, mask, depth)
    with pytest.raises(ValueError, match="use the same"):
        build("depth", head_grid_hw=(2, 2))


def test_several_samples_of_an_image_stand_together() -> None:
    tokens, features = torch.arange(6.0).view(3, 1, 2), torch.arange(3.0).view(3, 1, 1, 1)
    repeated = Conditioning(tokens, features).repeat(4)
    assert repeated.direction is None
    for index in range(12):
        assert torch.equal(repeated.tokens[index], tokens[index // 4])
        assert torch.equal(repeated.features[index], features[index // 4])
    assert Conditioning(tokens, features, tokens[:, 0]).repeat(2).direction.shape == (6, 2)  # pyright: ignore


@torch.no_grad()
@pytest.mark.parametrize("variant", ["plain", "all", "resnet"])
def test_items_do_not_see_each_other_in_eval(variant: str) -> None:
    conditioner = randomized(variant)
    given = batch(conditioner, 3)
    alone = conditioner(*(part[1:2] for part in given))
    torch.testing.assert_close(conditioner(*given).tokens[1:2], alone.tokens, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_autocast(variant: str) -> None:
    conditioner = randomized(variant)
    given = batch(conditioner)
    with torch.no_grad():
        expected = conditioner(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = conditioner(*given)
    assert (found.tokens.float() - expected.tokens).abs().max() < 0.1 * expected.tokens.abs().max()
    found.tokens.float().square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in conditioner.parameters())


@torch.no_grad()
@pytest.mark.parametrize("variant", ["all", "resnet"])
def test_channels_last_gives_the_same(variant: str) -> None:
    conditioner = randomized(variant)
    given = batch(conditioner)
    expected = conditioner(*given).tokens
    conditioner.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    turned = conditioner(*(part.contiguous(memory_format=torch.channels_last) for part in given)).tokens
    torch.testing.assert_close(turned, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["all", "resnet"])
def test_save_and_load_is_bit_equal(variant: str, tmp_path: Path) -> None:
    first, second = randomized(variant), build(variant).eval()
    for parameter in second.parameters():
        parameter.zero_()
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    given = batch(first)
    assert torch.equal(first(*given).tokens, second(*given).tokens)


def test_the_encoders_may_differ() -> None:
    conditioner = build(head_encoder="S3K", head_options={"output_stride": 4})
    assert conditioner(*batch(conditioner)).tokens.shape == (2, 32, 16)
    assert type(conditioner.head_encoder.trunk) is not type(conditioner.scene_encoder.trunk)


def test_wrong_inputs_are_refused() -> None:
    conditioner = build()
    scene, head, mask = batch(conditioner)
    with pytest.raises(ValueError, match="scene as uint8"):
        conditioner(scene.float(), head, mask)
    with pytest.raises(ValueError, match=r"head_mask as uint8 of shape \[2, 1, 64, 64\]"):
        conditioner(scene, head, mask[..., :32])
    with pytest.raises(ValueError, match="head as uint8"):
        conditioner(scene, head[:1], mask)
    with pytest.raises(ValueError, match="mixing_layers >= 0"):
        build(mixing_layers=-1)
    with pytest.raises(ValueError, match="Did you mean 'light'"):
        build(scene_encoder="lite")


def test_the_light_conditioner_is_light() -> None:
    conditioner = Conditioner(**LIGHT["conditioner"])
    assert count(conditioner.scene_encoder) <= 0.5e6
    assert conditioner(*batch(conditioner, 2, (128, 128), (48, 48))).tokens.shape == (2, 272, 64)
