import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.backbones.decoder import INITIAL_LOGIT
from keypoint_detection.models.heads import Head, HeatmapHead, RegressionHead, average_to_grid, create_head
from keypoint_detection.utils.heatmap import extract_keypoints

NAN = float("nan")
NAMES = ["heatmap", "regression"]


class TinyBackbone(Backbone):
    """One strided convolution, or its mean as if it were a class token."""

    def __init__(self, stride: int = 2, class_token: bool = False, width: int = 8) -> None:
        super().__init__(3, width, stride, stride)
        self.class_token = class_token
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, stride, stride=stride), nn.Tanh(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward_features(self, image: Tensor) -> Tensor:
        features = self.layers(image)
        return features.mean(dim=(2, 3), keepdim=True) if self.class_token else features


def make_batch(hw: tuple[int, int], keypoints: list, visibility: list) -> dict[str, Tensor]:
    n, (height, width) = len(keypoints), hw
    return {
        "image": torch.zeros(n, 3, height, width, dtype=torch.uint8),
        "keypoints": torch.tensor(keypoints),
        "visibility": torch.tensor(visibility, dtype=torch.uint8),
    }


def regression_targets(
    batch: dict[str, Tensor], required_visibility: int = 1
) -> tuple[Tensor, Tensor, RegressionHead]:
    head = RegressionHead(TinyBackbone(), batch["keypoints"].shape[1])
    output = torch.zeros(*batch["keypoints"].shape[:2], 2)
    target, weight = head.targets(
        batch, output, required_visibility=required_visibility, sigma_px=2.0, mask_excluded=False
    )
    return target, weight, head


def decode(head: Head, output: Tensor, hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return head.decode(output, input_hw=hw, max_keypoints=3, min_distance_px=1, threshold=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hw", [(1, 1), (3, 5), (32, 48), (33, 47)])
def test_every_parameter_and_the_features_get_a_gradient(name: str, hw: tuple[int, int]) -> None:
    backbone = TinyBackbone()
    head = create_head(name, backbone, 3)
    features = backbone(torch.randn(2, 3, *hw)).detach().requires_grad_()
    output = head(features)
    batch = make_batch(hw, [[[[0.5, 0.5]]] * 3] * 2, [[[2]] * 3] * 2)
    target, weight = head.targets(batch, output, required_visibility=1, sigma_px=2.0, mask_excluded=False)
    assert target.shape == output.shape
    head.losses[head.default_loss](output, target + 0.1, weight).sum().backward()
    for values in (features, *head.parameters()):
        assert values.grad is not None
        assert values.grad.isfinite().all()
        assert values.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "class_token"), [("heatmap", False), ("regression", False), ("regression", True)]
)
def test_what_is_exported_equals_eager(name: str, class_token: bool) -> None:
    backbone = TinyBackbone(class_token=class_token)
    model = nn.Sequential(backbone, create_head(name, backbone, 3)).eval()
    for hw in [(28, 36), (4, 6)]:  # 14x18 features, no multiple of the grid, and fewer than its cells
        image = torch.randn(1, 3, *hw)
        program = torch.export.export(model, (image,))
        torch.testing.assert_close(program.module()(image), model(image))


def test_definitions_are_plain_and_tell_the_heads_apart() -> None:
    heads = [create_head(name, TinyBackbone(), 1) for name in NAMES]
    assert [type(head) for head in heads] == [HeatmapHead, RegressionHead]
    assert [head.uses_stages for head in heads] == [True, False]
    assert [head.default_loss for head in heads] == ["BCE", "SmoothL1"]
    assert heads[0].contract() == {"head": "heatmap", "refinement": "Gaussian fit"}
    assert heads[1].contract() == {"head": "regression", "refinement": "none", "score": "constant 1"}


def test_an_unknown_head_is_answered_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^unknown head 'regress'; known: heatmap, .* 'regression'\?$"):
        create_head("regress", TinyBackbone(), 1)


def test_heatmap_weights_have_the_names_and_values_of_a_plain_convolution() -> None:
    backbone = TinyBackbone()
    torch.manual_seed(3)
    head = HeatmapHead(backbone, 2)
    torch.manual_seed(3)
    plain = nn.Conv2d(8, 2, 3, padding=1)
    nn.init.normal_(plain.weight, std=0.01)
    assert list(head.state_dict()) == ["weight", "bias"]
    assert torch.equal(head.weight, plain.weight)
    assert (head.bias == INITIAL_LOGIT).all()
    features = torch.randn(2, 8, 5, 6)
    expected = F.conv2d(features, plain.weight, torch.full((2,), INITIAL_LOGIT), padding=1)
    torch.testing.assert_close(head(features), expected)


def test_heatmap_targets_are_gaussians_at_the_stride_of_the_backbone() -> None:
    head = HeatmapHead(TinyBackbone(stride=2), 2)
    batch = make_batch((32, 48), [[[[10.25, 20.5]], [[NAN, NAN]]]], [[[2], [0]]])
    output = torch.zeros(1, 2, 16, 24)
    target, weight = head.targets(batch, output, required_visibility=1, sigma_px=1.5, mask_excluded=False)
    y, x = np.mgrid[:16, :24]
    u, v = (10.25 + 0.5) / 2 - 0.5, (20.5 + 0.5) / 2 - 0.5
    assert weight is None
    assert np.allclose(target[0, 0], np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 1.5**2)), atol=1e-5)
    assert target[0, 1].abs().max() == 0


def test_heatmaps_leave_occluded_points_out_and_mask_them_on_request() -> None:
    head = HeatmapHead(TinyBackbone(stride=1), 1)
    batch = make_batch((32, 48), [[[[30.0, 8.0], [41.0, 25.0]]]], [[[1, 2]]])
    output = torch.zeros(1, 1, 32, 48)
    found = {
        (flag, masked): head.targets(
            batch, output, required_visibility=flag, sigma_px=2.0, mask_excluded=masked
        )
        for flag, masked in [(1, True), (2, False), (2, True)]
    }
    assert found[1, True][1] is None
    assert found[2, False][1] is None
    assert found[1, True][0][0, 0, 8, 30] == pytest.approx(1.0)
    target, weight = found[2, True]
    assert target[0, 0, 8, 30] < 1e-3
    assert target[0, 0, 25, 41] == pytest.approx(1.0)
    assert weight is not None
    assert weight[0, 0, 8, 30] == pytest.approx(0.0, abs=1e-3)
    assert weight[0, 0, 10, 30] == pytest.approx(1 - math.exp(-0.5), abs=1e-3)
    assert weight[0, 0, 25, 41] == pytest.approx(1.0, abs=1e-3)


def test_heatmaps_decode_to_the_points_that_they_were_drawn_from() -> None:
    head = HeatmapHead(TinyBackbone(stride=2), 2)
    keypoints = [[[[10.25, 20.5], [36.5, 9.75]], [[30.0, 8.0], [NAN, NAN]]]]
    batch = make_batch((32, 48), keypoints, [[[2, 2], [1, 0]]])
    output = torch.zeros(1, 2, 16, 24)
    target, _ = head.targets(batch, output, required_visibility=1, sigma_px=1.5, mask_excluded=False)
    logits = target.clamp(1e-6, 1 - 1e-6).logit().requires_grad_()
    points, scores = decode(head, logits, (32, 48))
    assert points.shape == (1, 2, 3, 2)
    assert not points.requires_grad
    found = np.array(sorted(points[0, 0, :2].tolist()))
    assert np.allclose(found, keypoints[0][0], atol=0.05)
    assert points[0, 1, 0].tolist() == pytest.approx([30.0, 8.0], abs=0.05)
    assert points[0, 1, 1:].isnan().all()
    assert (scores > 0.5).tolist() == [[[True, True, False], [True, False, False]]]
    on_map, peaks = extract_keypoints(logits.detach().sigmoid(), 3, 1, 0.01)
    torch.testing.assert_close(points, 2 * on_map + 0.5, equal_nan=True)
    assert torch.equal(scores, peaks)


def test_regression_target_by_hand() -> None:
    target, weight, _ = regression_targets(
        make_batch((16, 32), [[[[7.5, 3.5]], [[-0.5, 15.5]], [[40.0, -8.5]]]], [[[2], [1], [2]]])
    )
    assert target.tolist() == [[[0.25, 0.25], [0.0, 1.0], [1.265625, -0.5]]]
    assert weight.tolist() == [[1.0, 1.0, 1.0]]


SIDE, SHARE = st.integers(1, 1024), st.floats(-0.2, 1.2)


@given(hw=st.tuples(SIDE, SIDE), share_xy=st.tuples(SHARE, SHARE))
@settings(max_examples=60, deadline=None)
def test_regression_targets_decode_to_the_same_pixels(
    hw: tuple[int, int], share_xy: tuple[float, float]
) -> None:
    point = [share_xy[0] * hw[1] - 0.5, share_xy[1] * hw[0] - 0.5]
    target, _, head = regression_targets(make_batch(hw, [[[point]]], [[[2]]]))
    points, scores = decode(head, target, hw)
    assert points.shape == (1, 1, 1, 2)
    assert points[0, 0, 0].tolist() == pytest.approx(point, abs=1e-4)
    assert scores.tolist() == [[[1.0]]]


def test_absent_points_are_nan_with_weight_zero() -> None:
    keypoints = [[[[3.0, 4.0]], [[NAN, NAN]]], [[[0.0, 0.0]], [[5.0, 6.0]]]]
    batch = make_batch((16, 16), keypoints, [[[2], [0]], [[0], [1]]])
    target, weight, _ = regression_targets(batch)
    assert weight.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert target.isnan().all(-1).tolist() == [[False, True], [True, False]]
    only_visible, fewer, _ = regression_targets(batch, required_visibility=2)
    assert fewer.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert torch.equal(only_visible[0, 0], target[0, 0])
    assert only_visible[1, 1].isnan().all()


def test_padding_beside_the_only_keypoint_is_accepted() -> None:
    keypoints = [[[[NAN, NAN], [3.5, 7.5]], [[11.5, 1.5], [1.0, 1.0]]]]
    target, weight, _ = regression_targets(make_batch((16, 16), keypoints, [[[0, 2], [2, 0]]]))
    assert target.tolist() == [[[0.25, 0.5], [0.75, 0.125]]]
    assert weight.tolist() == [[1.0, 1.0]]


def test_several_keypoints_of_a_channel_are_refused_in_one_line() -> None:
    keypoints = torch.rand(3, 4, 3, 2).tolist()
    visibility = torch.zeros(3, 4, 3, dtype=torch.int)
    visibility[0] = torch.tensor([2, 0, 0])
    visibility[2, 1] = torch.tensor([2, 1, 1])
    batch = make_batch((16, 16), keypoints, visibility.tolist())
    with pytest.raises(
        ValueError,
        match=r"^--head regression predicts one point per channel, got an image with 3 keypoints in channel "
        r"2 of 4; use --head heatmap$",
    ):
        regression_targets(batch)
    _, weight, _ = regression_targets(batch, required_visibility=2)  # where the other two do not count
    assert weight[2].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_regression_starts_near_the_centre_and_not_on_it() -> None:
    torch.manual_seed(0)
    points = RegressionHead(TinyBackbone(), 5)(torch.randn(6, 8, 9, 11)).detach()
    assert points.shape == (6, 5, 2)
    assert (points - 0.5).abs().max() < 0.1
    assert points.std() > 1e-3


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 13, 64])
def test_grid_cells_average_equal_areas(size: int) -> None:
    features = torch.randn(1, 2, size, 6)
    fine = features.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)  # every size now divides by 4
    expected = fine.reshape(1, 2, 4, size, 4, 6).mean(dim=(3, 5))
    torch.testing.assert_close(average_to_grid(features, 4), expected, rtol=1e-4, atol=1e-6)
    if size % 4 == 0:
        rows = F.adaptive_avg_pool2d(features, (4, 6))
        torch.testing.assert_close(average_to_grid(features, 4).mean(-1), rows.mean(-1), rtol=1e-4, atol=1e-6)


def test_feature_maps_keep_where_things_are_and_class_tokens_are_taken_as_they_are() -> None:
    head, token_head = RegressionHead(TinyBackbone(), 2), RegressionHead(TinyBackbone(class_token=True), 2)
    assert head.linear.weight.shape == (4, 16 * 8)
    assert token_head.linear.weight.shape == (4, 8)
    features = torch.zeros(2, 8, 12, 12)
    features[0, 0, 0, 0] = features[1, 0, 11, 11] = 1.0
    with torch.no_grad():
        first, second = head(features)
    assert (first - second).abs().max() > 1e-4
    token = torch.randn(3, 8)
    expected = token_head.linear(F.layer_norm(token, (8,))).view(3, 2, 2)
    torch.testing.assert_close(token_head(token[:, :, None, None]), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_regression_keeps_float32_under_autocast(dtype: torch.dtype) -> None:
    head = RegressionHead(TinyBackbone(), 4)
    features = torch.randn(2, 8, 6, 6).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        points = head(features)
    assert points.dtype == torch.float32
    assert torch.equal(points, head(features.float()))
    points = head.to(dtype)(features)  # as with weights that are kept in half precision
    assert points.dtype == torch.float32
    torch.testing.assert_close(points, head.float()(features), rtol=0, atol=2e-3)


@pytest.mark.parametrize("loss", ["MSE", "SmoothL1", "Wing"])
def test_two_images_are_learned_to_the_pixel(loss: str) -> None:
    torch.manual_seed(0)
    backbone = TinyBackbone()
    model = nn.Sequential(backbone, RegressionHead(backbone, 2))
    head, images = model[1], torch.randn(2, 3, 32, 32)
    assert isinstance(head, RegressionHead)
    keypoints = [[[[4.0, 9.5]], [[27.25, 30.0]]], [[[20.0, 2.0]], [[11.0, 15.75]]]]
    batch = make_batch((32, 32), keypoints, [[[2], [1]], [[2], [2]]])
    target, weight = head.targets(
        batch, torch.zeros(2, 2, 2), required_visibility=1, sigma_px=2.0, mask_excluded=False
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 200)
    for _ in range(200):
        optimizer.zero_grad()
        head.losses[loss](model(images), target, weight).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    points, _ = decode(head, model(images), (32, 32))
    errors = (points - batch["keypoints"]).norm(dim=-1)
    assert errors.max() < 1
