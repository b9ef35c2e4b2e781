import pytest
import torch

from keypoint_detection.models.backbones.backbone_factory import (
    BACKBONES,
    backbone_class,
    backbone_options,
    list_backbones,
)
from keypoint_detection.visibility.network_backbone import BackboneMagnificationNet

FAMILIES = [name for name in list_backbones() if BACKBONES[name] is backbone_class(name)]
LARGE = {"CPM", "DinoV2Up", "MaxVitUnet"}
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in FAMILIES]
# The lightest form of a family.
SMALL = {
    "ConvNeXtUnet": {"encoder": "convnext_atto"},
    "CPM": {"n_stages": 2},
    "HRNet": {"encoder": "hrnet_w18_small"},
    "Hourglass": {"n_hourglasses": 2, "n_hg_blocks": 2, "n_channels": 16},
    "MaxVitUnet": {"encoder": "maxvit_rmlp_pico_rw_256"},
    "MobileNetV3": {"encoder": "mobilenetv3_small_050"},
    "ResNetDeconv": {"encoder": "resnet10t", "n_channels": 16},
    "ResNetUnet": {"encoder": "resnet10t"},
    "S3K": {},
    "TimmUnet": {"encoder": "resnet10t"},
    "Unet": {"n_channels": 8},
    "ViT": {"encoder": "ViT-Ti_16"},
}


def build(name: str, **options) -> BackboneMagnificationNet:
    torch.manual_seed(0)
    coarse = {"output_stride": 4} if "output_stride" in backbone_options(name) else {}
    sizes = {"num_levels": 2, "num_channels": 4, "size_hidden": 6, "patch_px": 64, **options}
    return BackboneMagnificationNet(
        **sizes, backbone_type=name, backbone_options={**coarse, **SMALL.get(name, {})}
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_gives_one_logit_for_each_point(name: str) -> None:
    network = build(name)
    patches = torch.randn(2, 8, 64, 64)
    logits = network(patches)
    assert logits.shape == (2,)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    encoder_gradients = [one.grad for one in network.encoders[0].parameters() if one.grad is not None]
    assert max(float(gradient.abs().max()) for gradient in encoder_gradients) > 0


@pytest.mark.parametrize("share_weights", [True, False])
@pytest.mark.parametrize("use_mlp", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_gradients_reach_every_parameter(share_weights: bool, use_mlp: bool, n: int) -> None:
    network = build("Unet", share_weights=share_weights, use_mlp=use_mlp).eval()
    assert len(network.encoders) == (1 if share_weights else 2)
    network(torch.randn(n, 8, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("share_weights", [True, False])
def test_one_point_in_training(share_weights: bool) -> None:
    assert build("Unet", share_weights=share_weights)(torch.randn(1, 8, 64, 64)).isfinite().all()


def test_any_size_of_patch() -> None:
    assert build("Unet", patch_px=50).eval()(torch.randn(2, 8, 50, 50)).shape == (2,)


def test_a_logit_does_not_depend_on_the_other_points() -> None:
    network, patches = build("Unet").eval(), torch.randn(3, 8, 64, 64)
    with torch.inference_mode():
        alone = torch.cat([network(patch[None]) for patch in patches])
        torch.testing.assert_close(network(patches), alone, rtol=1e-4, atol=1e-5)


def test_texture_without_a_mean_is_seen() -> None:
    # The features of flat grey and of noise around it average alike without a ReLU before the pooling.
    network = build("Unet").eval()
    flat, noise = torch.zeros(1, 8, 64, 64), torch.randn(1, 8, 64, 64)
    with torch.inference_mode():
        assert (network(flat) - network(noise)).abs() > 1e-3


def test_the_export_equals_eager() -> None:
    network, patches = build("Unet").eval(), torch.randn(2, 8, 64, 64)
    with torch.inference_mode():
        exported = torch.export.export(network, (patches,)).module()
        torch.testing.assert_close(exported(patches), network(patches), rtol=1e-4, atol=1e-4)


def test_a_wrong_shape_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"BackboneMagnificationNet needs patches of shape \[n, 8, 64, 64\]"):
        build("Unet")(torch.zeros(2, 8, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone_type": "Unit"}, "unknown backbone 'Unit'.* Did you mean 'Unet'"),
        ({"backbone_type": "Unet", "backbone_options": {"n_chanels": 8}}, "has no option 'n_chanels'"),
        ({"num_levels": 0}, "num_levels >= 1, got 0"),
        ({"dropout": 2.0}, r"dropout in \[0, 1\), got 2.0"),
    ],
)
def test_an_impossible_option_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BackboneMagnificationNet(**options)
