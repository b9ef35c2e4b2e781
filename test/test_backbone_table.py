import pytest
import torch

from keypoint_detection import backbone_table as table
from keypoint_detection.models.backbones.backbone_factory import BACKBONES, list_backbones, register_backbone
from keypoint_detection.models.backbones.unet import Unet

UNET_PARAMETERS = 112_449


def row(name: str) -> table.BackboneRow:
    return next(row for row in table.backbone_rows() if row.name == name)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the registry to the test, with Unet alone in it."""
    list_backbones()
    monkeypatch.setattr(BACKBONES, "_builders", {"Unet": Unet})


@pytest.mark.usefixtures("registry")
def test_a_row_counts_the_head_too() -> None:
    # 3x3 kernels: stem 3 -> 32, two levels, three blocks of two; two upsampling blocks 64 -> 32; the head.
    convolutions = 9 * (3 * 32 + 8 * 32 * 32 + 2 * 64 * 32)
    norms = 2 * 32 * (1 + 8 + 2)
    assert convolutions + norms + 9 * 32 + 1 == UNET_PARAMETERS
    unet = row("Unet")
    assert (unet.parameters, unet.stride, unet.size_multiple) == (UNET_PARAMETERS, 1, 4)
    assert (unet.pretrained_sources, unet.when_to_use) == ("none", Unet.when_to_use)
    assert unet.cells[1] == "0.112"


@pytest.mark.usefixtures("registry")
def test_flags_are_the_options_that_the_user_sets() -> None:
    assert "n_channels_in" not in row("Unet").options
    flags = "--n_channels 32 --n_resnet_blocks 3 --n_downsampling_layers 2 --kernel_size 3 --output_stride 1"
    assert table.backbone_table().splitlines()[2] == "    " + flags


@pytest.mark.usefixtures("registry")
def test_a_preset_has_its_own_row_without_what_it_fixes() -> None:
    @register_backbone("Small", presets={"Smaller": {"n_channels": 8}})
    class Small(Unet):
        """Count little.

        Args:
            n_channels: Width.
            weights: A path.
        """

        when_to_use = ""

        def __init__(self, *, n_channels: int = 16, weights: str = "") -> None:
            super().__init__(n_channels=n_channels)

    assert row("Small").options == {"n_channels": 16, "weights": ""}
    assert row("Smaller").options == {"weights": ""}
    assert row("Smaller").parameters < row("Small").parameters < UNET_PARAMETERS
    assert row("Small").when_to_use == "Count little."
    assert "    --n_channels 16 --weights ''\n" in table.backbone_table()


@pytest.mark.usefixtures("registry")
def test_one_heatmap_is_asked_of_a_backbone_of_several_stages() -> None:
    @register_backbone("Stages")
    class Stages(Unet):
        def __init__(self, *, n_heatmaps: int = 5) -> None:
            super().__init__(n_channels=8)
            self.early = torch.nn.Conv2d(8, n_heatmaps, 1)

        def stage_outputs(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            features = self.forward_features(image)
            return features, [self.early(features)]

    assert row("Stages").options == {}
    assert "    no flags\n" in table.backbone_table()
    logits = table.HeatmapNetwork("Stages")(torch.rand(2, 3, 6, 5))
    assert [list(stage.shape) for stage in logits] == [[2, 1, 6, 5]] * 2


def test_the_table_holds_every_name_once_and_fits_a_terminal() -> None:
    lines = table.backbone_table().splitlines()
    names = [line.split()[0] for line in lines[1:-4] if not line.startswith(" ")]
    assert names == list_backbones()
    assert max(map(len, lines)) <= table.TABLE_WIDTH


def test_a_long_text_continues_in_its_column() -> None:
    text = "word " * 30
    first, second, *_ = table._line(("A", "1", "2", "3", "timm", text), [4, 5, 5, 5, 6, 20]).splitlines()
    assert first.index("word") == second.index("word")
    assert len(first) <= table.TABLE_WIDTH
