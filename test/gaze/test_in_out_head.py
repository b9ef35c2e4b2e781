"""The in/out head."""

import torch
from torch import nn

from keypoint_detection.gaze.in_out_head import InOutHead


def test_the_published_size() -> None:
    # 1x1 convolution 2048 -> 512 and its norm, 512 -> 1 with a bias, 49 -> 1 with a bias: 1.05 million
    head = InOutHead(2048, (7, 7))
    assert sum(p.numel() for p in head.parameters()) == 2048 * 512 + 2 * 512 + 512 + 1 + 49 + 1 == 1_050_163


def test_one_logit_per_item_of_either_sign() -> None:
    torch.manual_seed(0)
    head = InOutHead(16, (3, 5)).eval()
    logits = head(3 * torch.randn(50, 16, 3, 5))
    assert logits.shape == (50,)
    logits = logits - logits.mean()
    assert logits.min() < 0 < logits.max()


def test_nothing_bends_the_single_channel() -> None:
    head = InOutHead(16, (3, 5)).eval()
    single = [module for module in head.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.num_features for norm in single] == [4]  # of the hidden layer alone
    features, seen = torch.randn(2, 16, 3, 5), []
    head.narrow.register_forward_hook(lambda *inputs: seen.append(inputs[-1]))
    logits = head(features)
    expected = seen[0].flatten(1) @ head.out.weight[0] + head.out.bias
    torch.testing.assert_close(logits, expected)
    assert seen[0].min() < 0


def test_a_batch_of_one_of_one_cell_trains_every_parameter() -> None:
    torch.manual_seed(0)
    for shape in ((1, 16, 1, 1), (1, 16, 3, 5), (2, 16, 3, 5)):
        head = InOutHead(16, (shape[2], shape[3]))
        head(torch.randn(*shape)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
        assert shape[0] == 1 or all(p.grad.abs().max() > 0 for p in head.parameters())  # pyright: ignore
