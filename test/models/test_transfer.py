"""Layers, groups of parameters, freezing: hand-made backbones with known answers, and real ones."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import create_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.transfer import freeze, hold_still, layer_groups, parameter_groups, unfreeze


class Block(nn.Module):
    """A layer of a weight, a norm and a drop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)


class Stage(nn.Module):
    """A stack: a table, a norm and a convolution in front, and blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.table = nn.Parameter(torch.zeros(3, 4))


class Encoder(nn.Module):
    """A stem, two norms, a stage, a last norm and a token."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.stem_norms = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
        self.stage = Stage()
        self.norm = nn.LayerNorm(4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.scale = nn.Parameter(torch.ones(2, 2))

    def no_weight_decay(self) -> set[str]:
        """Name what should not decay, as timm's networks do."""
        return {"scale", "stage.blocks.1.fc.*"}


class Tiny(Backbone):
    """An encoder of known layers and a decoder."""

    def __init__(self, encoder: nn.Module | None = None) -> None:
        super().__init__(3, 4, 1, 1)
        self.decoder = nn.Conv2d(4, 4, 1)
        self.encoder = Encoder() if encoder is None else encoder

    def forward_features(self, image: Tensor) -> Tensor:
        """Return nothing useful: only the parameters count here."""
        return image


TINY_LAYERS = [
    "cls_token scale stem.weight stem.bias "
    "stem_norms.0.weight stem_norms.0.bias stem_norms.1.weight stem_norms.1.bias",
    "stage.table stage.downsample.0.weight stage.downsample.0.bias "
    "stage.downsample.1.weight stage.downsample.1.bias",
    "stage.blocks.0.fc.weight stage.blocks.0.fc.bias stage.blocks.0.norm.weight stage.blocks.0.norm.bias",
    "stage.blocks.1.fc.weight stage.blocks.1.fc.bias stage.blocks.1.norm.weight stage.blocks.1.norm.bias "
    "norm.weight norm.bias",
]


def names(group: list[tuple[str, nn.Parameter]]) -> list[str]:
    return [name for name, _ in group]


def timm_backbone(name: str, **options: object) -> Tiny:
    with torch.device("meta"):  # only names and shapes count
        return Tiny(timm.create_model(name, **options))  # pyright: ignore[reportArgumentType]


def test_layers_of_a_network_worked_out_by_hand() -> None:
    *layers, decoder = layer_groups(Tiny())
    assert [names(layer) for layer in layers] == [
        [f"encoder.{name}" for name in layer.split()] for layer in TINY_LAYERS
    ]
    assert names(decoder) == ["decoder.weight", "decoder.bias"]


def test_a_norm_in_front_of_everything_joins_the_layer_after_it() -> None:
    groups = layer_groups(Tiny(nn.Sequential(nn.LayerNorm(4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))))
    assert [names(group)[0] for group in groups] == ["encoder.0.weight", "decoder.weight"]
    assert names(groups[0])[-1] == "encoder.2.bias"


@pytest.mark.parametrize("features_only", [False, True])
def test_a_vision_transformer_has_its_embedding_and_its_blocks(features_only: bool) -> None:
    options = {"features_only": True} if features_only else {"num_classes": 0}
    groups = layer_groups(timm_backbone("vit_tiny_patch16_224", **options))
    assert len(groups) == 1 + 12 + 1
    own_names = [{name.rpartition("encoder.")[2].removeprefix("model.") for name in names(g)} for g in groups]
    assert own_names[0] == {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    for number in range(12):
        block = {name for name in own_names[1 + number] if name.startswith(f"blocks.{number}.")}
        assert len(block) == 12
        final_norm = {"norm.weight", "norm.bias"} if number == 11 and not features_only else set()
        assert own_names[1 + number] - block == final_norm
    assert own_names[-1] == {"decoder.weight", "decoder.bias"}


def test_a_convnext_has_stem_downsamplings_and_blocks() -> None:
    groups = layer_groups(create_backbone("ConvNeXtUnet", encoder="convnext_atto"))
    # depths 2, 2, 6, 2 of Liu et al.'s atto: stem + 3 downsamplings + 12 blocks, and our decoder
    assert len(groups) == 1 + 3 + 12 + 1
    assert {name.split(".")[1] for name in names(groups[0])} == {"stem_0", "stem_1"}
    assert [name.split(".")[1:3] for name in names(groups[3])] == [["stages_1", "downsample"]] * 4
    assert all(name.startswith("decoder.") for name in names(groups[-1]))


def test_a_backbone_without_an_encoder_is_all_layers() -> None:
    groups = layer_groups(create_backbone("Unet", n_channels=4))
    firsts = [name for group in groups for name in names(group)[:1]]
    assert [name.split(".")[0] for name in firsts] == (
        ["down_blocks"] * 3 + ["residual_blocks"] * 3 + ["up_blocks"] * 2
    )


@pytest.mark.parametrize(
    "backbone",
    [
        Tiny(),
        create_backbone("Unet", n_channels=4),
        timm_backbone("resnet18", features_only=True),
        timm_backbone("mobilenetv3_small_050", features_only=True),
        timm_backbone("swin_tiny_patch4_window7_224", features_only=True),
        timm_backbone("hrnet_w18_small", features_only=True),
        timm_backbone("maxvit_pico_rw_256", features_only=True),
    ],
    ids=["Tiny", "Unet", "resnet18", "mobilenetv3", "swin", "hrnet", "maxvit"],
)
def test_every_parameter_is_in_one_layer(backbone: Backbone) -> None:
    listed = [named for group in layer_groups(backbone) for named in group]
    assert len(listed) == len(dict(listed)) == len(list(backbone.parameters()))
    assert all(dict(backbone.named_parameters())[name] is parameter for name, parameter in listed)
    assert all(any(p.ndim > 1 for _, p in group) for group in layer_groups(backbone))


def test_a_shared_parameter_is_listed_once_at_its_first_place() -> None:
    backbone, head = Tiny(), nn.Conv2d(4, 4, 1)
    backbone.encoder.stage.blocks[1].fc.weight = backbone.encoder.stage.blocks[0].fc.weight
    backbone.decoder.weight = nn.Parameter(backbone.decoder.weight.detach())
    head.weight = backbone.decoder.weight
    listed = [parameter for group in layer_groups(backbone) for _, parameter in group]
    assert len(listed) == len({id(parameter) for parameter in listed}) == len(list(backbone.parameters()))
    assert "encoder.stage.blocks.0.fc.weight" in names(layer_groups(backbone)[2])
    groups = parameter_groups(backbone, head, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(listed) + 1  # the bias of the head
    torch.optim.AdamW(groups)  # refuses a parameter that is in two groups


def grouped(backbone: Backbone, head: nn.Module, **options: float) -> dict[str, tuple[float, float]]:
    """Return (learning rate, weight decay) by name of the parameter."""
    groups = parameter_groups(backbone, head, learning_rate=1.0, weight_decay=0.1, **options)
    by_id = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    everything = nn.ModuleDict({"b": backbone, "head": head}).named_parameters()
    return {name.removeprefix("b."): by_id[id(p)] for name, p in everything if id(p) in by_id}


def test_learning_rates_by_layer_worked_out_by_hand() -> None:
    rates = grouped(Tiny(), nn.Conv2d(4, 1, 1), layer_decay=0.5)
    # four layers: 0.5 ** 4, ..., 0.5 ** 1; decoder and head at the full rate
    for i, layer in enumerate(TINY_LAYERS):
        assert {rates[f"encoder.{name}"][0] for name in layer.split()} == {[0.0625, 0.125, 0.25, 0.5][i]}
    others = [rate for name, (rate, _) in rates.items() if not name.startswith("encoder.")]
    assert others == [1.0] * 4


def test_what_does_not_decay() -> None:
    for layer_decay in (1.0, 0.5):
        decays = grouped(Tiny(), nn.Conv2d(4, 1, 1), layer_decay=layer_decay)
        assert {name for name, (_, decay) in decays.items() if decay == 0.1} == {
            *("head.weight", "decoder.weight", "encoder.stem.weight", "encoder.stage.table"),
            *("encoder.stage.downsample.1.weight", "encoder.stage.blocks.0.fc.weight"),
        }  # not: biases, norms, the token, and what no_weight_decay names


def test_positions_and_tokens_of_timm_do_not_decay() -> None:
    for name in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        backbone = timm_backbone(name, features_only=True)
        decays = grouped(backbone, nn.Conv2d(4, 1, 1))
        still = {name.rpartition(".")[2] for name, (_, decay) in decays.items() if decay == 0}
        expected = {"pos_embed", "cls_token"} if name.startswith("vit") else {"relative_position_bias_table"}
        assert still == expected | {"weight", "bias"}
        parameters = dict(backbone.named_parameters())
        assert all(parameters[n].ndim > 1 for n, (_, d) in decays.items() if d and n in parameters)


def test_without_layer_decay_there_are_two_groups_in_order_of_definition() -> None:
    backbone, head = create_backbone("Unet", n_channels=4), nn.Conv2d(4, 1, 3)
    groups = parameter_groups(backbone, head, learning_rate=2e-3, weight_decay=0.01)
    everything = [*backbone.parameters(), *head.parameters()]
    assert [set(group) for group in groups] == [{"params", "weight_decay", "lr"}] * 2
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(2e-3, 0.01), (2e-3, 0.0)]
    weights, others = (
        [id(p) for p in everything if (p.ndim > 1) == is_weight] for is_weight in (True, False)
    )
    assert [[id(p) for p in group["params"]] for group in groups] == [weights, others]


def test_groups_go_from_the_image_to_the_head_and_none_is_empty() -> None:
    backbone = create_backbone("Unet", n_channels=4)
    groups = parameter_groups(
        backbone, nn.Conv2d(4, 1, 1), learning_rate=1.0, weight_decay=0.1, layer_decay=0.9
    )
    assert [group["lr"] for group in groups] == sorted(group["lr"] for group in groups)
    assert len(groups) == 2 * (8 + 1)
    assert all(group["params"] for group in groups)
    bare = parameter_groups(backbone, nn.Conv2d(4, 1, 1), learning_rate=1.0, weight_decay=0.1)
    backbone.requires_grad_(False)
    only_weights = parameter_groups(
        backbone, nn.Conv2d(4, 1, 1, bias=False), learning_rate=1.0, weight_decay=0.1
    )
    assert (len(bare), len(only_weights)) == (2, 1)


@pytest.mark.parametrize("layer_decay", [0.0, -0.5, 1.5, float("nan")])
def test_a_layer_decay_out_of_range_is_one_line(layer_decay: float) -> None:
    with pytest.raises(ValueError, match="--layer_decay: expected a number above 0 and up to 1") as caught:
        parameter_groups(
            Tiny(), nn.Conv2d(4, 1, 1), learning_rate=1.0, weight_decay=0.1, layer_decay=layer_decay
        )
    assert "\n" not in str(caught.value)


def test_frozen_parameters_are_left_out_unless_asked_for() -> None:
    backbone, head = create_backbone("ConvNeXtUnet", encoder="convnext_atto"), nn.Conv2d(16, 1, 3)
    n_all = len(list(backbone.parameters())) + 2
    freeze(backbone)
    n_encoder = len(list(backbone.pretrained_part.parameters()))

    def count(include_frozen: bool) -> int:
        groups = parameter_groups(
            *(backbone, head), learning_rate=1.0, weight_decay=0.1, include_frozen=include_frozen
        )
        return sum(len(group["params"]) for group in groups)

    assert (count(False), count(True)) == (n_all - n_encoder, n_all)


def build(name: str) -> tuple[Backbone, nn.Module]:
    torch.manual_seed(0)
    options = {"encoder": "convnext_atto"} if name == "ConvNeXtUnet" else {"n_channels": 4}
    backbone = create_backbone(name, **options)
    return backbone, nn.Conv2d(backbone.out_channels, 1, 3, padding=1)


def adamw(backbone: Backbone, head: nn.Module, *, include_frozen: bool) -> torch.optim.AdamW:
    groups = parameter_groups(
        backbone,
        head,
        learning_rate=1e-2,
        weight_decay=0.5,
        layer_decay=0.9,
        include_frozen=include_frozen,
    )
    return torch.optim.AdamW(groups)


def take_steps(
    backbone: Backbone, head: nn.Module, optimizer: torch.optim.Optimizer, *, still: bool, n_steps: int = 3
) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(n_steps):
        backbone.train()
        if still:
            hold_still(backbone)
        optimizer.zero_grad()
        head(backbone(torch.randn(2, 3, 32, 32, generator=generator))).square().sum().backward()
        optimizer.step()


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Return the names of the tensors that are not bit-equal to what they were."""
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("include_frozen", [False, True])
@pytest.mark.parametrize("name", ["Unet", "ConvNeXtUnet"])
def test_a_frozen_part_stays_bit_equal_while_the_rest_learns(name: str, include_frozen: bool) -> None:
    backbone, head = build(name)
    freeze(backbone)
    part = backbone.pretrained_part
    before, head_before = copy.deepcopy(backbone.state_dict()), copy.deepcopy(head.state_dict())
    optimizer = adamw(backbone, head, include_frozen=include_frozen)
    take_steps(backbone, head, optimizer, still=True)
    changed = moved(before, backbone)
    assert moved(head_before, head) == {"weight", "bias"}
    if name == "Unet":
        assert part is backbone
        assert not changed
    else:
        assert not {name for name in changed if name.startswith("encoder.")}
        trained = {name for name, _ in backbone.named_parameters() if not name.startswith("encoder.")}
        assert trained <= changed
        assert any("running_mean" in name for name in changed)  # the decoder is in training mode
    assert not {id(p) for p in part.parameters()} & {id(p) for p in optimizer.state}


def test_without_hold_still_the_statistics_move() -> None:
    backbone, head = build("Unet")
    freeze(backbone)
    before = copy.deepcopy(backbone.state_dict())
    take_steps(backbone, head, adamw(backbone, head, include_frozen=False), still=False)
    assert {name.rpartition(".")[2] for name in moved(before, backbone)} == {
        *("running_mean", "running_var", "num_batches_tracked")
    }


def test_freezing_in_mid_training_forgets_the_last_gradient() -> None:
    backbone, head = build("Unet")
    optimizer = adamw(backbone, head, include_frozen=True)
    take_steps(backbone, head, optimizer, still=False)
    freeze(backbone)
    before = copy.deepcopy(backbone.state_dict())
    optimizer.step()  # with the momentum of three steps
    assert not moved(before, backbone)


def test_freeze_and_unfreeze_switch_gradients_and_mode() -> None:
    backbone, _ = build("ConvNeXtUnet")
    part = backbone.pretrained_part
    freeze(backbone)
    assert not any(p.requires_grad for p in part.parameters())
    assert not any(module.training for module in part.modules())
    assert backbone.training
    assert backbone.decoder.training  # pyright: ignore[reportAttributeAccessIssue]
    assert all(p.requires_grad for n, p in backbone.named_parameters() if n.startswith("decoder."))
    unfreeze(backbone)
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(module.training for module in backbone.modules())
    unfreeze(backbone, training=False)
    assert not any(module.training for module in part.modules())


def test_adamw_leaves_a_parameter_without_a_gradient_alone() -> None:
    learning, resting = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.AdamW([learning, resting], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        learning.grad = torch.zeros(2, 2)
        optimizer.step()
    # No gradient to follow: only decay, by 1 - 0.1 * 0.5 in each step.
    torch.testing.assert_close(learning.detach(), torch.full((2, 2), 0.95**3))
    assert torch.equal(resting, torch.ones(2, 2))
    assert resting not in optimizer.state
    resting.grad = torch.full((2, 2), 3.0)
    optimizer.step()
    # Its first step, as of a new optimiser: decay, then the learning rate along the sign of the gradient.
    torch.testing.assert_close(resting.detach(), torch.full((2, 2), 0.95 - 0.1))
    assert optimizer.state[resting]["step"] == 1


@pytest.mark.parametrize("name", ["Unet", "ConvNeXtUnet"])
def test_after_unfreezing_everything_learns_also_from_a_saved_optimiser(name: str) -> None:
    backbone, head = build(name)
    freeze(backbone)
    optimizer = adamw(backbone, head, include_frozen=True)
    take_steps(backbone, head, optimizer, still=True)
    resumed = adamw(backbone, head, include_frozen=True)
    resumed.load_state_dict(optimizer.state_dict())
    before = copy.deepcopy(backbone.state_dict())
    unfreeze(backbone)
    take_steps(backbone, head, resumed, still=False, n_steps=1)
    assert {n for n, _ in backbone.named_parameters()} <= moved(before, backbone)
    steps = {n: float(resumed.state[p]["step"]) for n, p in backbone.named_parameters()}
    late = {n for n in steps if name == "Unet" or n.startswith("encoder.")}
    assert {steps[n] for n in late} == {1.0}
    assert {steps[n] for n in steps.keys() - late} <= {4.0}
    assert float(resumed.state[head.weight]["step"]) == 4.0
