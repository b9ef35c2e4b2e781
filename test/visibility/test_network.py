import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from keypoint_detection.visibility import MultiMagnificationNet
from keypoint_detection.visibility.network import LevelEncoder, PoolingBlock
from keypoint_detection.visibility.pyramid import build_pyramid, crop_patches

PUBLISHED = {  # share_weights, use_mlp, align_features
    (False, False, False): 4_460_801,
    (True, False, False): 892_673,
    (False, True, False): 4_542_593,
    (True, True, False): 974_465,
    (False, False, True): 1_649_409,
    (True, False, True): 1_039_617,
    (False, True, True): 1_666_177,
    (True, True, True): 1_056_385,
}
VARIANTS = list(PUBLISHED)


def small(variant: tuple[bool, bool, bool], **options) -> MultiMagnificationNet:
    torch.manual_seed(0)
    sizes = {"num_levels": 3, "num_channels": 4, "size_hidden": 6, "patch_px": 16, "dropout": 0.0, **options}
    share_weights, use_mlp, align_features = variant
    return MultiMagnificationNet(
        **sizes, share_weights=share_weights, use_mlp=use_mlp, align_features=align_features
    )


def randomized(network: nn.Module) -> nn.Module:
    """Return a network in eval mode whose running statistics and scales are not the trivial initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.weight, -1.0, 1.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_as_many_as_published(variant: tuple[bool, bool, bool]) -> None:
    network = MultiMagnificationNet(5, 4, 128, *variant)
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[variant]


def test_seven_blocks_take_a_patch_of_128_px_to_one_pixel() -> None:
    encoder = LevelEncoder(4, 8, 128, 0.0)
    assert len(encoder.blocks) == 7
    features, sides = torch.randn(2, 4, 128, 128), []
    for block in encoder.blocks:
        features = block(features)
        sides.append(features.shape[-1])
    assert sides == [64, 32, 16, 8, 4, 2, 1]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_one_finite_logit_for_each_point(variant: tuple[bool, bool, bool], n: int, training: bool) -> None:
    network = small(variant).train(training)
    logits = network(torch.randn(n, 12, 16, 16))
    assert logits.shape == (n,)
    assert logits.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_size_takes_one_patch(variant: tuple[bool, bool, bool]) -> None:
    network = MultiMagnificationNet(5, 4, 16, *variant)
    assert network(torch.randn(1, 20, 128, 128)).shape == (1,)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [1, 4])
def test_a_gradient_reaches_every_parameter(variant: tuple[bool, bool, bool], n: int) -> None:
    network = randomized(small(variant))  # in training a bias before a normalisation has a gradient of zero
    network(torch.randn(n, 12, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_training_a_gradient_reaches_every_weight(variant: tuple[bool, bool, bool]) -> None:
    network = small(variant)
    network(torch.randn(4, 12, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_logit_does_not_depend_on_the_other_points(variant: tuple[bool, bool, bool]) -> None:
    network, patches = randomized(small(variant)), torch.randn(5, 12, 16, 16)
    with torch.inference_mode():
        alone = torch.cat([network(patch[None]) for patch in patches])
        torch.testing.assert_close(network(patches), alone)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_level_and_channel_matters(variant: tuple[bool, bool, bool]) -> None:
    network = randomized(small(variant, size_hidden=16))
    patches = torch.randn(1, 12, 16, 16)
    with torch.inference_mode():
        before = network(patches)
        for channel in range(12):
            changed = patches.clone()
            changed[:, channel] += 3 * torch.randn(16, 16)
            assert (network(changed) - before).abs() > 1e-6, channel


@pytest.mark.parametrize(
    "shape", [(12, 16, 16), (2, 12, 16, 8), (2, 12, 8, 8), (2, 9, 16, 16), (2, 16, 16, 12), (2, 3, 4, 16, 16)]
)
def test_another_shape_is_one_clear_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"needs patches of shape \[n, 12, 16, 16\] \(3 levels of 4"
    ) as caught:
        small((True, True, False))(torch.zeros(shape))
    assert str(list(shape)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_px": 96}, "power of two from 4, got 96"),
        ({"patch_px": 2}, "power of two from 4, got 2"),
        ({"patch_px": 0}, "power of two from 4, got 0"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout in \[0, 1\), got -0.1"),
        ({"num_levels": 0}, "num_levels >= 1, got 0"),
        ({"num_levels": 1, "align_features": True}, "num_levels >= 2, got 1"),
        ({"size_hidden": 0}, "size_hidden >= 1, got 0"),
    ],
)
def test_an_impossible_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiMagnificationNet(**options)


def test_dropout_acts_in_training_only() -> None:
    network, patches = small((True, True, False), dropout=0.5), torch.randn(4, 12, 16, 16)
    assert not torch.equal(network(patches), network(patches))
    network.eval()
    assert torch.equal(network(patches), network(patches))
    published = [module.p for module in MultiMagnificationNet(2).modules() if hasattr(module, "p")]
    assert published == [0.5] * 8  # seven blocks and the hidden layer


def test_sharing_treats_the_levels_alike() -> None:
    shared, own = randomized(small((True, False, False))), randomized(small((False, False, False)))
    patch = torch.randn(1, 4, 16, 16)
    with torch.inference_mode():
        for network, is_alike in ((shared, True), (own, False)):
            encoders = list(network.encoders) * (3 // len(network.encoders))
            encoded = [encoder(patch) for encoder in encoders]
            assert torch.equal(encoded[0], encoded[1]) == is_alike
            repeated = network(patch.repeat(1, 3, 1, 1))
            torch.testing.assert_close(repeated, network.classifier(torch.cat(encoded, 1)).flatten())


def slow_block(block: PoolingBlock, image: Tensor, carried: Tensor) -> Tensor:
    """Join, pad and convolve as the definition says: zeros around what is carried, and for none at all."""
    border = (image.shape[-1] - carried.shape[-1]) // 2
    joined = torch.cat([image, nn.functional.pad(carried, [border] * 4)], dim=1)
    activated = nn.functional.leaky_relu(block.norm(block.conv(joined)), 0.1)
    return nn.functional.max_pool2d(activated, 2)


@pytest.mark.parametrize("training", [True, False])
def test_a_block_is_the_published_order_of_layers(training: bool) -> None:
    block = randomized(PoolingBlock(4, 6, 0.0)).train(training)
    image = torch.randn(3, 4, 8, 8)
    norm = copy.deepcopy(block.norm)
    normalized = norm(block.conv(image))
    expected = nn.functional.max_pool2d(nn.functional.leaky_relu(normalized, 0.1), 2)
    torch.testing.assert_close(block(image), expected)
    torch.testing.assert_close(block.norm.running_mean, norm.running_mean)


@pytest.mark.parametrize(
    ("share_weights", "patch_px", "size_hidden"), [(True, 16, 5), (False, 4, 7), (True, 32, 9)]
)
def test_alignment_equals_its_slow_definition(share_weights: bool, patch_px: int, size_hidden: int) -> None:
    variant = (share_weights, False, True)
    network = randomized(small(variant, patch_px=patch_px, size_hidden=size_hidden))
    patches = torch.randn(2, 12, patch_px, patch_px)
    encoder, steps = network.encoders[0], list(network.steps)
    assert len({id(step.conv) for step in [*steps, encoder.blocks[0]]}) == (1 if share_weights else 3)
    with torch.inference_mode():
        carried = torch.zeros(2, size_hidden, patch_px // 2, patch_px // 2)
        for step, level in zip([*steps, encoder.blocks[0]], patches.chunk(3, 1), strict=True):
            carried = slow_block(step, level, carried)
        for block in encoder.blocks[1:]:
            carried = block(carried)
        torch.testing.assert_close(network(patches), network.classifier(carried).flatten())


def test_shared_and_aligned_is_in_use_what_it_was_in_training() -> None:
    # The levels have statistics of their own: with a mixture of theirs, the logits would be others.
    network, patches = small((True, False, True)), torch.randn(64, 12, 16, 16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the running statistics are the mean of all batches
    with torch.no_grad():
        trained = network(patches)
        used = network.eval()(patches)
    assert trained.std() > 0.05
    torch.testing.assert_close(used, trained, rtol=0.1, atol=0.1 * float(trained.std()))


def coloured_grid(side: int, cell_px: int, seed: int) -> np.ndarray:
    """Return a full-resolution picture `[3, side, side]` of cells of another random colour each, in 0..1."""
    colours = np.random.default_rng(seed).uniform(0.1, 0.9, (3, side // cell_px, side // cell_px))
    return colours.repeat(cell_px, 1).repeat(cell_px, 2)


def patch_at(picture: np.ndarray, factor: int, x: float, y: float, patch_px: int) -> Tensor:
    """Return the patch `[1, 3, p, p]` around a point at a demagnification: average boxes, then cut out."""
    side = picture.shape[1] // factor
    level = picture.reshape(3, side, factor, side, factor).mean((2, 4))
    left, top = (round((value + 0.5) / factor - 0.5) - patch_px // 2 for value in (x, y))
    assert 0 <= left <= side - patch_px
    assert 0 <= top <= side - patch_px
    return torch.from_numpy(level[:, top : top + patch_px, left : left + patch_px]).float()[None]


def colour_block(in_channels: int, size_hidden: int) -> PoolingBlock:
    """Return a block whose hidden channels 0..2 are the image's colours and 3..5 the carried colours."""
    block = PoolingBlock(in_channels, size_hidden, 0.0).eval()
    nn.init.zeros_(block.conv.weight)
    nn.init.constant_(block.norm.running_var, 1.0 - block.norm.eps)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for colour in range(3):
            block.conv.weight[colour, colour, 1, 1] = 1.0
            block.conv.weight[3 + colour, 3 + colour, 1, 1] = 1.0
    return block


@given(
    patch_px=st.sampled_from([4, 8, 16, 32, 128]),
    size_hidden=st.integers(6, 40),
    factor=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
@settings(max_examples=25)
def test_a_coloured_grid_lies_on_itself(
    patch_px: int, size_hidden: int, factor: int, seed: int, data: st.DataObject
) -> None:
    coarse, side = 2 * factor, 4 * patch_px * factor
    picture = coloured_grid(side, coarse, seed)
    # A point whose pixel at the coarse level begins where its pixel at the fine level does.
    column, row = (data.draw(st.integers(patch_px // 2, 3 * patch_px // 2)) for _ in range(2))
    x, y = coarse * column + (factor - 1) / 2, coarse * row + (factor - 1) / 2
    fine_patch, coarse_patch = (patch_at(picture, f, x, y, patch_px) for f in (factor, coarse))
    block = colour_block(3 + size_hidden, size_hidden)
    with torch.inference_mode():
        carried = block(fine_patch)
        assert carried.shape[-1] == patch_px // 2
        joined = block.convolve(coarse_patch, carried)
    own, padded = joined[:, :3], joined[:, 3:6]
    quarter = patch_px // 4
    middle = slice(quarter, patch_px - quarter)
    torch.testing.assert_close(own, coarse_patch)
    torch.testing.assert_close(padded[..., middle, middle], own[..., middle, middle], rtol=0, atol=1e-5)
    outside = torch.ones(patch_px, patch_px, dtype=torch.bool)
    outside[middle, middle] = False
    assert not padded[..., outside].any()
    assert not joined[:, 6:].any()


def test_a_coloured_grid_shifted_by_one_cell_does_not_lie_on_itself() -> None:
    picture, block = coloured_grid(256, 4, 0), colour_block(11, 8)
    fine_patch, coarse_patch = patch_at(picture, 2, 100.5, 100.5, 32), patch_at(picture, 4, 104.5, 100.5, 32)
    with torch.inference_mode():
        joined = block.convolve(coarse_patch, block(fine_patch))
    assert (joined[:, :3] - joined[:, 3:6])[..., 8:24, 8:24].abs().mean() > 0.1


def test_three_levels_of_a_coloured_grid_lie_on_each_other() -> None:
    # At level 4 the colours of level 2 were carried once, so they are found in channels 3..5 of the last map.
    picture, patch_px = coloured_grid(512, 8, 3), 32
    x = y = 8 * 30 + 0.5
    carried, block = None, colour_block(3 + 9, 9)
    maps = []
    with torch.inference_mode():
        for factor in (2, 4, 8):
            patch = patch_at(picture, factor, x, y, patch_px)
            maps.append(block.convolve(patch, carried))
            carried = block(patch, carried)
    for fine, coarse in itertools.pairwise(maps):
        pooled = nn.functional.max_pool2d(fine[:, :3], 2)
        torch.testing.assert_close(coarse[:, 3:6, 8:24, 8:24], pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(maps[2][:, 3:6, 8:24, 8:24], maps[2][:, :3, 8:24, 8:24], rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_even", [True, False])
def test_cropped_patches_of_a_coloured_grid_lie_on_each_other(is_even: bool, tmp_path: Path) -> None:
    picture = (coloured_grid(512, 8, 5) * 255).astype(np.uint8)
    Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / "grid.png")
    pyramid = build_pyramid(tmp_path / "pyramid", [tmp_path / "grid.png"], [(512, 512)], factors=(2, 4, 8))
    # Pixel 128, or 131, at level 2 is pixel 64, or 65, at level 4 and 32 at level 8.
    xy = [[2 * 128.0, 2 * 128.0]] if is_even else [[2 * 131.0, 2 * 128.0]]
    patches = torch.from_numpy(crop_patches(pyramid, 0, xy, 32)).float()
    carried, block, offsets = None, colour_block(3 + 9, 9), []
    with torch.inference_mode():
        for patch in patches.chunk(3, dim=1):
            joined, carried = block.convolve(patch, carried), block(patch, carried)
            own, found = joined[:, :3, 8:24, 8:24], joined[:, 3:6, 8:24, 8:24]
            offsets.append(float((own - found).abs().max()))
    assert all((offset < 0.01) == is_even for offset in offsets[1:]), offsets


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_export_takes_any_batch(variant: tuple[bool, bool, bool]) -> None:
    network = randomized(small(variant))
    with torch.inference_mode():
        shapes = {"patches": {0: torch.export.Dim("n", min=1, max=1024)}}
        exported = torch.export.export(network, (torch.randn(4, 12, 16, 16),), dynamic_shapes=shapes).module()
        for n in (1, 4, 7):
            patches = torch.randn(n, 12, 16, 16)
            torch.testing.assert_close(exported(patches), network(patches), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter and onnxscript, about themselves
@pytest.mark.parametrize("variant", VARIANTS)
def test_onnx_equals_eager(variant: tuple[bool, bool, bool], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, patches = randomized(small(variant)), torch.randn(3, 12, 16, 16)
    torch.onnx.export(network, (patches,), tmp_path / "network.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: patches.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), network(patches), rtol=1e-4, atol=1e-4)
