"""Parts of a gaze network by name, and freezing them."""

import pytest
import torch
from torch import nn

from keypoint_detection.gaze.conditioner import Conditioner
from keypoint_detection.gaze.denoiser import Denoiser
from keypoint_detection.gaze.direct_decoder import DirectDecoder
from keypoint_detection.gaze.in_out_head import InOutHead
from keypoint_detection.gaze.named_groups import GROUPS, freeze_groups, hold_groups_still, named_groups
from keypoint_detection.gaze.network_presets import LIGHT


class Follower(nn.Module):
    def __init__(self, *, direct: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        options = {"grid_hw": (4, 4), "head_options": {"stride": 8}, "width": 16}
        self.conditioner = Conditioner(**{**LIGHT["conditioner"], **options})
        self.in_out_head = InOutHead(self.conditioner.feature_channels, (4, 4))
        sizes = {"map_hw": 8, "base_width": 4, "heads": 2, "multipliers": (1, 2), "attention_strides": (2,)}
        drawing = {**sizes, "context_dim": 16, "token_grid_hw": (4, 4)}
        if direct:
            self.direct_decoder = DirectDecoder(**drawing)
        else:
            self.denoiser = Denoiser(**drawing)

    def forward(self, n: int = 2) -> torch.Tensor:
        scene, head = (torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8) for side in (32, 16))
        conditioning = self.conditioner(scene, head, torch.full((n, 1, 32, 32), 255, dtype=torch.uint8))
        drawn = self.denoiser(torch.randn(n, 1, 8, 8), torch.arange(n), conditioning.tokens)
        return drawn.square().sum() + self.in_out_head(conditioning.features).sum()


@pytest.mark.parametrize("direct", [False, True])
def test_every_parameter_is_in_one_group_exactly_once(direct: bool) -> None:
    follower = Follower(direct=direct)
    groups = named_groups(follower)
    assert tuple(groups) == GROUPS
    everything = [id(parameter) for members in groups.values() for parameter in members]
    assert sorted(everything) == sorted(id(parameter) for parameter in follower.parameters())
    assert all(groups.values())
    drawer = follower.direct_decoder if direct else follower.denoiser
    expected = {
        "scene": follower.conditioner.scene_encoder,
        "head": follower.conditioner.head_encoder,
        "in_out": follower.in_out_head,
        "denoiser": drawer,
    }
    for name, module in expected.items():
        assert [id(p) for p in groups[name]] == [id(p) for p in module.parameters()], name


def test_a_depth_branch_belongs_to_the_conditioner_and_wrappers_do_not_matter() -> None:
    conditioner = Conditioner(scene_encoder="light", width=16, grid_hw=(2, 2), depth=True)
    wrapped = nn.ModuleDict({"_orig_mod": nn.ModuleDict({"conditioner": conditioner})})
    groups = named_groups(wrapped)
    assert conditioner.depth_branch is not None
    assert [id(p) for p in groups["conditioner"]] == [id(p) for p in conditioner.depth_branch.parameters()]
    assert not groups["in_out"]
    assert not groups["denoiser"]


def test_a_parameter_without_a_part_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'adapter.weight' belongs to no part"):
        named_groups(nn.ModuleDict({"adapter": nn.Linear(2, 2)}))


@pytest.mark.parametrize(
    "frozen", [("scene",), ("head",), ("denoiser",), ("scene", "head"), ("conditioner",)]
)
def test_a_frozen_part_stands_still_and_the_others_move(frozen: tuple[str, ...]) -> None:
    follower = Follower()
    nn.init.normal_(follower.denoiser.leave.weight)
    groups = named_groups(follower)
    follower().backward()  # leaves gradients behind that must not be used
    freeze_groups(follower, frozen)
    # The parts whose parameters are held hold all of their buffers too.
    before = {name: value.clone() for name, value in follower.state_dict().items()}
    optimizer = torch.optim.AdamW([{"params": members} for members in groups.values()], lr=0.01)
    follower.train()
    hold_groups_still(follower, frozen)
    for _ in range(2):
        optimizer.zero_grad()
        follower().backward()
        optimizer.step()
    prefixes = {
        "scene": "conditioner.scene_encoder",
        "head": "conditioner.head_encoder",
        "denoiser": "denoiser",
    }
    still = tuple(prefixes[name] for name in frozen if name in prefixes)
    if "conditioner" in frozen:
        still = ("conditioner.gaze_frame", "conditioner.mixing", "conditioner.head_place")
    for name, value in follower.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(still), name


def test_freezing_an_unknown_part_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'scene'"):
        freeze_groups(Follower(), ["scen"])
