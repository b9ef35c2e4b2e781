from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from judged import ANSWERS, P_IN, ToldFollower, judged, part_of, people, tiny_follower

from keypoint_detection.gaze.augmentation import GazeAugmentation
from keypoint_detection.gaze.evaluate import evaluate_people, map_auc
from keypoint_detection.gaze.people_data import GazePart
from keypoint_detection.gaze.samples import GazeDataset


def test_everybody_is_judged_and_who_does_not_count_has_no_area(tmp_path: Path) -> None:
    _, found = judged(tmp_path)
    np.testing.assert_allclose(found.p_in, [0.9, 0.8, 0.1, 0.5])
    np.testing.assert_allclose(found.point_xy[:2], [[49.5, 49.5], [99.5, 49.5]], atol=0.3)
    assert found.auc[0] > 0.99
    assert np.isnan(found.auc[2:]).all()
    assert found.samples == 4


def test_the_area_is_that_of_the_map_over_the_picture() -> None:
    table = people().select([0])
    maps = torch.zeros(1, 2, 2)
    maps[0, :, 0] = 1.0
    area = map_auc(table, maps)[0]
    # ann looks at column 50, which is at u = 0.005: columns 0 to 49 are higher, and its own are equal
    lower, equal, pixels = 149 * 100, 100, 200 * 100
    assert area == pytest.approx((lower + (equal - 1) / 2) / (pixels - 1))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_are_put_together_in_the_order_of_the_table(tmp_path: Path, batch_size: int) -> None:
    table = people().select([3, 1, 0, 2])
    told: Any = ToldFollower(table, ANSWERS, P_IN)
    found = evaluate_people(told, part_of(table, tmp_path), samples=4, batch_size=batch_size, num_workers=0)
    np.testing.assert_allclose(found.p_in, [0.5, 0.8, 0.9, 0.1])
    assert [size for size, _ in told.calls] == {1: [1] * 4, 3: [3, 1], 16: [4]}[batch_size]
    assert len({seed for _, seed in told.calls}) == len(told.calls)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_order_of_the_table_changes_nothing(tmp_path: Path, batch_size: int) -> None:
    follower, table = tiny_follower(), people()
    part = part_of(table, tmp_path)
    order = [2, 0, 3, 1]
    shuffled = GazePart(table.select(order), tmp_path)
    one, other = (
        evaluate_people(follower, each, samples=3, seed=5, batch_size=batch_size, num_workers=0)
        for each in (part, shuffled)
    )
    for place, row in enumerate(order):
        assert other.predictions[place].samples_xy.tolist() == one.predictions[row].samples_xy.tolist()
        np.testing.assert_array_equal(other.predictions[place].heat, one.predictions[row].heat)  # pyright: ignore
    np.testing.assert_array_equal(other.auc, one.auc[order])
    again = evaluate_people(follower, part, samples=3, seed=6, batch_size=batch_size, num_workers=0)
    assert again.predictions[0].samples_xy.tolist() != one.predictions[0].samples_xy.tolist()


def test_neither_the_batch_size_nor_the_others_change_what_is_said_of_a_person(tmp_path: Path) -> None:
    follower, table = tiny_follower(), people()
    parts = [(table, 1), (table, 3), (table.select([2, 0]), 2)]
    found = []
    for some, batch_size in parts:
        part = part_of(some, tmp_path)
        judged = evaluate_people(follower, part, samples=3, seed=5, batch_size=batch_size, num_workers=0)
        found.append(dict(zip(some.person, judged.predictions, strict=True)))
    for other in found[1:]:
        for person, prediction in other.items():
            np.testing.assert_allclose(prediction.samples_xy, found[0][person].samples_xy, atol=0.01)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_mode_of_the_follower_stays(tmp_path: Path, is_training: bool) -> None:
    follower = tiny_follower("direct").train(is_training)
    evaluate_people(follower, part_of(people(), tmp_path), num_workers=0)
    assert follower.training == is_training


def test_the_conditioner_runs_once_per_person(tmp_path: Path) -> None:
    follower, seen = tiny_follower(), []
    follower.conditioner.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    evaluate_people(follower, part_of(people(), tmp_path), samples=5, batch_size=3, num_workers=0)
    assert seen == [3, 1]


def test_samples_of_a_training_are_taken_where_they_fit(tmp_path: Path) -> None:
    follower, part = tiny_follower("direct"), part_of(people(), tmp_path)
    fits = GazeDataset(part.table, part.root, scene_hw=(32, 32), head_hw=(32, 32))
    expected = evaluate_people(follower, part, num_workers=0)
    np.testing.assert_array_equal(evaluate_people(follower, fits, num_workers=0).auc, expected.auc)
    other = GazeDataset(part.table, part.root, scene_hw=(48, 32), head_hw=(32, 32))
    with pytest.raises(ValueError, match=r"expected scenes and heads of .*got \(\(48, 32\)"):
        evaluate_people(follower, other, num_workers=0)
    changed = GazeDataset(
        part.table, part.root, scene_hw=(32, 32), head_hw=(32, 32), augmentation=GazeAugmentation()
    )
    with pytest.raises(ValueError, match="and an augmentation"):
        evaluate_people(follower, changed, num_workers=0)


def test_what_cannot_be_is_said_at_the_door(tmp_path: Path) -> None:
    follower, part = tiny_follower("direct"), part_of(people(), tmp_path)
    with pytest.raises(ValueError, match="expected at least one person"):
        evaluate_people(follower, GazePart(people().select([]), tmp_path))
    with pytest.raises(ValueError, match="expected samples and batch_size >= 1, got 0 and 16"):
        evaluate_people(follower, part, samples=0)
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        evaluate_people(follower, replace(part, root=tmp_path / "elsewhere"))
    told: Any = ToldFollower(people(), ANSWERS, P_IN)
    told.conditioner.depth_branch = "any"
    with pytest.raises(ValueError, match="trained with depth maps, got people without"):
        evaluate_people(told, part)
    broken: Any = ToldFollower(people(), ANSWERS, {**P_IN, "bob": np.nan})
    with pytest.raises(ValueError, match="got nan for person bob"):
        evaluate_people(broken, part, num_workers=0)
