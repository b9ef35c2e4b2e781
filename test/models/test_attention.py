"""Recording attention: the right numbers, paired with their gradients, and nothing left behind."""

import pytest
import torch
from reference.small_vits import make_vits_small, random_image, vit_detector
from torch import Tensor, nn

from keypoint_detection.models.attention import (
    TokenGrid,
    has_global_attention,
    record_attention,
    token_grid,
)
from keypoint_detection.models.backbones.backbone_factory import (
    backbone_class,
    create_backbone,
    list_backbones,
)


def hooks_and_flags(network: nn.Module) -> list:
    return [
        (len(module._forward_hooks), len(module._forward_pre_hooks), getattr(module, "fused_attn", None))
        for module in network.modules()
    ]


def by_hand(attention: nn.Module, tokens: Tensor) -> Tensor:
    """Compute softmax(q k / sqrt(width of a head)) head by head from the input of an attention."""
    query, key, _ = attention.qkv(tokens)[0].chunk(3, dim=-1)  # pyright: ignore
    heads = []
    for head in range(3):
        part = slice(16 * head, 16 * head + 16)
        heads.append(torch.softmax(query[:, part] @ key[:, part].T / 4, dim=-1))
    return torch.stack(heads)


@pytest.mark.parametrize(
    ("network", "n_prefix"),
    [({}, 1), ({"class_token": False, "global_pool": "avg"}, 0), ({"reg_tokens": 2}, 3)],
)
def test_weights_are_those_of_every_block_in_order(
    monkeypatch: pytest.MonkeyPatch, network: dict, n_prefix: int
) -> None:
    make_vits_small(monkeypatch, **network)
    detector = vit_detector()
    inputs: list[Tensor] = []
    for block in detector.backbone.encoder.blocks:
        block.attn.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with torch.no_grad(), record_attention(detector.backbone) as record:
        detector(random_image(40, 60))
        assert token_grid(detector.backbone, (40, 60)) == TokenGrid(n_prefix, 3, 4, 16)
        assert [block.shape for block in record.weights] == [(1, 3, n_prefix + 12, n_prefix + 12)] * 3
        assert record.tokens is not None
        assert record.tokens.shape == (1, n_prefix + 12, 48)
        for block, weights, tokens in zip(
            detector.backbone.encoder.blocks, record.weights, inputs, strict=True
        ):
            torch.testing.assert_close(weights[0], by_hand(block.attn, tokens), atol=1e-5, rtol=1e-4)
            assert (weights.sum(-1) - 1).abs().max() < 1e-5


def test_a_pass_replaces_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector = vit_detector()
    with torch.no_grad(), record_attention(detector.backbone) as record:
        detector(random_image(48, 64, seed=1))
        first = [block.clone() for block in record.weights]
        detector(random_image(48, 64, seed=2))
        assert len(record.weights) == 3
        assert not torch.equal(first[0], record.weights[0])


@pytest.mark.parametrize("silenced", [0, 1, 2])
def test_gradients_are_paired_with_their_own_block(monkeypatch: pytest.MonkeyPatch, silenced: int) -> None:
    make_vits_small(monkeypatch)
    detector = vit_detector()
    with torch.no_grad():  # what this block attends to cannot matter
        detector.backbone.encoder.blocks[silenced].attn.proj.weight.zero_()
    with record_attention(detector.backbone) as record:
        gradients, tokens = record.gradients(detector(random_image(48, 64))[0, 0, 3, 5])
    assert [bool(gradient.abs().max() == 0) for gradient in gradients] == [
        index == silenced for index in range(3)
    ]
    assert [gradient.shape for gradient in gradients] == [block.shape for block in record.weights]
    assert tokens.abs().max() > 0


def test_the_gradient_is_how_a_logit_follows_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector, image = vit_detector().double(), random_image(48, 64)
    with record_attention(detector.backbone) as record:
        gradients, _ = record.gradients(detector(image)[0, 1, 2, 2])

        def logit(step: float) -> float:
            def nudge(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
                changed = arguments[0].clone()
                changed[0, 2, 4, 7] += step
                return (changed,)

            drop = detector.backbone.encoder.blocks[1].attn.attn_drop
            handle = drop.register_forward_pre_hook(nudge)
            value = float(detector(image)[0, 1, 2, 2].detach())
            handle.remove()
            return value

        slope = (logit(1e-5) - logit(-1e-5)) / 2e-5
    assert slope == pytest.approx(float(gradients[1][0, 2, 4, 7]), rel=1e-5)
    assert abs(slope) > 1e-6


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector, image = vit_detector(), random_image(50, 70)
    detector.backbone.encoder.blocks[1].attn.fused_attn = False  # a flag that was off stays off
    before, state = detector(image), hooks_and_flags(detector)
    assert sum(flag is True for *_, flag in state) == 2
    with record_attention(detector.backbone) as record:
        assert hooks_and_flags(detector) != state
        torch.testing.assert_close(detector(image), before, atol=1e-4, rtol=1e-4)
        record.gradients(detector(image).sum())
    assert hooks_and_flags(detector) == state
    assert torch.equal(detector(image), before)
    assert len(record.weights) == 3
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_nothing_is_left_behind_by_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector, image = vit_detector(), random_image(48, 64)
    before, state = detector(image), hooks_and_flags(detector)

    def fail_midway() -> None:
        with record_attention(detector.backbone):
            detector(image)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail_midway()
    assert hooks_and_flags(detector) == state
    assert torch.equal(detector(image), before)


def test_nothing_is_left_behind_when_a_hook_cannot_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector = vit_detector()
    state = hooks_and_flags(detector)
    last = detector.backbone.encoder.blocks[2].attn.attn_drop

    def fail(_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(last, "register_forward_pre_hook", fail)
    with pytest.raises(RuntimeError, match="no room"), record_attention(detector.backbone):
        pass
    assert hooks_and_flags(detector) == state


def test_frozen_parameters_do_not_hide_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector = vit_detector().requires_grad_(False)
    with record_attention(detector.backbone) as record:
        gradients, _ = record.gradients(detector(random_image(48, 64))[0, 0].sum())
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize(
    ("encoder", "n_prefix", "patch_px"),
    [
        ("vit_small_patch14_dinov2", 1, 14),
        ("vit_small_patch14_reg4_dinov2", 5, 14),
        ("vit_small_patch16_dinov3", 5, 16),
    ],
)
def test_dino(monkeypatch: pytest.MonkeyPatch, encoder: str, n_prefix: int, patch_px: int) -> None:
    make_vits_small(monkeypatch, depth=4)
    backbone = create_backbone("DinoV2Up", encoder=encoder, n_channels=8).eval()
    with record_attention(backbone) as record:
        features = backbone(torch.rand(1, 3, 40, 60))
        grid = token_grid(backbone, (40, 60))
        assert (grid.n_prefix, grid.patch_px) == (n_prefix, patch_px)
        n_tokens = n_prefix + grid.rows * grid.columns
        assert [block.shape[2:] for block in record.weights] == [(n_tokens, n_tokens)] * 4
        gradients, tokens = record.gradients(features[0, 0, 5, 5])
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert tokens.shape[1] == n_tokens


def test_backbones_with_attention_among_all_patches() -> None:
    families = {backbone_class(name): name for name in list_backbones()}  # one name of each
    found = set()
    for family, name in families.items():
        with torch.device("meta"):
            if has_global_attention(create_backbone(name)):
                found.add(family.__name__)
    assert found == {"ViT", "DinoV2Up"}


def test_a_backbone_without_attention_is_refused() -> None:
    backbone = create_backbone("Unet", n_channels=4)
    with (
        pytest.raises(ValueError, match=r"all attend to all.*got Unet; use --method saliency"),
        record_attention(backbone),
    ):
        pass
