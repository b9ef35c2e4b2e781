import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.losses import channel_losses

from keypoint_detection.models.losses import LOSSES
from keypoint_detection.models.losses_mining import hardest_channels, mined
from keypoint_detection.models.point_losses import POINT_LOSSES

BCE = LOSSES["BCE"]


def level(values: list[list[float]]) -> torch.Tensor:
    """Return logits `[n, c, 1, 2]` of maps whose loss against an empty target is these values."""
    return torch.tensor(values).exp().sub(1).log()[..., None, None].expand(-1, -1, 1, 2).clone()


def test_by_hand() -> None:
    logits = level([[1.0, 3.0, 2.0], [6.0, 4.0, 5.0]])
    target = torch.zeros_like(logits)
    # the two hardest of each image, over two images
    found = hardest_channels(BCE, 2, logits, target)
    assert found.tolist() == pytest.approx([6 / 2, 3 / 2, (2 + 5) / 2], rel=1e-5)
    assert hardest_channels(BCE, 1, logits, target).tolist() == pytest.approx([6 / 2, 3 / 2, 0], rel=1e-5)


@pytest.mark.parametrize("name", LOSSES.names())
@given(seed=st.integers(0, 9999), weighted=st.booleans(), n_hardest=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_equals_a_loop_over_images(name: str, seed: int, weighted: bool, n_hardest: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(3, 4, 3, 5, generator=generator)
    target = (3 * torch.rand(3, 4, 3, 5, generator=generator) - 1).clamp(0, 1)
    weight = (2 * torch.rand(3, 4, 3, 5, generator=generator) - 0.5).clamp(min=0)
    scale = weight.numpy().astype(float) if weighted else np.ones((3, 4, 3, 5))
    expected = np.zeros(4)
    for image in range(3):
        part = slice(image, image + 1)
        losses = channel_losses(
            name, logits[part].double().numpy(), target[part].double().numpy(), scale[part]
        )
        for channel in sorted(range(4), key=lambda c, losses=losses: -losses[c])[:n_hardest]:
            share = scale[image, channel].sum() / scale[:, channel].sum()
            expected[channel] += losses[channel] * share
    found = hardest_channels(LOSSES[name], n_hardest, logits, target, weight if weighted else None)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES.names())
def test_all_channels_are_the_loss_itself(name: str, weighted: bool) -> None:
    torch.manual_seed(0)
    logits, target, weight = torch.randn(3, 4, 5, 6), torch.rand(3, 4, 5, 6), torch.rand(3, 4, 5, 6)
    given_weight = weight if weighted else None
    torch.testing.assert_close(
        hardest_channels(LOSSES[name], 4, logits, target, given_weight),
        LOSSES[name](logits, target, given_weight),
    )
    assert mined(LOSSES[name], 0, 4) is LOSSES[name]
    assert mined(LOSSES[name], 4, 4) is LOSSES[name]


def test_only_the_chosen_channels_learn() -> None:
    logits = level([[1.0, 3.0, 2.0]]).requires_grad_()
    mined(BCE, 2, 3)(logits, torch.zeros(1, 3, 1, 2), None).sum().backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum((0, 2, 3)) > 0).tolist() == [False, True, True]


def test_channels_that_are_left_out_are_not_hard() -> None:
    logits = level([[9.0, 3.0, 2.0]])
    weight = torch.ones(1, 3, 1, 2)
    weight[:, 0] = 0
    found = hardest_channels(BCE, 1, logits, torch.zeros_like(logits), weight)
    assert found.tolist() == pytest.approx([0, 3, 0], rel=1e-5)


def test_points_of_direct_regression_are_mined_too() -> None:
    points = torch.tensor([[[0.5, 0.5], [0.9, 0.5], [0.6, 0.5]]])
    target = torch.tensor([[[0.5, 0.5], [0.5, 0.5], [float("nan")] * 2]])
    weight = torch.tensor([[1.0, 1.0, 0.0]])
    plain = POINT_LOSSES["SmoothL1"](points, target, weight)
    found = hardest_channels(POINT_LOSSES["SmoothL1"], 1, points, target, weight)
    assert found.tolist() == pytest.approx([0, float(plain[1]), 0])


@pytest.mark.parametrize("number", [-1, 4])
def test_more_channels_than_there_are(number: int) -> None:
    with pytest.raises(ValueError, match=rf"^--ohkm: expected 0 \(off\) to 3, .*got {number};") as caught:
        mined(BCE, number, 3)
    assert "\n" not in str(caught.value)
