import pytest

from keypoint_detection.models.heads import Head, HeatmapHead, RegressionHead
from keypoint_detection.models.heads_signed import SignedHeatmapHead
from keypoint_detection.train.loss_names import loss_help, loss_names


@pytest.mark.parametrize(
    ("name", "head", "place"),
    [
        ("heatmap", HeatmapHead, ""),
        ("signed", SignedHeatmapHead, "for --occlusion signed "),
        ("regression", RegressionHead, "for --head regression "),
    ],
)
def test_the_help_has_the_losses_of_every_head_and_their_defaults(
    name: str, head: type[Head], place: str
) -> None:
    assert sorted(loss_names(name)) == head.losses.names()
    assert f"{place}{', '.join(loss_names(name))} ({head.default_loss}" in loss_help()


def test_the_help_in_words() -> None:
    assert loss_help().startswith("BCE, ")
    assert "(BCE when none is given); for --occlusion signed BCE, MSE, SmoothL1 (MSE); for" in loss_help()
