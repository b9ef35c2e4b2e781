from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from predicting import save_detector

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.records import Keypoint, Prediction
from keypoint_detection.visibility import predict_visibility
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.predict_visibility import (
    DecodedImage,
    PointVisibility,
    load_point_visibility,
)
from keypoint_detection.visibility.pyramid import build_pyramid, crop_patches

FACTORS, PATCH_PX = (1, 2, 4), 8


def picture(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def slow_patches(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Average and crop pixel by pixel, float64; what lies outside is 0."""
    found = np.zeros((len(xy), len(FACTORS), 3, PATCH_PX, PATCH_PX))
    for (point, (x, y)), (level, factor) in (
        (one, other) for one in enumerate(xy) for other in enumerate(FACTORS)
    ):
        left, top = (int(np.floor((part + 0.5) / factor)) - PATCH_PX // 2 for part in (x, y))
        for row in range(PATCH_PX):
            for column in range(PATCH_PX):
                low, left_px = factor * (top + row), factor * (left + column)
                if low >= 0 and left_px >= 0:
                    block = image[low : low + factor, left_px : left_px + factor].astype(float)
                    if block.size:
                        found[point, level, :, row, column] = block.mean((0, 1))
    return found.reshape(len(xy), -1, PATCH_PX, PATCH_PX)


def classifier(**settings) -> VisibilityClassifier:
    """Return one of random weights that finds about half of the places of a random picture visible."""
    torch.manual_seed(5)
    settings = {"patch_px": PATCH_PX, "size_hidden": 8, **settings}
    made = VisibilityClassifier(FACTORS, **settings).eval()
    if made.hparams["n_channels"] == 3:
        xy = np.random.default_rng(0).uniform(0, 40, (200, 2))
        patches = DecodedImage(picture((40, 50), 9), FACTORS).patches(xy, PATCH_PX)
        with torch.no_grad():
            list(made.network.parameters())[-1].sub_(made(torch.from_numpy(patches)).median())
    return made


def save_classifier(path: Path, made: VisibilityClassifier) -> Path:
    torch.save({"hyper_parameters": dict(made.hparams), "state_dict": made.state_dict()}, path)
    return path


def prediction(*channels: list[tuple[float, float]]) -> Prediction:
    points = tuple(tuple(Keypoint(x, y, 0.5) for x, y in channel) for channel in channels)
    return Prediction(points, tuple(f"c{i}" for i in range(len(channels))), (21, 30), "a.png")


@given(
    st.tuples(st.integers(1, 23), st.integers(1, 23)),
    st.lists(st.tuples(st.floats(-0.5, 22.5), st.floats(-0.5, 22.5)), min_size=1, max_size=3),
)
def test_patches_equal_a_slow_reference_at_every_level_and_border(
    hw: tuple[int, int], points: list[tuple[float, float]]
) -> None:
    image, xy = picture(hw), np.array(points)
    patches = DecodedImage(image, FACTORS).patches(xy, PATCH_PX)
    assert patches.dtype == np.uint8
    assert np.abs(patches - slow_patches(image, xy)).max() <= 1.0


def test_patches_are_those_of_a_pyramid_of_the_file(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture((53, 71)))
    pyramid = build_pyramid(tmp_path / "p", [tmp_path / "a.png"], [(53, 71)], factors=FACTORS)
    xy = np.random.default_rng(1).uniform(-0.5, 71, (60, 2))
    decoded = DecodedImage(load_image(tmp_path / "a.png"), FACTORS)
    for patch_px in (8, 64):
        expected = crop_patches(pyramid, np.zeros(60, int), xy, patch_px)
        assert expected.any()
        assert np.array_equal(decoded.patches(xy, patch_px), expected)


def test_every_point_gets_the_answer_for_its_own_patch() -> None:
    image, model = picture((21, 30)), classifier()
    xy = np.random.default_rng(2).uniform((-0.5, -0.5), (29.5, 20.5), (9, 2))
    places = [(x, y) for x, y in xy.tolist()]
    after = PointVisibility(model)(image, prediction(places[:4], [], places[4:]))
    with torch.inference_mode():
        logits = model(torch.from_numpy(slow_patches(image, xy).round().astype(np.uint8))).double().numpy()
    points = [*after["c0"], *after["c2"]]
    assert [p.p_visible for p in points] == pytest.approx((1 / (1 + np.exp(-logits))).tolist(), abs=0.03)
    assert len({round(p.p_visible or 0, 3) for p in points}) > 6
    assert [p.visibility for p in points] == [2 if (p.p_visible or 0) >= 0.5 else 1 for p in points]
    assert {p.visibility for p in points} == {1, 2}
    assert [(p.x, p.y, p.score) for p in points] == [(*place, 0.5) for place in places]
    assert after["c1"] == ()
    assert (after.channel_names, after.image_hw, after.source) == (("c0", "c1", "c2"), (21, 30), "a.png")


def test_an_image_without_points_stays_as_it_is() -> None:
    nothing = prediction([], [])
    assert PointVisibility(classifier())(picture((21, 30)), nothing) == nothing


def test_many_points_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    image, xy = picture((40, 50)), np.random.default_rng(3).uniform(0, 40, (23, 2))
    tell = PointVisibility(classifier())
    at_once = tell.p_visible(image, xy)
    monkeypatch.setattr(predict_visibility, "PATCH_BYTES", 4 * 9 * PATCH_PX**2)
    assert tell.p_visible(image, xy) == pytest.approx(at_once, abs=1e-5)
    assert at_once.min() < 0.5 < at_once.max()


def test_a_classifier_comes_back_from_its_file(tmp_path: Path) -> None:
    made = classifier()
    loaded = load_point_visibility(save_classifier(tmp_path / "v.ckpt", made))
    image, xy = picture((40, 50)), np.array([[3.0, 4.0], [30.0, 20.0]])
    assert np.array_equal(loaded.p_visible(image, xy), PointVisibility(made).p_visible(image, xy))
    assert not loaded.classifier.training


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^--visibility: .*none\.ckpt"):
        load_point_visibility(tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match=r"^--visibility: .*k\.ckpt is a checkpoint of a keypoint detector"):
        load_point_visibility(save_detector(tmp_path / "k.ckpt"))
    (tmp_path / "text.ckpt").write_text("no model")
    with pytest.raises(ValueError, match=r"^--visibility: .*text\.ckpt is not a checkpoint"):
        load_point_visibility(tmp_path / "text.ckpt")
    with_depth = save_classifier(tmp_path / "d.ckpt", classifier(n_channels=4))
    with pytest.raises(ValueError, match=r"expected a classifier of 3 channels \(RGB\), got 4 in") as caught:
        load_point_visibility(with_depth)
    assert "\n" not in str(caught.value)
