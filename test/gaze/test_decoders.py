from collections.abc import Callable

import pytest
import torch
from followers import GRID, NETWORK
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.conditioner import Conditioning
from keypoint_detection.gaze.decoders import DiffusionDecoder, MapDecoder, create_decoder

NAN = float("nan")


def decoder(**options) -> DiffusionDecoder:
    torch.manual_seed(0)
    return DiffusionDecoder(NETWORK, **{"n_timesteps": 40, "sampling_steps": 4, **options})


def conditioning(n: int = 2) -> Conditioning:
    generator = torch.Generator().manual_seed(1)
    cells = GRID[0] * GRID[1]
    tokens = torch.randn(n, cells + 4, 16, generator=generator)
    return Conditioning(tokens, torch.randn(n, 32, *GRID, generator=generator))


def some_maps(n: int = 2) -> Tensor:
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(2))


class Spy(nn.Module):
    """Answer with a function of (state, t), and keep what was seen."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer, self.seen, self.map_hw = answer, [], (16, 16)
        self.tokens: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        self.seen.append((x.clone(), t.clone()))
        self.tokens.append(tokens)
        return self.answer(x, t)


def spied(answer: Callable[[Tensor, Tensor], Tensor], **options) -> tuple[DiffusionDecoder, Spy]:
    made = decoder(**options)
    spy = Spy(answer)
    made.denoiser = spy  # pyright: ignore[reportAttributeAccessIssue]
    return made, spy


@pytest.mark.parametrize("steps", [1, 3, 40])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_oracle_is_sampled_exactly(steps: int, standardize: bool, sampler: str) -> None:
    maps = some_maps()
    x0 = ((2 * maps - 1) * 0.1).repeat_interleave(3, dim=0)
    made, spy = spied(lambda x, t: x0, sampling_steps=steps, standardize_input=standardize, sampler=sampler)
    drawn = made.sample_maps(conditioning(), 3)
    assert drawn.shape == (2, 3, 16, 16)
    torch.testing.assert_close(drawn, maps.expand(2, 3, 16, 16), atol=1e-6, rtol=0)
    assert len(spy.seen) == steps


@pytest.mark.parametrize("prediction", ["noise", "v"])
@pytest.mark.parametrize("steps", [2, 7])
def test_an_oracle_of_noise_or_velocity_is_sampled_exactly(prediction: str, steps: int) -> None:
    maps = some_maps()
    x0 = (2 * maps - 1) * 0.5

    def answer(x: Tensor, t: Tensor) -> Tensor:
        a = made.schedule.exact_alpha_bar[t].view(-1, 1, 1, 1)
        noise = (x.double() - a.sqrt() * x0) / (1 - a).sqrt()
        return (noise if prediction == "noise" else a.sqrt() * noise - (1 - a).sqrt() * x0).float()

    options = {"prediction": prediction, "sampling_steps": steps, "map_scale": 0.5}
    made, _ = spied(answer, standardize_input=False, **options)
    torch.testing.assert_close(made.sample_maps(conditioning(), 1), maps, atol=1e-4, rtol=0)


def test_standardisation_is_for_the_eyes_of_the_network_only() -> None:
    half = 0.05 * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    drawn = {}
    for standardize in (True, False):
        # an answer that is not the truth, so that what the state was matters to the noise that is kept
        made, spy = spied(lambda x, t: half * (t[0] + 1) / 40, standardize_input=standardize, eta=0.5)
        drawn[standardize] = made.sample_maps(conditioning(), 1, torch.Generator().manual_seed(5))
        spreads = torch.cat([x.flatten(1).std(1) for x, _ in spy.seen])
        assert bool((spreads - 1).abs().max() < 1e-4) == standardize
    assert torch.equal(drawn[True], drawn[False])


def test_the_state_is_not_standardised_in_training() -> None:
    made, spy = spied(lambda x, t: torch.zeros_like(x), prediction="noise")
    plain, other = spied(lambda x, t: torch.zeros_like(x), prediction="noise", standardize_input=False)
    losses = []
    for one in (made, plain):
        torch.manual_seed(6)
        losses.append(one.loss(conditioning(), some_maps(), torch.ones(2)))
    assert torch.equal(losses[0].value, losses[1].value)
    torch.testing.assert_close(losses[0].maps, losses[1].maps)
    assert (spy.seen[0][0].flatten(1).std(1) - 1).abs().max() < 1e-5
    (state, t), (seen, _) = other.seen[0], spy.seen[0]
    torch.manual_seed(6)
    assert torch.equal(t, torch.randint(40, (2,)))
    x0 = (2 * some_maps() - 1) * 0.1
    a = made.schedule.alpha_bar[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(state, a.sqrt() * x0 + (1 - a).sqrt() * torch.randn(2, 1, 16, 16))
    torch.testing.assert_close(seen, state / state.flatten(1).std(1).view(-1, 1, 1, 1))


@pytest.mark.parametrize("prediction", ["noise", "v"])
def test_the_map_of_a_perfect_answer_is_found_from_the_state(prediction: str) -> None:
    maps = some_maps()
    x0 = 2 * maps - 1

    def answer(x: Tensor, t: Tensor) -> Tensor:
        a = made.schedule.exact_alpha_bar[t].view(-1, 1, 1, 1)
        noise = (x.double() - a.sqrt() * x0) / (1 - a).sqrt()
        return (noise if prediction == "noise" else a.sqrt() * noise - (1 - a).sqrt() * x0).float()

    made, _ = spied(answer, prediction=prediction, standardize_input=False, map_scale=1.0)
    loss = made.loss(conditioning(), maps, torch.ones(2))
    assert loss.value.item() < 1e-6
    torch.testing.assert_close(loss.maps, maps, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_the_error_of_x0_has_the_same_size_at_every_scale(scale: float) -> None:
    maps = some_maps()
    made = decoder(map_scale=scale)  # an untrained denoiser says 0
    expected = (2 * maps - 1).square().mean()
    torch.testing.assert_close(made.loss(conditioning(), maps, torch.ones(2)).value, expected)


def test_a_perfect_answer_costs_nothing_and_is_the_map() -> None:
    maps = some_maps()
    made, _ = spied(lambda x, t: (2 * maps - 1) * 0.1)
    loss = made.loss(conditioning(), maps, torch.ones(2))
    assert loss.value.item() < 1e-10
    torch.testing.assert_close(loss.maps, maps)


def test_the_weights_of_the_timesteps_count() -> None:
    maps = some_maps()
    made, spy = spied(lambda x, t: torch.zeros_like(x), loss_weights="min_snr", loss_weights_k=2.0)
    value = made.loss(conditioning(), maps, torch.ones(2)).value
    a = made.schedule.exact_alpha_bar[spy.seen[0][1]]
    weights = (a / (1 - a)).clamp(max=2.0)
    expected = (weights * (2 * maps - 1).double().square().flatten(1).mean(1)).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_offset_noise_moves_a_map_as_a_whole() -> None:
    maps = torch.full((400, 1, 16, 16), 0.5)  # x0 = 0
    made, spy = spied(lambda x, t: torch.zeros_like(x), offset_noise=0.7, standardize_input=False)
    torch.manual_seed(0)
    made.loss(conditioning(400), maps, torch.ones(400))
    state, t = spy.seen[0]
    scale = (1 - made.schedule.alpha_bar[t]).sqrt()
    shifts = state.mean((1, 2, 3)) / scale
    assert shifts.std().item() == pytest.approx((0.7**2 + 1 / 256) ** 0.5, rel=0.15)
    assert (state.flatten(1).std(1) / scale).mean().item() == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("kind", ["diffusion", "direct"])
@pytest.mark.parametrize("unsaid", [0.0, -1.0, NAN])
def test_who_is_not_inside_does_not_count(kind: str, unsaid: float) -> None:
    torch.manual_seed(0)
    made = decoder() if kind == "diffusion" else MapDecoder(NETWORK)
    values = []
    for other in (some_maps(3)[2], torch.full((1, 16, 16), 0.25)):
        maps = some_maps(3)
        maps[2] = other
        torch.manual_seed(1)
        values.append(made.loss(conditioning(3), maps, torch.tensor([1.0, 1.0, unsaid])).value)
    assert torch.equal(values[0], values[1])
    nobody = made.loss(conditioning(3), some_maps(3), torch.full((3,), unsaid)).value
    assert nobody.item() == 0
    nobody.backward()
    assert all(one.grad is None or one.grad.abs().max() == 0 for one in made.parameters())


def test_seeds_repeat_samples_and_samples_differ() -> None:
    made = decoder()
    nn.init.normal_(made.denoiser.leave.weight, std=0.1)
    first, again, other = (
        made.sample_maps(conditioning(), 3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])
    assert first.min() >= 0
    assert first.max() <= 1


def test_each_person_is_drawn_from_its_own_tokens() -> None:
    made, spy = spied(lambda x, t: torch.zeros_like(x), sampling_steps=1)
    given = conditioning(2)
    made.sample_maps(given, 2)
    for row, source in enumerate([0, 0, 1, 1]):
        assert torch.equal(spy.tokens[0][row], given.tokens[source])


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_sampler_of_diffusers_is_one_name_away() -> None:
    pytest.importorskip("diffusers")
    maps = some_maps()
    made, _ = spied(lambda x, t: (2 * maps - 1) * 0.1, sampler="dpmsolver++", sampling_steps=5)
    torch.testing.assert_close(made.sample_maps(conditioning(), 1), maps, atol=1e-3, rtol=0)


def test_the_direct_decoder_learns_by_the_loss_of_its_name() -> None:
    made, maps = MapDecoder(NETWORK), some_maps()
    loss = made.loss(conditioning(), maps, torch.tensor([1.0, 0.0]))
    logits = made.direct_decoder(conditioning().tokens)
    expected = F.binary_cross_entropy_with_logits(logits[:1], maps[:1])
    torch.testing.assert_close(loss.value, expected)
    torch.testing.assert_close(loss.maps, logits.sigmoid())
    torch.manual_seed(0)
    squared = MapDecoder(NETWORK, loss_function="MSE")
    assert squared.loss(conditioning(), maps, torch.ones(2)).value > 0


def test_the_direct_decoder_has_one_answer() -> None:
    made = MapDecoder(NETWORK).eval()
    maps = made.sample_maps(conditioning(), 8, torch.Generator().manual_seed(0))
    assert maps.shape == (2, 1, 16, 16)
    assert torch.equal(maps, made.sample_maps(conditioning(), 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_scale": 0.0}, "map_scale > 0"),
        ({"map_scale": NAN}, "map_scale > 0"),
        ({"offset_noise": -0.1}, "offset_noise >= 0"),
        ({"prediction": "x1"}, "Did you mean 'x0'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"sampler": "dim"}, "Did you mean 'ddim'"),
        ({"sampling_steps": 41}, "41"),
        ({"eta": 2.0}, "eta in 0"),
        ({"prediction": "noise", "zero_terminal_snr": True}, "predict v or x0"),
        ({"loss_weights": "min_snrr"}, "Did you mean 'min_snr'"),
    ],
)
def test_what_would_fail_later_is_refused_at_the_door(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decoder(**options)
    assert "\n" not in str(caught.value)


def test_decoders_have_names() -> None:
    assert isinstance(create_decoder("direct", {"decoder": NETWORK}), MapDecoder)
    assert create_decoder("diffusion", {"denoiser": NETWORK}).map_hw == (16, 16)
    with pytest.raises(ValueError, match="Did you mean 'diffusion'"):
        create_decoder("difusion", {})
