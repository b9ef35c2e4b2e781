import copy
import warnings
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from keypoint_detection.models.optimization import (
    PlateauObserver,
    RunSchedule,
    check_averages_go_on,
    make_adamw,
    plateau_callbacks,
)
from keypoint_detection.models.schedules import Plateau, lr_factor

OPTIONS: dict[str, Any] = {
    "decay_type": "cosine",
    "warmup": None,
    "warmup_steps": None,
    "final_lr_share": 0.0,
    "plateau_factor": 0.5,
    "plateau_metric": "loss",
    "plateau_patience": 2,
}


def make_schedule(total: int, **options: Any) -> tuple[torch.optim.Optimizer, RunSchedule, list[int]]:
    """Return optimiser, schedule and the counter of steps that it reads."""
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer, step = make_adamw([{"params": [weight], "lr": 0.2, "weight_decay": 0.0}], 0.2), [0]
    return optimizer, RunSchedule(optimizer, lambda: (step[0] / total, step[0]), {**OPTIONS, **options}), step


def advance(optimizer: torch.optim.Optimizer, schedule: RunSchedule, step: list[int]) -> None:
    optimizer.step()
    step[0] += 1
    schedule.step()


@pytest.mark.parametrize("decay_type", ["cosine", "linear", "constant", "onecycle", "plateau"])
def test_rates_follow_the_factor_from_the_first_step(decay_type: str) -> None:
    optimizer, schedule, step = make_schedule(10, decay_type=decay_type, warmup_steps=4, final_lr_share=0.1)
    for _ in range(10):
        share = lr_factor(step[0] / 10, decay_type, None, 0.1, step=step[0], warmup_steps=4)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * share)
        advance(optimizer, schedule, step)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(
        0.2 * (1 if decay_type in ("constant", "plateau") else 0.1)
    )


def test_one_cycle_moves_the_momentum_against_the_rate() -> None:
    optimizer, schedule, step = make_schedule(10, decay_type="onecycle", warmup=0.5)
    betas = [optimizer.param_groups[0]["betas"]]
    for _ in range(10):
        advance(optimizer, schedule, step)
        betas.append(optimizer.param_groups[0]["betas"])
    assert [betas[i][0] for i in (0, 5, 10)] == pytest.approx([0.95, 0.85, 0.95])
    assert {second for _, second in betas} == {0.999}
    plain, *_ = make_schedule(10)
    assert plain.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("decay_type", ["onecycle", "plateau", "cosine"])
def test_state_is_plain_and_resumes_exactly(decay_type: str, tmp_path: Any) -> None:
    def run(parts: list[int]) -> tuple[torch.Tensor, float]:
        optimizer, schedule, step = make_schedule(12, decay_type=decay_type)
        for number in parts:
            for _ in range(number):
                advance(optimizer, schedule, step)
                schedule.plateau = Plateau(*schedule.plateau).after(1.0, 2)  # a loss that never falls
            path, taken = tmp_path / "state.pt", step[0]
            weight = optimizer.param_groups[0]["params"][0].detach()
            state = {"o": optimizer.state_dict(), "s": schedule.state_dict(), "w": weight}
            torch.save(state, path)
            state = torch.load(path, weights_only=True)
            optimizer, schedule, step = make_schedule(12, decay_type=decay_type)
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].copy_(state["w"])
            optimizer.load_state_dict(state["o"])
            schedule.load_state_dict(copy.deepcopy(state["s"]))
            step[0] = taken
        return optimizer.param_groups[0]["params"][0].detach(), optimizer.param_groups[0]["lr"]

    whole, parts = run([12]), run([5, 3, 4])
    assert torch.equal(whole[0], parts[0])
    assert whole[1] == parts[1]


def test_reductions_stop_at_the_floor_and_never_raise_the_rate() -> None:
    optimizer, schedule, step = make_schedule(100, decay_type="plateau", warmup=0.0, final_lr_share=0.2)
    seen = []
    for reductions in range(4):
        schedule.plateau = Plateau(1.0, 0, reductions)
        advance(optimizer, schedule, step)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.2, 0.1, 0.05, 0.04])


def test_two_warmups_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        make_schedule(10, warmup=0.1, warmup_steps=3)


def test_fused_steps_are_those_of_plain_adamw() -> None:
    torch.manual_seed(0)
    start = [torch.randn(4, 3), torch.randn(5)]
    results = []
    for fused in (True, False):
        weights = [nn.Parameter(value.clone()) for value in start]
        groups = [{"params": weights, "lr": 0.01, "weight_decay": 0.1}]
        optimizer = make_adamw(groups, 0.01) if fused else torch.optim.AdamW(groups, lr=0.01, foreach=False)
        assert bool(optimizer.param_groups[0]["fused"]) == fused
        for number in range(5):
            for weight in weights:
                weight.grad = torch.sin(weight.detach() + number)
            optimizer.step()
        results.append(weights)
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("fused", [True, False])
def test_scaled_gradients_are_clipped_in_their_own_unit(fused: bool) -> None:
    """As in 16-mixed: scale, unscale, clip, step; a step with an infinite gradient is left out."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    groups = [{"params": [weight], "lr": 0.5, "weight_decay": 0.0}]
    optimizer = make_adamw(groups, 0.5) if fused else torch.optim.AdamW(groups, lr=0.5, foreach=False)
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))  # pyright: ignore
    scaler: Any = precision.scaler
    for factor in (3.0, float("inf"), 5.0):
        optimizer.zero_grad()
        before = weight.detach().clone()
        scaler.scale((factor * weight).sum()).backward()
        scaler.unscale_(optimizer)
        precision.clip_gradients(optimizer, clip_val=1.0)
        if factor == 3.0:
            assert weight.grad is not None
            assert weight.grad.tolist() == pytest.approx([0.5**0.5] * 2, rel=1e-4)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(weight, before) == (factor == float("inf"))
    assert weight.tolist() == pytest.approx([0.0, -3.0], abs=1e-3)  # two steps of 0.5: gradients of one sign


class Line(pl.LightningModule):
    """Fit nothing in particular, with the validation losses that it is told."""

    latest_score_epoch = None

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.layer, self.losses, self.rates = nn.Linear(2, 1), losses, []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.layer(batch).square().mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("validation/loss", self.losses[self.current_epoch])

    def configure_callbacks(self) -> list[pl.Callback]:
        return plateau_callbacks({**OPTIONS, "decay_type": "plateau"})

    def configure_optimizers(self) -> Any:
        optimizer = make_adamw([{"params": list(self.parameters()), "lr": 0.2}], 0.2)
        schedule = RunSchedule(
            optimizer,
            lambda: (0.5, self.trainer.global_step),
            {**OPTIONS, "decay_type": "plateau", "warmup": 0.0},
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(module: Line, epochs: int, checkpoint: Any = None, **options: Any) -> pl.Trainer:
    loader = torch.utils.data.DataLoader(torch.ones(4, 2), batch_size=2)  # pyright: ignore[reportArgumentType]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", num_sanity_val_steps=0, log_every_n_steps=1, **quiet, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader, loader, ckpt_path=checkpoint, weights_only=True)
    return trainer


def test_a_training_on_a_plateau_slows_down_and_resumes(tmp_path: Any) -> None:
    losses = [3.0, 2.0, 2.5, 2.5, 2.5, 2.5]
    whole = Line(losses)
    fit(whole, 6, enable_checkpointing=False)
    # two validations without a gain after epochs 2 and 3: epoch 4 is slower; the rate is set after a step,
    # so the first step of epoch 4 has the old one
    assert whole.rates == pytest.approx([0.2] * 9 + [0.1] * 3)
    first, second = Line(losses), Line(losses)
    saving = ModelCheckpoint(tmp_path, filename="a", save_on_train_epoch_end=False)
    fit(first, 3, callbacks=[saving])
    fit(second, 6, tmp_path / "a.ckpt", enable_checkpointing=False)
    assert first.rates + second.rates == pytest.approx(whole.rates)


def test_an_observer_is_there_only_where_it_is_needed() -> None:
    assert plateau_callbacks(OPTIONS) == []
    (observer,) = plateau_callbacks({**OPTIONS, "decay_type": "plateau", "plateau_metric": "map"})
    assert isinstance(observer, PlateauObserver)
    assert (observer.metric, observer.patience) == ("map", 2)


def test_averages_are_not_lost_in_silence() -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", max_epochs=1)
    check_averages_go_on(trainer, {"averaging_state": {}})  # nothing is fitted
    trainer.state.fn = pl.trainer.states.TrainerFn.FITTING  # pyright: ignore
    check_averages_go_on(trainer, {})
    with pytest.raises(ValueError, match="expects --ema_decay again") as caught:
        check_averages_go_on(trainer, {"averaging_state": {}})
    assert "\n" not in str(caught.value)
