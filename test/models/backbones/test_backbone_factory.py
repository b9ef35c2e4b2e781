import subprocess
import sys

import pytest

from keypoint_detection.models.backbones.backbone_factory import (
    BACKBONES,
    backbone_options,
    create_backbone,
    list_backbones,
    register_backbone,
)
from keypoint_detection.models.backbones.unet import Unet


def test_backbones_beside_the_factory_are_found() -> None:
    assert {"ConvNeXtUnet", "Unet"} <= set(list_backbones())
    assert list_backbones() == sorted(list_backbones())


def test_options_are_read_from_the_constructor() -> None:
    assert backbone_options("Unet") == {
        "n_channels_in": 3,
        "n_channels": 32,
        "n_resnet_blocks": 3,
        "n_downsampling_layers": 2,
        "kernel_size": 3,
        "output_stride": 1,
    }
    assert backbone_options("ConvNeXtUnet")["pretrained"] is False


def test_options_reach_the_constructor() -> None:
    backbone = create_backbone("Unet", n_channels=8, output_stride=2)
    assert isinstance(backbone, Unet)
    assert (backbone.out_channels, backbone.stride) == (8, 2)


def test_unknown_name_and_option_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown backbone 'unett'; known: .*Unet.*Did you mean 'Unet'\?"):
        create_backbone("unett")
    with pytest.raises(ValueError, match="unknown backbone"):
        backbone_options("nothing")
    with pytest.raises(ValueError, match=r"'Unet' has no option 'n_chanels'.*mean 'n_channels'\?"):
        create_backbone("Unet", n_chanels=8)


def test_a_new_backbone_is_one_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKBONES, "_builders", dict(BACKBONES._builders))

    @register_backbone("Narrow")
    class Narrow(Unet):
        def __init__(self, *, width: int = 4) -> None:
            super().__init__(n_channels=width)

    assert "Narrow" in list_backbones()
    assert backbone_options("Narrow") == {"width": 4}
    assert create_backbone("Narrow", width=6).out_channels == 6
    with pytest.raises(ValueError, match="registered twice"):
        register_backbone("Narrow")(Narrow)


def test_importing_the_factory_does_not_import_torch() -> None:
    code = (
        "import sys, keypoint_detection.models.backbones.backbone_factory; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
