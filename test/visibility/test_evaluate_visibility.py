import dataclasses

import cv2
import numpy as np
import pytest
import torch

from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.evaluate import evaluate_points, image_in_pyramid, logits_of_points
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.pyramid import Pyramid, build_pyramid, crop_patches

FACTORS, PATCH_PX, NAMES = (2, 4), 16, ("a.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    """Return three drawn images of noise."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in NAMES:
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (60, 80, 3), np.uint8))
    paths = [folder / name for name in NAMES]
    return build_pyramid(folder / "pyramid", paths, [[60, 80]] * 3, None, FACTORS, image_names=NAMES)


@pytest.fixture(scope="module")
def classifier() -> VisibilityClassifier:
    torch.manual_seed(0)
    return VisibilityClassifier(FACTORS, 3, patch_px=PATCH_PX, size_hidden=8).eval()


def points(names: tuple[str, ...] = ("c.png", "a.png"), n: int = 11) -> PointTable:
    """Return points whose images are in another order than in the pyramid, and not one after the other."""
    rng = np.random.default_rng(1)
    return PointTable(
        image_names=names,
        views=("v",) * len(names),
        image_hw=np.tile(np.array([[60, 80]], np.int64), (len(names), 1)),
        image=rng.integers(0, len(names), n).astype(np.int64),
        xy=rng.uniform(0, 59, (n, 2)),
        depth_m=np.full(n, np.nan),
        label=rng.integers(0, 2, n).astype(np.uint8),
    )


@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_each_point_gets_the_logit_of_its_own_patch(
    classifier: VisibilityClassifier, pyramid: Pyramid, batch_size: int
) -> None:
    table = points()
    found = evaluate_points(classifier, table, pyramid, batch_size=batch_size)
    for row, (index, xy) in enumerate(zip(table.image, table.xy, strict=True)):
        place = NAMES.index(table.image_names[index])
        patch = crop_patches(pyramid, np.array([place]), xy[None], PATCH_PX)
        with torch.no_grad():
            expected = float(classifier(torch.from_numpy(patch))[0])
        assert found[row] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert found.std() > 0  # else any order would do
    assert found.dtype == np.float64


def test_mode_is_left_as_it_was_and_no_gradient_is_made(
    classifier: VisibilityClassifier, pyramid: Pyramid
) -> None:
    table = points()
    expected = evaluate_points(classifier, table, pyramid)
    classifier.train()
    buffers = {name: value.clone() for name, value in classifier.named_buffers()}
    try:
        assert evaluate_points(classifier, table, pyramid).tolist() == expected.tolist()
        assert classifier.training
    finally:
        classifier.eval()
    assert all(torch.equal(value, buffers[name]) for name, value in classifier.named_buffers())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_no_point_gives_no_logit(classifier: VisibilityClassifier, pyramid: Pyramid) -> None:
    assert evaluate_points(classifier, points().select([]), pyramid).shape == (0,)


def test_images_are_found_by_their_names(pyramid: Pyramid) -> None:
    table = points()
    names = [NAMES[index] for index in image_in_pyramid(table, pyramid)]
    assert names == [table.image_names[index] for index in table.image]


def test_an_image_without_points_need_not_be_there(pyramid: Pyramid) -> None:
    table = points(("a.png", "elsewhere.png"))
    assert set(image_in_pyramid(table.select(table.image == 0), pyramid)) == {0}
    with pytest.raises(ValueError, match=r"found no 'elsewhere.png'; make the pyramid"):
        image_in_pyramid(table, pyramid)


def test_refuses_a_pyramid_of_other_levels(pyramid: Pyramid) -> None:
    other = VisibilityClassifier((2, 4, 8), 4, patch_px=PATCH_PX, size_hidden=8)
    with pytest.raises(ValueError, match="levels 2/4/8 of 4 channels, the pyramid has 2/4 of 3 channels"):
        evaluate_points(other, points(), pyramid)


def test_refuses_a_batch_of_nothing(classifier: VisibilityClassifier, pyramid: Pyramid) -> None:
    with pytest.raises(ValueError, match="batch_size needs a number > 0, got 0"):
        logits_of_points(classifier, pyramid, np.array([0]), np.zeros((1, 2)), batch_size=0)


def test_broken_weights_are_named(pyramid: Pyramid) -> None:
    broken = VisibilityClassifier(FACTORS, 3, patch_px=PATCH_PX, size_hidden=8)
    for parameter in broken.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    with pytest.raises(ValueError, match=r"got nan for a point of '[ac].png' \(11 points in all\)"):
        evaluate_points(broken, points(), pyramid)


def test_refuses_images_of_another_size(pyramid: Pyramid) -> None:
    table = dataclasses.replace(points(), image_hw=np.array([[60, 80], [61, 80]], np.int64))
    with pytest.raises(ValueError, match=r"'a\.png': expected 61x80 pixels .* got 60x80 in the pyramid"):
        image_in_pyramid(table, pyramid)
