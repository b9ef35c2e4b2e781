import math

import pytest
import torch
from torch import Tensor

from keypoint_detection.gaze.gaze_losses import (
    in_out_error,
    kl_divergence,
    map_error,
    mean_inside,
    point_loss,
    soft_argmax,
)
from keypoint_detection.utils.heatmap import generate_heatmaps

NAN = math.nan
IN_FRAME = torch.tensor([1.0, 0.0, NAN, 1.0])


def maps(seed: int) -> Tensor:
    return torch.rand(4, 1, 6, 7, generator=torch.Generator().manual_seed(seed))


def test_kl_divergence_equals_its_sum() -> None:
    logits, target = 5 * maps(0), maps(1)
    found = kl_divergence(logits, target, IN_FRAME)
    for person in (0, 3):
        p, q = target[person].flatten().double(), logits[person].flatten().double().exp()
        p, q = p / p.sum(), q / q.sum()
        expected = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
        assert float(found[person]) == pytest.approx(expected, rel=1e-5)
    assert found[1:3].tolist() == [0, 0]
    assert float(kl_divergence(target.log(), target, IN_FRAME)[0]) == pytest.approx(0, abs=1e-6)


def test_a_target_of_zeros_says_nothing() -> None:
    logits = maps(0).requires_grad_()
    loss = kl_divergence(logits, torch.zeros(4, 1, 6, 7), torch.ones(4))
    loss.sum().backward()
    assert loss.tolist() == [0] * 4
    assert logits.grad is not None
    assert not logits.grad.any()


def test_map_error_by_hand() -> None:
    output, target = torch.zeros(4, 1, 1, 2), torch.tensor([1.0, 3.0]).expand(4, 1, 1, 2)
    assert map_error(output, target, IN_FRAME).tolist() == [5, 0, 0, 5]


@pytest.mark.parametrize("loss", [kl_divergence, map_error])
def test_people_who_do_not_count_have_no_gradient_whatever_their_maps_hold(loss: type) -> None:
    logits, target = maps(0), maps(1)
    target[1:3] = NAN
    logits[2] = math.inf
    logits.requires_grad_()
    values = loss(logits, target, IN_FRAME)
    mean_inside(values, IN_FRAME).backward()
    assert bool(values.isfinite().all())
    assert logits.grad is not None
    assert logits.grad.flatten(1).abs().sum(1).gt(0).tolist() == [True, False, False, True]
    assert bool(logits.grad.isfinite().all())


def test_soft_argmax_of_a_gaussian_is_its_centre() -> None:
    point = torch.tensor([[[[20.3, 11.8]]]])
    heatmap = generate_heatmaps(point, torch.ones(1, 1, 1), (32, 48), 3.0)
    assert (soft_argmax(heatmap) - point[:, :, 0]).abs().max() <= 0.02
    assert 0.1 < (soft_argmax(heatmap, 100.0) - point[:, :, 0]).abs().max() <= 0.2
    assert soft_argmax(torch.zeros(1, 2, 3, 5)).tolist() == [[[2.0, 1.0]] * 2]  # the middle of a flat map
    for dtype in (torch.bfloat16, torch.float16):
        assert soft_argmax(heatmap.to(dtype)).dtype == torch.float32


def test_soft_argmax_by_hand() -> None:
    found = soft_argmax(torch.tensor([[[[0.0, 0.0], [0.0, math.log(3.0)]]]]), 1.0)
    assert found.flatten().tolist() == pytest.approx([4 / 6, 4 / 6])


def test_point_loss_by_hand() -> None:
    gaze = torch.tensor([[[10.0, 20], [NAN, NAN]], [[5, 5], [5, 5]], [[NAN, NAN]] * 2, [[0, 0], [30, 0]]])
    points = torch.tensor([[0.0, 0], [1, 1], [2, 2], [15, 0]])
    found = point_loss(points, gaze, torch.tensor([1, 0, 1, 1]), (40, 60))
    # (10 / 60, 20 / 40) for the first; twice 15 / 60 for the last
    assert found.tolist() == pytest.approx([1 / 36 + 1 / 4, 0, 0, 1 / 16])
    assert point_loss(points, gaze, torch.tensor([1, 0, -1, 1], dtype=torch.int8), (40, 60))[2] == 0


def test_point_loss_has_a_finite_gradient() -> None:
    points = torch.tensor([[1.0, 1], [NAN, 2], [3, 3], [4, 4]], requires_grad=True)
    gaze = torch.full((4, 2, 2), NAN)
    gaze[0, 0] = 3.0
    mean_inside(point_loss(points, gaze, IN_FRAME, (10, 10)), IN_FRAME).backward()
    assert points.grad is not None
    # 2 (1 - 3) / 10^2, over two people inside
    assert points.grad.tolist() == [pytest.approx([-0.02, -0.02]), [0, 0], [0, 0], [0, 0]]


def test_in_out_error_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0, 5.0, -1.0, 3.0], requires_grad=True)
    found = in_out_error(logits, torch.tensor([1.0, 0.0, NAN, 1.0, -1.0]))
    expected = [math.log(2), math.log1p(math.exp(2)), 0, math.log1p(math.exp(1)), 0]
    assert found.tolist() == pytest.approx(expected)
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad[[2, 4]].tolist() == [0, 0]
    assert in_out_error(torch.zeros(1).bfloat16(), torch.ones(1, dtype=torch.int8)).dtype == torch.float32


def test_nobody_inside_gives_zero_with_a_gradient() -> None:
    logits = maps(0).requires_grad_()
    for in_frame in (torch.zeros(4), torch.full((4,), NAN)):
        loss = mean_inside(kl_divergence(logits, maps(1), in_frame), in_frame)
        loss.backward()
        assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[4, 1, 6, 7\], \[4, 6, 7\] and \[4\]"):
        kl_divergence(maps(0), maps(1)[:, 0], IN_FRAME)
    with pytest.raises(ValueError, match="beta > 0"):
        soft_argmax(maps(0), 0.0)
    with pytest.raises(ValueError, match=r"got \[4, 2\], \[4, 2\] and \[4\]"):
        point_loss(torch.zeros(4, 2), torch.zeros(4, 2), IN_FRAME, (5, 5))
