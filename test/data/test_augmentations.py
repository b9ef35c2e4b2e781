import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import centroid, draw_dot

from keypoint_detection.data.augmentations import (
    AugmentationConfig,
    Augmenter,
    add_noise,
    blur,
    color_matrix,
    map_colors,
    map_values,
    shift_into_frame,
)
from keypoint_detection.geometry import (
    box_affine,
    compose,
    identity_affine,
    invert,
    is_inside,
    letterbox_affine,
    similarity_affine,
    transform_points,
)

IMAGE_HW, TO_HW = (90, 120), (96, 80)
NONE = AugmentationConfig(
    scale=1.0, rotation_degrees=0.0, translation=0.0, horizontal_flip=0.0, vertical_flip=0.0, color=0.0
)
NONE = dataclasses.replace(NONE, color_probability=0.0)
RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_dot_and_round_trip(seed: int) -> None:
    config = AugmentationConfig(vertical_flip=0.5, rotation_degrees=180.0, color=0.0)
    xy = np.random.default_rng(seed).uniform((30, 25), (90, 65))
    image = np.repeat(draw_dot(IMAGE_HW, (xy[0], xy[1]), 2.0)[..., None], 3, 2)
    warped, affine = Augmenter(config)(image, TO_HW, generator(seed))
    point = transform_points(affine, xy)
    assert np.abs(transform_points(invert(affine), point) - xy).max() < 1e-9
    if is_inside(point, TO_HW) and np.minimum(point, np.array(TO_HW[::-1]) - 1 - point).min() > 8:
        assert np.abs(centroid(warped[..., 1]) - point).max() <= 0.05


def test_zero_strengths_leave_a_letterbox() -> None:
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE_HW, 3), dtype=np.uint8)
    augmented, affine = Augmenter(NONE)(image, IMAGE_HW, generator())
    assert np.array_equal(augmented, image)
    affine = Augmenter(NONE).random_affine(IMAGE_HW, TO_HW, generator())
    assert np.allclose(affine, letterbox_affine(IMAGE_HW, TO_HW))


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_letterbox_and_change_are_one_similarity(seed: int) -> None:
    config = dataclasses.replace(NONE, scale=1.5, rotation_degrees=180.0, translation=0.2)
    draws = generator(seed)
    zoom, degrees = 1.5 ** draws.uniform(-1, 1), draws.uniform(-180, 180)
    shift_xy = (draws.uniform(-0.2, 0.2) * TO_HW[1], draws.uniform(-0.2, 0.2) * TO_HW[0])
    fit = TO_HW[1] / IMAGE_HW[1]
    expected = similarity_affine(IMAGE_HW, TO_HW, fit * zoom, degrees, shift_xy)
    affine = Augmenter(config).random_affine(IMAGE_HW, TO_HW, generator(seed))
    assert np.abs(affine - expected).max() <= 1e-9


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_box_is_changed_about_the_centre_of_its_frame(seed: int) -> None:
    base, config = box_affine((30, 20, 24, 40), TO_HW), AugmentationConfig(translation=0.0)
    affine = Augmenter(config).random_affine(IMAGE_HW, TO_HW, generator(seed), base=base)
    centre = transform_points(affine, np.array([30 + 12 - 0.5, 20 + 20 - 0.5]))
    assert np.allclose(centre, ((TO_HW[1] - 1) / 2, (TO_HW[0] - 1) / 2))
    scale = np.sqrt(abs(np.linalg.det(affine[:, :2]))) / base[0, 0]
    assert 1 / 1.25 - 1e-9 <= scale <= 1.25 + 1e-9
    letterbox = letterbox_affine(IMAGE_HW, TO_HW)
    without, default = (
        Augmenter(config).random_affine(IMAGE_HW, TO_HW, generator(seed), base=given)
        for given in (letterbox, None)
    )
    assert np.array_equal(without, default)
    warped = Augmenter(NONE)(RGB, (20, 20), generator(), base=base)[1]
    assert np.allclose(warped, compose(base, similarity_affine((20, 20), (20, 20))))


def drawn(config: AugmentationConfig, count: int = 400) -> np.ndarray:
    augmenter, source = Augmenter(config), generator(3)
    return np.stack([augmenter.random_affine(TO_HW, TO_HW, source) for _ in range(count)])


def test_draws_fill_their_ranges() -> None:
    affines = drawn(dataclasses.replace(NONE, scale=1.5))
    scale = np.sqrt(np.linalg.det(affines[:, :, :2]))
    assert 1 / 1.5 <= scale.min() < 0.68
    assert 1.47 < scale.max() <= 1.5
    assert abs(np.log(scale).mean()) < 0.05  # as often larger as smaller
    affines = drawn(dataclasses.replace(NONE, rotation_degrees=40.0))
    degrees = np.degrees(np.arctan2(affines[:, 1, 0], affines[:, 0, 0]))
    assert -40 <= degrees.min() < -38
    assert 38 < degrees.max() <= 40
    shifts = drawn(dataclasses.replace(NONE, translation=0.25))[:, :, 2]
    assert np.abs(shifts).max(0) == pytest.approx((0.25 * 80, 0.25 * 96), rel=0.05)
    mirrored = np.linalg.det(drawn(dataclasses.replace(NONE, horizontal_flip=0.25))[:, :, :2]) < 0
    assert 0.18 < mirrored.mean() < 0.32


def test_the_same_generator_gives_the_same_sample() -> None:
    augmenter = Augmenter(AugmentationConfig())
    first, again, other = (augmenter(RGB, (20, 20), generator(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_any_number_of_channels(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, channels), dtype=np.uint8)
    before = image.copy()
    augmenter = Augmenter(
        AugmentationConfig(color_probability=1.0, blur_probability=1.0, noise_probability=1.0)
    )
    augmented, _ = augmenter(image, (30, 30), generator())
    assert augmented.shape == (30, 30, channels)
    assert augmented.dtype == np.uint8
    assert augmented.std() > 5
    assert np.array_equal(image, before)


def test_color_zero_leaves_the_values_alone() -> None:
    config = AugmentationConfig(color=0.0, color_probability=1.0, blur_probability=1.0, noise_probability=1.0)
    for seed in range(5):
        changed = Augmenter(config).change_values(RGB, generator(seed))
        assert np.abs(changed.astype(int) - RGB).max() <= 1


def test_strengths_are_moderate() -> None:
    """Guard against defaults that hide the picture: 20 grey levels of change on average are plenty."""
    augmenter = Augmenter(AugmentationConfig())
    changes = [
        np.abs(augmenter.change_values(RGB, generator(seed)).astype(float) - RGB).mean()
        for seed in range(100)
    ]
    assert 5 < np.mean(changes) < 30
    assert max(changes) < 70


def test_color_matrix_keeps_grey_and_turns_hue() -> None:
    grey = np.full(3, 80.0)
    for saturation, degrees in [(0.3, 0.0), (1.4, 25.0), (1.0, -120.0)]:
        assert np.allclose(color_matrix(saturation, degrees) @ grey, grey)
    assert np.allclose(color_matrix(1.0, 0.0), np.eye(3))
    assert np.allclose(color_matrix(1.0, 120.0) @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])  # red becomes green
    assert np.allclose(color_matrix(0.0, 0.0) @ [255.0, 0.0, 0.0], 0.299 * 255)


def test_maps_clip_and_round() -> None:
    mapped = map_colors(RGB, color_matrix(1.3, 20.0) * 1.4, -30.0)
    expected = np.clip(RGB @ (color_matrix(1.3, 20.0) * 1.4).T - 30.0, 0, 255)
    assert np.abs(mapped - expected).max() <= 1.01
    values = map_values(np.array([[[0], [100], [255]]], np.uint8), 1.5, -20.0)
    assert values[0, :, 0].tolist() == [0, 130, 255]


def test_noise_and_blur_have_their_strength() -> None:
    grey = np.full((200, 200, 3), 120, np.uint8)
    noise = add_noise(grey, 6.0, generator()).astype(float) - 120
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(6.0, rel=0.03)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    step = np.repeat(np.repeat([[0], [250]], 20, 0), 9, 1).astype(np.uint8)[..., None]
    slope = np.diff(
        blur(step, 1.5)[:, 4, 0].astype(float)
    )  # the derivative of a blurred step is the blur itself
    assert slope.sum() == 250
    assert np.sqrt((slope * (np.arange(39) - 19) ** 2).sum() / 250) == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", 0.8),
        ("scale", float("nan")),
        ("rotation_degrees", 181.0),
        ("horizontal_flip", 1.5),
        ("color", -0.1),
        ("blur_sigma_px", (0.0, 1.0)),
        ("noise_std", (3.0, 2.0)),
        ("noise_std", (1.0, 2.0, 3.0)),
    ],
)
def test_wrong_strengths_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        AugmentationConfig(**{field: value})


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_keypoints_that_fit_are_kept_in_the_frame(seed: int) -> None:
    generator = np.random.default_rng(seed)
    config = AugmentationConfig(rotation_degrees=180.0, keep_keypoints=1.0, color=0.0)
    points = generator.uniform(0, 1, (4, 2)) * 20 + generator.uniform(0, 1, 2) * [140, 80]
    _, affine = Augmenter(config)(np.zeros((100, 160, 3), np.uint8), (100, 160), generator, points)
    moved = transform_points(affine, points)
    assert moved.min() >= 0
    assert (moved <= [159, 99]).all()


def test_shift_into_frame_is_the_smallest_one() -> None:
    shifted = shift_into_frame(
        identity_affine(), np.array([[-5.0, 3.0], [4.0, 30.0]]), (20, 40), np.array([2.0, 1.0])
    )
    assert shifted[:, 2].tolist() == [7.0, 0.0]  # x moves by 5 + 2; y does not fit and stays
    assert shift_into_frame(identity_affine(), np.array([[9.0, 25.0]]), (20, 40), np.zeros(2))[1, 2] == -6.0
