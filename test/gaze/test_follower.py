from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from followers import NAN, changed, follower, part, people
from torch import nn
from torch.utils.data import DataLoader

from keypoint_detection.gaze.conditioner import Conditioning
from keypoint_detection.gaze.follower import SOFTMAX_BETA, GazeFollower, parameter_groups
from keypoint_detection.gaze.named_groups import part_of
from keypoint_detection.gaze.samples import GazeBatch

ALL_LOSSES: dict[str, Any] = {
    "kl_weight": 0.5,
    "point_weight": 2.0,
    "direction_weight": 0.3,
    "in_out_weight": 0.7,
}
KINDS = ["diffusion", "direct"]

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .*dataloader.* does not have many workers", "ignore:The number of training batches"
)


def seeded_losses(one: GazeFollower, batch: GazeBatch) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return one.losses(batch, batch["gaze"])


def optimised(one: GazeFollower, batch: GazeBatch, steps: int = 2) -> None:
    """Take some steps, as Lightning would."""
    one.train()
    optimizer = torch.optim.AdamW(parameter_groups(one), lr=one.hparams["learning_rate"])
    for _ in range(steps):
        optimizer.zero_grad()
        one.losses(batch, batch["gaze"])["loss"].backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_weighted_sum_of_its_parts(kind: str) -> None:
    losses = seeded_losses(follower(kind, **ALL_LOSSES), people())
    expected = losses["map_loss"] + 0.7 * losses["in_out_loss"] + 0.5 * losses["kl_loss"]
    expected = expected + 2.0 * losses["point_loss"] + 0.3 * losses["direction_loss"]
    torch.testing.assert_close(losses["loss"], expected)
    assert set(seeded_losses(follower(kind), people())) == {"loss", "map_loss", "in_out_loss"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["outside", "unknown", "unknown as -1", "inside without a point"])
def test_who_has_no_target_adds_nothing_and_no_nan(kind: str, who: str) -> None:
    one = follower(kind, **{**ALL_LOSSES, "in_out_weight": 0.0}).eval()
    in_frame = {"outside": 0.0, "unknown": NAN, "unknown as -1": -1.0, "inside without a point": 1.0}[who]
    blank = changed(people(), 1, gaze=NAN, in_frame=in_frame)
    alone = seeded_losses(one, blank)
    other = changed(blank, 1, scene=0, head=255, eye=NAN)
    again = seeded_losses(one, other)
    for name, value in alone.items():
        assert value.isfinite(), name
        if name != "in_out_loss":
            torch.testing.assert_close(value, again[name], msg=name)
    # the mean is over the two who are left
    direct = follower("direct").eval()
    both = seeded_losses(direct, part(people(), [0, 2]))["map_loss"]
    torch.testing.assert_close(seeded_losses(direct, blank)["map_loss"], both)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_with_a_target_still_trains_without_nan(kind: str) -> None:
    one = follower(kind, **ALL_LOSSES)
    batch = people()
    batch["gaze"], batch["in_frame"] = torch.full_like(batch["gaze"], NAN), torch.full((3,), NAN)
    losses = seeded_losses(one, batch)
    assert losses["loss"].item() == 0
    losses["loss"].backward()
    gradients = [parameter.grad for parameter in one.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_in_out_head_learns_from_whoever_is_known() -> None:
    one = follower().eval()
    batch = people(4)
    batch["in_frame"] = torch.tensor([1.0, 0.0, NAN, -1.0])
    _, logits = one(batch["scene"], batch["head"], batch["head_mask"])
    expected = nn.functional.binary_cross_entropy_with_logits(logits[:2], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(seeded_losses(one, batch)["in_out_loss"], expected)


def test_the_direction_is_measured_in_shares_of_the_sides() -> None:
    batch = people(2, scene_hw=(64, 320))  # wider than a uint8 can say
    batch["eye"] = torch.tensor([[9.5, 9.5], [9.5, 9.5]])
    batch["gaze"] = torch.tensor(
        [[[169.5, 9.5]], [[169.5, 41.5]]]
    )  # right; right and as far down, relatively
    one = follower(direction_weight=1.0)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    real = one.conditioner.forward

    def told(*inputs: Any) -> Conditioning:
        return real(*inputs)._replace(direction=directions)

    one.conditioner.forward = told  # pyright: ignore[reportAttributeAccessIssue]
    value = seeded_losses(one, batch)["direction_loss"].item()
    assert value == pytest.approx((0 + 1 - 0.5**0.5) / 2, abs=1e-5)


def test_a_training_step_learns_one_answer_and_a_validation_all(monkeypatch: pytest.MonkeyPatch) -> None:
    one, targets = follower("direct"), []
    monkeypatch.setattr(one, "log", lambda *_, **__: None)
    real = one.decoder.loss

    def loss(conditioning: Conditioning, target: torch.Tensor, in_frame: torch.Tensor) -> Any:
        targets.append(target)
        return real(conditioning, target, in_frame)

    monkeypatch.setattr(one.decoder, "loss", loss)
    batch = people(8)
    batch["gaze"] = torch.tensor([[11.5, 31.5], [51.5, 31.5]]).expand(8, 2, 2).clone()  # 10 map pixels apart
    torch.manual_seed(1)
    one.training_step(batch, 0)
    one.validation_step(batch, 0)
    (left_trained, left_all), (right_trained, right_all) = (
        [target[:, 0, :, half].amax((1, 2)) > 0.5 for target in targets] for half in (slice(8), slice(8, 16))
    )
    assert (left_trained ^ right_trained).all()
    assert 0 < left_trained.sum() < 8
    assert (left_all & right_all).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_trainable_parameter_is_in_one_group_with_its_learning_rate(kind: str) -> None:
    rates = {"scene": 0.1, "in_out": 3.0}
    one = follower(kind, learning_rate=0.02, learning_rates=rates, weight_decay=0.05, frozen=["head"])
    names = {id(parameter): name for name, parameter in one.named_parameters()}
    found: list[str] = []
    for group in parameter_groups(one):
        for parameter in group["params"]:
            name = names[id(parameter)]
            found.append(name)
            assert group["lr"] == pytest.approx(0.02 * rates.get(part_of(name) or "", 1.0)), name
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0), name
            assert group["name"].startswith(part_of(name) or "?")
    expected = [name for name, parameter in one.named_parameters() if "head_encoder" not in name]
    assert sorted(found) == sorted(expected)
    assert len({group["name"] for group in parameter_groups(one)}) == len(parameter_groups(one))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_part(kind: str) -> None:
    one = follower(kind, **ALL_LOSSES)
    optimised(one, people(), 1)  # the denoiser starts at zero and passes nothing on in the first step
    one.zero_grad()
    one.losses(people(), people()["gaze"])["loss"].backward()
    idle = [name for name, parameter in one.named_parameters() if parameter.grad is None]
    assert not idle
    for group in ("scene", "head", "conditioner", "in_out", "denoiser"):
        norms = [
            p.grad.abs().max()
            for n, p in one.named_parameters()
            if part_of(n) == group and p.grad is not None
        ]
        assert max(norms) > 0, group


def test_frozen_parts_stay_as_they_are_bit_for_bit() -> None:
    one = follower(frozen=["scene", "head"], learning_rate=0.05, weight_decay=0.1)
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    optimised(one, people(), 3)
    one.eval()
    one.train()
    optimised(one, people(), 1)
    after = one.state_dict()
    for name, tensor in before.items():
        is_frozen = part_of(name) in {"scene", "head"}
        if is_frozen:
            assert torch.equal(after[name], tensor), name
    assert any("running_mean" in name and part_of(name) == "scene" for name in before)
    moved = [name for name, tensor in before.items() if not torch.equal(after[name], tensor)]
    assert {part_of(name) for name in moved} == {"conditioner", "in_out", "denoiser"}


@pytest.mark.parametrize("prediction", ["x0", "v", "noise"])
def test_timesteps_of_little_signal_do_not_drown_the_other_losses(prediction: str) -> None:
    one = follower(**ALL_LOSSES, diffusion={"prediction": prediction, "n_timesteps": 1000})
    torch.manual_seed(0)
    losses = [one.losses(people(), people()["gaze"])["kl_loss"].item() for _ in range(20)]
    assert max(losses) < SOFTMAX_BETA * 3  # the range of the maps times what they are multiplied by


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene_hw", [(64, 64), (57, 101), (300, 90)])
@pytest.mark.parametrize("n", [1, 2])
def test_any_size_and_a_batch_of_one(kind: str, scene_hw: tuple[int, int], n: int) -> None:
    one = follower(kind, **ALL_LOSSES)
    batch = people(n, scene_hw, head_hw=(33, 47))
    losses = seeded_losses(one, batch)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    maps, inside = one.sample_maps(batch, 2, seed=0)
    assert maps.shape == (n, 1 if kind == "direct" else 2, 16, 16)
    assert inside.shape == (n,)
    assert ((inside >= 0) & (inside <= 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_the_losses_are_about_the_same(kind: str) -> None:
    one = follower(kind, **ALL_LOSSES).eval()
    exact = seeded_losses(one, people())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = seeded_losses(one, people())
        maps, inside = one.sample_maps(people(), 2, seed=1)
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32, name
        assert rough[name].item() == pytest.approx(value.item(), rel=0.1, abs=0.03), name
    rough["loss"].backward()
    assert maps.dtype == inside.dtype == torch.float32
    assert maps.isfinite().all()


def test_depth_is_taken_where_there_is_a_branch_for_it() -> None:
    deep = follower(conditioner={"head_grid_hw": None, "depth": True})
    batch = people(depth=True)
    assert seeded_losses(deep, batch)["loss"].isfinite()
    assert seeded_losses(follower(), batch)["loss"].isfinite()  # depth that nobody asked for is left aside
    with pytest.raises(ValueError, match="depth"):
        seeded_losses(deep, people())


class Batches(torch.utils.data.Dataset):
    """Give the same people again and again."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> GazeBatch:
        return people(3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_holds_plain_values_and_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    one = follower(kind, **ALL_LOSSES, learning_rates={"scene": 0.1}, frozen=["head"], warmup=0.0)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, enable_checkpointing=False, **quiet)
    with pytest.warns(UserWarning, match="in eval mode"):  # the part that is frozen
        trainer.fit(one, DataLoader(Batches(), None), DataLoader(Batches(), None))
    path = tmp_path / "one.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    again = GazeFollower(**content["hyper_parameters"])
    again.load_state_dict(content["state_dict"])
    assert again.hparams == one.hparams
    for batch in (people(), people(2, (57, 90))):
        expected, found = one.sample_maps(batch, 2, seed=5), again.sample_maps(batch, 2, seed=5)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_validation_is_the_same_every_time_and_leaves_the_generators_alone() -> None:
    one, logged = follower().eval(), []
    nn.init.normal_(one.decoder.denoiser.leave.weight, std=0.1)  # pyright: ignore  or all noise is ignored
    one.log = lambda name, value, **_: logged.append((name, value.item()))  # pyright: ignore
    torch.manual_seed(1)
    expected = torch.rand(2)
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        one.validation_step(people(), 3)
        drawn = torch.rand(2)
        assert torch.equal(drawn, expected) == (seed == 1)
    n = len(logged) // 3
    assert logged[:n] == logged[n : 2 * n] == logged[2 * n :]
    assert {name for name, _ in logged} == {
        f"validation/{part}" for part in ("loss", "map_loss", "in_out_loss")
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_weight": -1.0}, "kl_weight: expected >= 0"),
        (
            {"direction_weight": 1.0, "conditioner": {"gaze_frame": False}},
            "needs the conditioner's option gaze_fr",
        ),
        ({"learning_rates": {"scenes": 0.1}}, "learning_rates: expected names of scene, head"),
        ({"frozen": ["scenes"]}, "Did you mean 'scene'"),
        ({"conditioner": {"width": 32}}, "width of the conditioner, 32, got 16"),
    ],
)
def test_what_does_not_fit_is_one_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        follower(**options)
    assert "\n" not in str(caught.value)
