"""The table of `keypoint-detection backbones`: their cost, use and flags."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import (
    DETECTOR_OPTIONS,
    backbone_class,
    backbone_options,
    create_backbone,
    list_backbones,
)
from keypoint_detection.models.backbones.decoder import HeatmapConv

TABLE_WIDTH = 120
"""Columns of a terminal that the table keeps to."""

HEADINGS = ("backbone", "params", "stride", "pad to", "weights", "when to use")
EXPLANATION = """\
params: millions of parameters, with a head of one heatmap. stride: image pixels per heatmap pixel.
pad to: images are padded to sides that are multiples of this. weights: where pretrained ones come from.
Below each name: its flags and their defaults."""


class HeatmapNetwork(nn.Module):
    """Join a backbone with its default options and a head of one heatmap, the least that can be trained.

    Args:
        name: A registered name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        one_heatmap = {"n_heatmaps": 1} if "n_heatmaps" in backbone_options(name) else {}
        self.backbone = create_backbone(name, **one_heatmap)
        self.head = HeatmapConv(self.backbone.out_channels, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the logits of every stage, the last one first.

        Args:
            image: Float `[n, in_channels, h, w]`, normalised.

        Returns:
            `[n, 1, ceil(h / stride), ceil(w / stride)]` per stage.
        """
        features, earlier = self.backbone.forward_stages(image)
        return [self.head(features), *earlier]


@dataclass(frozen=True)
class BackboneRow:
    """Hold what the table says about one backbone.

    Attributes:
        name: Registered name.
        parameters: Number of parameters, with a head of one heatmap.
        stride: Image pixels per heatmap pixel.
        size_multiple: Images are padded to sides that are multiples of this.
        pretrained_sources: Where pretrained weights come from.
        when_to_use: One line.
        options: Flag -> default.
    """

    name: str
    parameters: int
    stride: int
    size_multiple: int
    pretrained_sources: str
    when_to_use: str
    options: dict[str, Any]

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts below `HEADINGS`."""
        millions = f"{self.parameters / 1e6:.3f}"
        numbers = (millions, str(self.stride), str(self.size_multiple))
        return self.name, *numbers, self.pretrained_sources, self.when_to_use


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module can learn, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())


def backbone_rows() -> list[BackboneRow]:
    """Return one row per registered name, presets included, in alphabetical order."""
    return [_row(name) for name in list_backbones()]


def backbone_table() -> str:
    """Return the table as aligned text, two lines or more per backbone, without a newline at the end."""
    rows = backbone_rows()
    columns = zip(HEADINGS, *(row.cells for row in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = [_line(HEADINGS, widths)]
    for row in rows:
        lines += [_line(row.cells, widths), *_flag_lines(row.options)]
    return "\n".join([*lines, "", EXPLANATION])


def _row(name: str) -> BackboneRow:
    described = backbone_class(name)
    with torch.device("meta"):  # shapes without numbers: no memory, no time for initialising
        network = HeatmapNetwork(name)
    first_line = (described.__doc__ or "").strip().partition("\n")[0]
    return BackboneRow(
        name,
        count_parameters(network),
        network.backbone.stride,
        network.backbone.size_multiple,
        described.pretrained_sources,
        described.when_to_use or first_line,
        {key: value for key, value in backbone_options(name).items() if key not in DETECTOR_OPTIONS},
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Align the numbers to the right and the texts to the left; a long last cell continues below itself."""
    name, *numbers, sources, text = cells
    padded = [number.rjust(width) for number, width in zip(numbers, widths[1:-2], strict=True)]
    start = "  ".join([name.ljust(widths[0]), *padded, sources.ljust(widths[-2]), ""])
    return start + ("\n" + " " * len(start)).join(_wrapped(text, len(start)))


def _flag_lines(options: dict[str, Any]) -> Iterator[str]:
    # A no-break space keeps a flag and its value on one line.
    flags = " ".join(f"--{name}\u00a0{value if value != '' else repr('')}" for name, value in options.items())
    return ("    " + line.replace("\u00a0", " ") for line in _wrapped(flags or "no flags", 4))


def _wrapped(text: str, start: int) -> list[str]:
    """Break a text into lines that fit right of a column; at least 30 wide, so that it stays readable."""
    width = max(TABLE_WIDTH - start, 30)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
