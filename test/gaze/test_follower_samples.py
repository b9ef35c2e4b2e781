from typing import Any

import pytest
import torch
from followers import follower, part, people
from torch import nn

from keypoint_detection.gaze.follower import GazeFollower


def lively(kind: str = "diffusion", **options: Any) -> GazeFollower:
    """Return a follower whose denoiser depends on everything."""
    one = follower(kind, **options)
    if kind == "diffusion":
        nn.init.normal_(one.decoder.denoiser.leave.weight, std=0.1)  # pyright: ignore
    return one.eval()


def test_a_seed_repeats_its_samples() -> None:
    one = lively()
    first, _ = one.sample_maps(people(), 4, seed=3)
    torch.manual_seed(99)
    assert torch.equal(first, one.sample_maps(people(), 4, seed=3)[0])
    assert not torch.equal(first, one.sample_maps(people(), 4, seed=4)[0])
    assert not torch.equal(one.sample_maps(people(), 1)[0], one.sample_maps(people(), 1)[0])


def test_the_conditioner_runs_once_for_all_samples() -> None:
    one, calls = lively(), []
    one.conditioner.register_forward_hook(lambda *_: calls.append(1))
    one.sample_maps(people(), 6, seed=0)
    assert len(calls) == 1


def test_a_direct_decoder_has_one_map_whatever_is_asked_for() -> None:
    one = lively("direct")
    maps, _ = one.sample_maps(people(), 5, seed=1)
    assert maps.shape == (3, 1, 16, 16)
    assert torch.equal(maps, one.sample_maps(people(), 1, seed=2)[0])


def test_sampling_leaves_the_mode_and_the_statistics_alone() -> None:
    one = follower(frozen=["scene"]).train()
    modes = {name: module.training for name, module in one.named_modules()}
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    one.sample_maps(people(), 2, seed=0)
    assert {name: module.training for name, module in one.named_modules()} == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())
    with pytest.raises(ValueError, match="samples >= 1, got 0"):
        one.sample_maps(people(), 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
@pytest.mark.parametrize("options", [{}, {"eta": 0.7}, {"sampler": "ddpm"}, {"sampler": "sde-dpmsolver++"}])
def test_with_a_seed_for_each_who_is_beside_whom_makes_no_difference(options: dict[str, Any]) -> None:
    if options.get("sampler") == "sde-dpmsolver++":
        pytest.importorskip("diffusers")
    one = lively(diffusion=options)
    together, _ = one.sample_maps(people(), 3, [5, 6, 7])
    for row, seed in enumerate((5, 6, 7)):
        alone, _ = one.sample_maps(part(people(), [row]), 3, [seed])
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-4)
    assert not torch.allclose(together, one.sample_maps(people(), 3, [8, 9, 10])[0], atol=1e-3)
    with pytest.raises(ValueError, match="a generator for each of 9 states, got 6"):
        one.sample_maps(people(), 3, [5, 6])
