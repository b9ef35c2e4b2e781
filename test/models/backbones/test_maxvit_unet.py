from pathlib import Path

import pytest
import timm
import torch
from reference.timm_encoders import assert_gradients, assert_pretrained_asks_for, millions

from keypoint_detection.models.backbones.backbone_factory import backbone_options, create_backbone
from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.maxvit_unet import MaxVitUnet

PICO = "maxvit_rmlp_pico_rw_256"


def test_published_size() -> None:
    assert millions(MaxVitUnet) == pytest.approx(16.8, rel=0.05)
    assert millions(lambda: create_backbone("MaxVitPicoUnet")) == pytest.approx(7.86, rel=0.01)


def test_preset_fixes_the_encoder() -> None:
    assert "encoder" not in backbone_options("MaxVitPicoUnet")
    assert backbone_options("MaxVitUnet")["encoder"] == "maxvit_nano_rw_256"


@pytest.mark.parametrize(("encoder", "stride"), [("maxvit_nano_rw_256", 1), (PICO, 2), (PICO, 4)])
def test_every_stride_learns_everywhere(encoder: str, stride: int) -> None:
    torch.manual_seed(0)
    backbone = MaxVitUnet(encoder=encoder, output_stride=stride)
    features = assert_gradients(backbone, torch.randn(1, 3, 64, 96))
    assert features.shape == (1, backbone.out_channels, 64 // stride, 96 // stride)
    assert (backbone.stride, backbone.size_multiple) == (stride, 256)
    assert features.min() < 0 < features.max()


@pytest.mark.parametrize("encoder", ["maxvit_nano_rw_256", PICO])
def test_images_of_several_multiples(encoder: str) -> None:
    with torch.device("meta"):
        backbone = MaxVitUnet(encoder=encoder)
        for image_hw in ((256, 512), (512, 512), (257, 30)):
            assert backbone(torch.empty(1, 3, *image_hw)).shape == (1, backbone.out_channels, *image_hw)


@pytest.mark.parametrize("encoder", ["maxvit_nano_rw_256", PICO])
def test_a_wider_map_has_more_windows_and_a_wider_grid_of_the_same_attention(encoder: str) -> None:
    torch.manual_seed(0)
    modules = list(MaxVitUnet(encoder=encoder).eval().encoder.modules())
    window, grid = (
        next(module for module in modules if getattr(module, "partition_block", None) is block)
        for block in (True, False)
    )
    features = torch.randn(1, 8, 16, window.get_submodule("norm1").weight.numel())  # pyright: ignore
    with torch.inference_mode():
        windows = [window(features[:, :, :8]), window(features[:, :, 8:])]
        torch.testing.assert_close(window(features), torch.cat(windows, dim=2))
        for offset in (0, 1):
            torch.testing.assert_close(
                grid(features)[:, :, offset::2], grid(features[:, :, offset::2].contiguous())
            )


def test_windows_of_another_image_size() -> None:
    encoder = "maxvit_tiny_rw_224"
    with torch.device("meta"):
        backbone = MaxVitUnet(encoder=encoder)
        assert backbone.size_multiple == 224
        assert backbone(torch.empty(1, 3, 225, 30)).shape == (1, backbone.out_channels, 225, 30)


def test_attention_is_plain_and_the_setting_of_timm_is_left_alone() -> None:
    before = timm.layers.use_fused_attn(), timm.layers.use_fused_attn(experimental=True)
    backbone = MaxVitUnet(encoder=PICO).eval()
    assert (timm.layers.use_fused_attn(), timm.layers.use_fused_attn(experimental=True)) == before
    attentions = [module for module in backbone.modules() if hasattr(module, "fused_attn")]
    assert len(attentions) == 2 * (2 + 2 + 5 + 2), "a window and a grid in each block"
    assert not any(module.fused_attn for module in attentions)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        plain = backbone(image)
        for module in attentions:
            module.fused_attn = True  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(backbone(image), plain, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_default_exports_and_equals_eager() -> None:
    torch.manual_seed(0)
    backbone, image = MaxVitUnet().eval(), torch.randn(1, 3, 100, 64)
    with torch.inference_mode():
        exported = torch.export.export(backbone, (image,))
        torch.testing.assert_close(exported.module()(image), backbone(image), rtol=1e-4, atol=1e-4)
    assert "scaled_dot_product_attention" not in str(exported.graph)


def test_a_constant_that_the_softmax_takes_out_is_no_parameter() -> None:
    torch.manual_seed(0)
    backbone, image = MaxVitUnet(encoder=PICO).eval(), torch.randn(1, 3, 32, 32)
    names = [name for name, _ in backbone.encoder.named_buffers() if name.endswith("rel_pos.mlp.fc2.bias")]
    assert len(names) == 22
    published = timm.create_model(PICO, features_only=True).state_dict()
    assert set(names) < set(published)
    assert set(published) == set(backbone.encoder.state_dict())
    with torch.inference_mode():
        before = backbone(image)
        for name in names:
            backbone.encoder.get_buffer(name).add_(5.0)
        torch.testing.assert_close(backbone(image), before, rtol=1e-3, atol=1e-3)


def test_another_number_of_channels() -> None:
    backbone = MaxVitUnet(encoder=PICO, n_channels_in=1).eval()
    assert backbone(torch.randn(1, 1, 33, 40)).shape == (1, backbone.out_channels, 33, 40)
    assert backbone.image_mean == (0.5,)


def test_normalization_is_that_of_the_weights() -> None:
    with torch.device("meta"):
        backbone, large = MaxVitUnet(encoder=PICO), MaxVitUnet(encoder="maxvit_tiny_tf_224")
    assert (backbone.image_mean, backbone.image_std) == ((0.5,) * 3, (0.5,) * 3)
    assert (large.image_mean, large.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_pretrained_asks_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert_pretrained_asks_for(PICO, lambda: MaxVitUnet(encoder=PICO, pretrained=True), monkeypatch, tmp_path)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="MaxVitUnet needs an output_stride of 1, 2, 4, got 8"):
        MaxVitUnet(output_stride=8)
    with pytest.raises(ValueError, match="MaxVitUnet needs n_channels_in >= 1, got 0"):
        MaxVitUnet(n_channels_in=0)
    with pytest.raises(ValueError, match=r"no encoder 'maxvit_nano_rw'.*Did you mean 'maxvit_nano_rw_256'\?"):
        MaxVitUnet(encoder="maxvit_nano_rw")
