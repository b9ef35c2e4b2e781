import torch

from keypoint_detection.models.backbones.convnext_unet import ConvNeXtUnet


def parameters(backbone: ConvNeXtUnet) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


def test_femto_keeps_its_size() -> None:
    assert 5.8e6 < parameters(ConvNeXtUnet()) < 6.2e6


def test_another_encoder_and_its_widths() -> None:
    backbone = ConvNeXtUnet(encoder="convnext_atto")
    assert parameters(backbone) < parameters(ConvNeXtUnet())
    assert backbone(torch.randn(1, 3, 32, 32)).shape == (1, backbone.out_channels, 32, 32)
    assert ConvNeXtUnet(encoder="convnext_atto", output_stride=4).out_channels == 40


def test_finer_strides_see_every_pixel_of_the_image() -> None:
    backbone = ConvNeXtUnet(encoder="convnext_atto", output_stride=2).eval()
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    backbone(image)[0, :, 8, 8].sum().backward()
    assert image.grad is not None
    assert (image.grad[0, :, 16:18, 16:18].abs() > 0).all()
