"""Rollout of whole detectors: the numbers of a slow reference, and maps in the right place."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference.rollout import rollout_matrix
from reference.small_vits import make_vits_small, random_image, vit_detector
from torch import Tensor

from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.explain import ExplainOptions, explain_image, frame_of
from keypoint_detection.explain_attention import patch_maps, rollout_maps
from keypoint_detection.explain_maps import warp_map
from keypoint_detection.explain_points import keypoint_scalars
from keypoint_detection.geometry import transform_points
from keypoint_detection.models.detector import KeypointDetector

POINTS = torch.tensor([[10.0, 30.0], [52.0, 12.5]])

WITHOUT_CLASS_TOKEN = {"class_token": False, "global_pool": "avg"}


def captured(detector: KeypointDetector, image: Tensor, channel: int) -> list[tuple[list, list, NDArray]]:
    """Return for each number of a keypoint the attention, its gradients, and those of the last tokens.

    Independently of the recorder: the plain attention is turned on for good, and gradients are kept by the
    tensors themselves.
    """
    weights: list[Tensor] = []
    tokens: list[Tensor] = []

    def keep(found: list[Tensor], tensor: Tensor) -> None:
        tensor.retain_grad()
        found.append(tensor)

    for block in detector.backbone.encoder.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda *call: keep(weights, call[2]))
        block.register_forward_hook(lambda *call: keep(tokens, call[2]))
    found = []
    for index in range(1 if detector.hparams["head"] == "heatmap" else 2):
        weights.clear()
        tokens.clear()
        output = detector(image)
        keypoint_scalars(detector, output, channel, POINTS[channel], (40, 60))[index].backward()
        attentions = [tensor.detach()[0].double().numpy() for tensor in weights]
        gradients = [tensor.grad[0].double().numpy() for tensor in weights]  # pyright: ignore
        found.append((attentions, gradients, tokens[-1].grad[0].double().numpy()))  # pyright: ignore
    return found


def reference_map(found: list, n_prefix: int, with_gradient: bool, options: dict) -> NDArray:
    """Roll out what `captured` returned, `[3, 4]`."""
    maps = []
    for attentions, gradients, token_gradient in found:
        blocks = attentions
        if with_gradient:
            blocks = [np.maximum(a * g, 0.0) for a, g in zip(attentions, gradients, strict=True)]
        lengths = np.sqrt((token_gradient**2).sum(1))
        row = (lengths / lengths.sum()) @ rollout_matrix(blocks, n_prefix=n_prefix, **options)
        patches = row[n_prefix:].reshape(3, 4)
        maps.append(patches / patches.sum())
    return np.mean(maps, axis=0)


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("head_fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard_ratio", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(
    ("network", "n_prefix", "head"),
    [
        ({}, 1, "heatmap"),
        (WITHOUT_CLASS_TOKEN, 0, "heatmap"),
        ({"reg_tokens": 2}, 3, "heatmap"),
        ({}, 1, "regression"),
    ],
)
def test_equals_the_slow_reference_on_three_blocks(
    monkeypatch: pytest.MonkeyPatch,
    *,
    with_gradient: bool,
    head_fusion: str,
    discard_ratio: float,
    network: dict,
    n_prefix: int,
    head: str,
) -> None:
    make_vits_small(monkeypatch, **network)
    options: dict[str, Any] = {"head_fusion": head_fusion, "discard_ratio": discard_ratio}
    image = random_image(40, 60)  # padded to 48 x 64: 3 x 4 patches
    ours = patch_maps(
        vit_detector(head=head),
        image,
        POINTS,
        with_gradient=with_gradient,
        head_fusion=options["head_fusion"],
        discard_ratios=[discard_ratio],
    )
    assert ours.shape == (1, 2, 3, 4)
    np.testing.assert_allclose(ours.sum((2, 3)), 1.0, atol=1e-9)
    assert float(ours.min()) >= 0
    for channel in range(2):
        expected = reference_map(
            captured(vit_detector(head=head), image, channel), n_prefix, with_gradient, options
        )
        np.testing.assert_allclose(ours[0, channel], expected, atol=2e-5)


def test_gradient_rollout_differs_per_keypoint(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    image = random_image(48, 64)
    heatmap, regression = vit_detector(), vit_detector(head="regression")
    for detector in (heatmap, regression):
        one, two = patch_maps(detector, image, POINTS, with_gradient=True)[0]
        assert float((one - two).abs().max()) > 0.01
    one, two = patch_maps(heatmap, image, POINTS, with_gradient=False)[0]
    assert float((one - two).abs().max()) > 0.01  # other tokens are read for another peak
    one, two = patch_maps(regression, image, POINTS, with_gradient=False)[0]
    assert torch.equal(one, two)  # the class token is read for both


def test_every_ratio_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    detector, image = vit_detector(), random_image(41, 53)
    maps = rollout_maps(detector, image, POINTS, with_gradient=False, discard_ratios=[0.0, 0.5, 0.95])
    assert {name: tuple(values.shape) for name, values in maps.items()} == {
        "rollout": (2, 41, 53),
        "rollout_0.5": (2, 41, 53),
        "rollout_0.95": (2, 41, 53),
    }


def attend_to_the_bright_patch(detector: KeypointDetector) -> None:
    """Let every token attend to the one bright patch of a black image, and only to it."""
    encoder: Any = detector.backbone.encoder
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        encoder.patch_embed.proj.weight[0] = 1 / 256  # black is -1 after normalisation: 0 in every feature
        encoder.patch_embed.proj.bias[0] = 3.0
        for block in encoder.blocks:
            block.attn.qkv.bias[:48] = 1.0  # all queries alike
            block.attn.qkv.weight[48:96, 0] = 20.0  # keys: feature 0
            block.attn.qkv.weight[96:, 0] = 1.0
            block.attn.proj.weight.copy_(torch.eye(48))


@pytest.mark.parametrize(
    ("image_hw", "image_size", "patch"),
    [
        ((75, 101), None, (1, 4)),
        ((49, 64), None, (1, 2)),
        ((113, 71), (96, 96), (2, 2)),
        ((37, 91), (80, 90), (2, 3)),
        ((200, 333), (96, 112), (2, 5)),
        ((30, 41), (96, 128), (3, 4)),
    ],
)
def test_attention_to_one_patch_gives_a_map_centred_on_it(
    monkeypatch: pytest.MonkeyPatch,
    image_hw: tuple[int, int],
    image_size: tuple[int, int] | None,
    patch: tuple[int, int],
) -> None:
    make_vits_small(monkeypatch)
    detector = vit_detector(1, head="regression", image_size=image_size)
    attend_to_the_bright_patch(detector)
    batch = collate_unlabeled([prepare_image(np.zeros((*image_hw, 3), np.uint8), image_size)])
    to_image, _ = frame_of(batch)
    row, column = patch
    batch["image"].zero_()  # what a letterbox adds is grey
    batch["image"][0, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 255
    tokens = patch_maps(detector, batch["image"], torch.zeros(1, 2), with_gradient=False)[0, 0]
    assert float(tokens[row, column]) == pytest.approx(1.0, abs=1e-6)
    drawn = warp_map(
        explain_image(detector, batch, ExplainOptions("rollout"))[0].maps["rollout"], to_image, image_hw
    )
    ys, xs = np.mgrid[: image_hw[0], : image_hw[1]]
    found = np.array([(drawn * xs).sum(), (drawn * ys).sum()]) / drawn.sum()
    centre = transform_points(to_image, np.array([16 * column + 7.5, 16 * row + 7.5]))
    assert np.linalg.norm(found - centre) < 0.05
