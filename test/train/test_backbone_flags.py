import subprocess
import sys

import pytest

from keypoint_detection.models.backbones.backbone_factory import (
    BACKBONES,
    DETECTOR_OPTIONS,
    backbone_class,
    backbone_options,
    list_backbones,
)
from keypoint_detection.train.backbone_flags import argument_descriptions, backbone_flags
from keypoint_detection.train.cli import build_parser

FAMILIES = [name for name in list_backbones() if BACKBONES[name] is backbone_class(name)]


@pytest.mark.parametrize("name", FAMILIES)
def test_flags_are_what_the_constructors_say(name: str) -> None:
    expected = {o: v for o, v in backbone_options(name).items() if o not in DETECTOR_OPTIONS}
    flags = {option: flag for option, flag in backbone_flags().items() if name in flag.defaults}
    assert {option: flag.defaults[name] for option, flag in flags.items()} == expected
    assert all(flag.type is type(expected[option]) for option, flag in flags.items())


def test_every_flag_is_explained_by_every_backbone() -> None:
    for flag in backbone_flags().values():
        for backbone, text in flag.descriptions.items():
            assert len(text) > 10, f"{backbone} does not document {flag.name}"


def test_help_shows_meaning_backbones_and_defaults() -> None:
    flag = backbone_flags()["n_resnet_blocks"]
    assert flag.help() == "Residual blocks at the bottom (Unet 3)"
    assert "--n_resnet_blocks" in build_parser().format_help()


def test_a_value_is_read_in_the_type_of_the_flag() -> None:
    flags = backbone_flags()
    assert flags["n_channels"].parse("8") == 8
    assert flags["pretrained"].parse("False") is False
    with pytest.raises(ValueError, match=r"--n_channels: expected int; got '8\.5'"):
        flags["n_channels"].parse("8.5")


def test_descriptions_of_a_google_docstring() -> None:
    docstring = """Do it.

    Args:
        first: One line.
        second: Two
            lines: of text.

    Returns:
        third: Nothing.
    """
    assert argument_descriptions(docstring) == {"first": "One line.", "second": "Two lines: of text."}
    assert argument_descriptions("Do it.") == {}


def test_reading_flags_does_not_import_torch() -> None:
    code = "import sys, keypoint_detection.train.cli as c; c.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
