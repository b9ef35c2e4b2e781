from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged import ANSWERS, NAN, P_IN, ToldFollower, part_of, people, tiny_follower

from keypoint_detection.gaze.evaluate import dataset_for
from keypoint_detection.gaze.gaze_prediction import predict_batch, spread_of
from keypoint_detection.gaze.samples import collate_gaze


def batch_of(folder: Path, told: Any, rows: list[int]) -> Any:
    dataset = dataset_for(told, part_of(people(), folder))
    return collate_gaze([dataset[row] for row in rows])


def test_modes_are_in_pixels_of_the_picture_with_their_weights(tmp_path: Path) -> None:
    told: Any = ToldFollower(people(), ANSWERS, P_IN)
    (ann, bob), maps = predict_batch(told, batch_of(tmp_path, told, [0, 1]), samples=4)
    # 0.25 of 200 px and 0.5 of 100 px, in a picture that begins at -0.5
    np.testing.assert_allclose(ann.point_xy, [49.5, 49.5], atol=0.3)
    np.testing.assert_allclose(ann.modes_xy, [[49.5, 49.5], [149.5, 49.5]], atol=0.3)
    assert ann.weights.tolist() == [0.75, 0.25]
    np.testing.assert_allclose(ann.mode_std_px, [0, 0], atol=1e-4)
    # three at 0.25 and one at 0.75: variance 3/4 1/4 (1/2)^2
    assert ann.spread == pytest.approx(np.sqrt(3 / 64), abs=2e-3)
    assert ann.p_in == pytest.approx(0.9)
    assert bob.weights.tolist() == [1.0]
    assert bob.spread == pytest.approx(0, abs=1e-6)
    assert maps.shape == (2, 20, 20)
    assert ann.heat is not None
    assert ann.heat.dtype == np.uint8
    np.testing.assert_array_equal(ann.heat, np.rint(255 * maps[0].numpy()))


def test_the_spread_of_a_mode_is_in_pixels_of_the_picture(tmp_path: Path) -> None:
    places = {**ANSWERS, "bob": [(0.5, 0.475), (0.5, 0.525)]}  # half a map pixel up and down: 2.5 px
    told: Any = ToldFollower(people(), places, P_IN)
    (bob,), _ = predict_batch(told, batch_of(tmp_path, told, [1]), samples=2)
    assert bob.weights.tolist() == [1.0]
    np.testing.assert_allclose(bob.mode_std_px, [2.5], atol=0.3)
    np.testing.assert_allclose(bob.samples_xy, [[99.5, 47.0], [99.5, 52.0]], atol=0.4)


def test_spread_of_points() -> None:
    assert spread_of(np.array([[0.0, 0.0], [6.0, 8.0]])) == 5.0
    assert spread_of(np.array([[3.0, 4.0]])) == 0.0


def test_broken_maps_are_an_error(tmp_path: Path) -> None:
    told: Any = ToldFollower(people(), {**ANSWERS, "bob": [(NAN, 0.5)] * 4}, P_IN)
    with pytest.raises(ValueError, match="expected finite maps"):
        predict_batch(told, batch_of(tmp_path, told, [0, 1]), samples=4)


def test_a_direct_follower_has_one_sure_candidate(tmp_path: Path) -> None:
    follower = tiny_follower("direct")
    found, _ = predict_batch(follower, batch_of(tmp_path, follower, [0, 1, 2]), samples=8)
    for one in found:
        assert one.weights.tolist() == [1.0]
        assert one.spread == 0.0
        np.testing.assert_array_equal(one.modes_xy[0], one.samples_xy[0])
        np.testing.assert_allclose(one.point_xy, one.samples_xy[0], atol=1e-4)


def test_the_seed_gives_the_noise(tmp_path: Path) -> None:
    follower = tiny_follower()
    batch = batch_of(tmp_path, follower, [0, 1])
    maps = [predict_batch(follower, batch, samples=2, seed=seed)[1] for seed in (3, 3, 4)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
