"""A detector learns: four images are overfitted to AP 1.0 at 2 px by every backbone and with every loss."""

from pathlib import Path

import pytest

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.models.backbones.backbone_factory import BACKBONES, backbone_class, list_backbones
from keypoint_detection.models.losses import LOSSES
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train

QUICK = ("Unet", "BCE")
FAMILIES = [name for name in list_backbones() if BACKBONES[name] is backbone_class(name)]
CASES = [*((name, "BCE") for name in FAMILIES), *(("Unet", loss) for loss in LOSSES.names() if loss != "BCE")]
PAIRS = [pytest.param(*case, marks=[] if case == QUICK else pytest.mark.slow) for case in CASES]

# A light form of a family, with the finest stride it has.
OPTIONS = {
    "CPM": {"n_stages": 2},
    "DinoV2Up": {"output_stride": 2},
    "HRNet": {"encoder": "hrnet_w18_small", "output_stride": 2},
    "Hourglass": {"n_hourglasses": 2, "n_hg_blocks": 3, "n_channels": 16, "output_stride": 2},
    "MaxVitUnet": {"encoder": "maxvit_rmlp_pico_rw_256"},
    "ResNetDeconv": {"encoder": "resnet10t"},
    "ViT": {"encoder": "ViT-Ti_16", "output_stride": 2},
}

# At strides of 4 and 8 the corners of a box in a 64 px image would melt into one peak.
COARSE = {"side": 128, "heatmap_sigma": 1.0}
SETTINGS = {"CPM": COARSE, "ResNetDeconv": COARSE, "ViT": {"learning_rate": 1e-3, "max_epochs": 250}}


@pytest.mark.parametrize(("backbone", "loss"), PAIRS)
def test_four_images_are_overfitted(backbone: str, loss: str, tmp_path: Path) -> None:
    settings = {"side": 64, "learning_rate": 3e-3, "max_epochs": 150, **SETTINGS.get(backbone, {})}
    side = settings.pop("side")
    path = make_dataset("boxes", tmp_path / "data", 4, (side, side), seed=1)
    config = TrainConfig(
        json_dataset_path=str(path),
        json_validation_dataset_path=str(path),
        keypoint_channel_configuration="corner0 = corner1 = corner2 = corner3; flap_left; flap_right",
        backbone_type=backbone,
        backbone_options=OPTIONS.get(backbone, {}),
        loss_function=loss,
        batch_size=4,
        check_val_every_n_epoch=settings["max_epochs"],
        maximal_gt_keypoint_pixel_distances=[2.0],
        default_root_dir=str(tmp_path / "runs"),
        accelerator="cpu",
        num_workers=0,
        trainer={"enable_progress_bar": False},
        **settings,
    )
    result = train(config)
    assert result.validation["validation/map"] == 1.0
