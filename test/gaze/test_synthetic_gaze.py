from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from keypoint_detection.data.synthetic_drawing import polygon_coverage
from keypoint_detection.gaze.people import read_table
from keypoint_detection.gaze.synthetic import annotate, draw_scene, make_gaze_scenes, scene_table
from keypoint_detection.gaze.synthetic_head import _HAIRS, _SKINS
from keypoint_detection.gaze.synthetic_scene import AMBIGUOUS_DEGREES, MARGIN_DEGREES, Scene

HW = (96, 128)


def plans(n_scenes: int, image_hw: tuple[int, int] = HW, seed: int = 1, **options: Any) -> list[Scene]:
    return [draw_scene(np.random.default_rng([seed, i]), image_hw, **options)[1] for i in range(n_scenes)]


def masks(scene: Scene) -> list[np.ndarray]:
    """Return the pixels of each object, those that it merely touches included."""
    found = []
    for thing in scene.objects:
        mask = np.zeros(scene.image_hw, bool)
        coverage, rows, columns = polygon_coverage(thing.outline(), scene.image_hw)
        mask[rows, columns] = coverage > 0
        found.append(mask)
    return found


def march(origin: np.ndarray, step: np.ndarray, hit: list[np.ndarray]) -> int | None:
    """Walk from a point by steps of half a pixel; return the first mask that is met, None outside."""
    height, width = hit[0].shape if hit else HW
    place = origin.copy()
    while True:
        column, row = np.rint(place).astype(int)
        if not (0 <= row < height and 0 <= column < width):
            return None
        for number, mask in enumerate(hit):
            if mask[row, column]:
                return number
        place = place + 0.5 * step


def test_a_march_along_every_ray_finds_the_target() -> None:
    n_inside = n_outside = n_hidden = 0
    for index, scene in enumerate(plans(500)):
        table = scene_table([scene], [annotate(scene, 1, np.random.default_rng(index))])
        hit = masks(scene)
        for row in range(len(table)):
            # the table alone says where the ray is: from the middle of the head through the eye
            centre = table.head_box[row].reshape(2, 2).mean(axis=0)
            step = (table.eye_xy[row] - centre) / np.linalg.norm(table.eye_xy[row] - centre)
            found = march(centre, step, hit)
            if table.in_frame[row] == 0:
                assert found is None
                assert np.isnan(table.gaze_xy[row]).all()
                n_outside += 1
            else:
                assert found is not None
                np.testing.assert_array_equal(table.gaze_xy[row, 0], scene.objects[found].centre_xy)
                others = [mask for number, mask in enumerate(hit) if number != found]
                n_hidden += bool(others) and march(centre, step, others) is not None
                n_inside += 1
    assert n_inside > 400
    assert n_outside > 100
    assert n_hidden > 40  # the first of two objects on a ray is the right one


def test_nothing_is_nearly_on_a_ray() -> None:
    closest = 180.0
    for scene in plans(200):
        for number, person in enumerate(scene.people):
            origin, ahead = person.ray.origin_xy, person.ray.direction
            reach = np.inf
            if person.targets:
                reach = np.linalg.norm(scene.objects[person.targets[0]].centre_xy - origin)
            for index, thing in enumerate(scene.objects):
                step = thing.outline() - origin
                distance = np.linalg.norm(step, axis=1)
                away = np.degrees(np.arccos(np.clip(step @ ahead / distance, -1, 1)))
                is_behind = distance.min() > reach
                if index not in person.targets and not is_behind:
                    closest = min(closest, away.min())
            for other in scene.people[:number] + scene.people[number + 1 :]:
                step = other.ray.origin_xy - origin
                away = np.degrees(np.arccos(step @ ahead / np.linalg.norm(step)))
                half = np.degrees(np.arcsin(other.head_radius_px / np.linalg.norm(step)))
                closest = min(closest, away - half)
    assert MARGIN_DEGREES <= closest < MARGIN_DEGREES + 5


def test_heads_and_objects_are_whole_and_apart() -> None:
    for scene in plans(60):
        last = np.array(HW[::-1]) - 0.5
        discs = [(thing.centre_xy, thing.radius_px) for thing in scene.objects]
        discs += [(person.ray.origin_xy, person.head_radius_px) for person in scene.people]
        for number, (centre, radius) in enumerate(discs):
            assert (centre - radius >= -0.5).all()
            assert (centre + radius <= last).all()
            for other, other_radius in discs[:number]:
                assert np.linalg.norm(centre - other) > radius + other_radius
        for person in scene.people:
            assert (person.head_box[:2] >= -0.5).all()
            assert (person.head_box[2:] <= last).all()


def test_the_picture_shows_what_the_plan_says() -> None:
    image, scene = draw_scene(np.random.default_rng(3), (192, 256), share_two=1.0)
    assert image.shape == (192, 256, 3)
    assert image.dtype == np.uint8
    for thing in scene.objects:
        column, row = np.rint(thing.centre_xy).astype(int)
        assert np.abs(image[row, column].astype(int) - thing.color).max() <= 14
    assert len(scene.people) == 2
    for person in scene.people:
        for forward, colors in ((-0.5, _HAIRS), (0.15, _SKINS)):  # hair at the back, skin at the front
            column, row = np.rint(person.ray.at(forward * person.head_radius_px)).astype(int)
            assert np.abs(image[row, column].astype(int) - np.array(colors)).max(axis=1).min() <= 14


def test_scenes_vary() -> None:
    scenes = plans(150)
    n_outside = [not person.targets for scene in scenes for person in scene.people]
    assert 0.15 < np.mean(n_outside) < 0.35
    assert 0.2 < np.mean([len(scene.people) == 2 for scene in scenes]) < 0.4
    assert len({thing.shape for scene in scenes for thing in scene.objects}) == 7
    radii = [person.head_radius_px for scene in scenes for person in scene.people]
    assert max(radii) > 1.4 * min(radii)
    turns = [np.arctan2(*person.ray.direction) for scene in scenes for person in scene.people]
    assert np.histogram(turns, 6, (-np.pi, np.pi))[0].min() > 10
    none = plans(20, share_outside=0.0, share_two=0.0)
    assert all(len(scene.people) == 1 and scene.people[0].targets for scene in none)
    assert all(not p.targets for scene in plans(20, share_outside=1.0) for p in scene.people)


def test_two_targets_are_equally_right() -> None:
    n_people, first = 0, []
    for place, scene in enumerate(plans(150, ambiguous=True)):
        one = annotate(scene, 1, np.random.default_rng(place))
        several = annotate(scene, 4, np.random.default_rng(place))
        hit = masks(scene)
        for number, person in enumerate(scene.people):
            assert march(person.ray.origin_xy, person.ray.direction, hit) is None
            for index, thing in enumerate(scene.objects):
                step = thing.outline() - person.ray.origin_xy
                away = np.arccos(step @ person.ray.direction / np.linalg.norm(step, axis=1))
                if index not in person.targets:  # nor may it look like one of two
                    assert np.degrees(away.min()) >= MARGIN_DEGREES + 2 * AMBIGUOUS_DEGREES
            if not person.targets:
                assert np.isnan(several[number]).all()
                continue
            things = [scene.objects[target] for target in person.targets]
            steps = [thing.centre_xy - person.ray.origin_xy for thing in things]
            x, y = person.ray.direction
            angles = [np.degrees(np.arctan2(x * step[1] - y * step[0], step @ (x, y))) for step in steps]
            np.testing.assert_allclose(angles, [-AMBIGUOUS_DEGREES, AMBIGUOUS_DEGREES])
            assert np.linalg.norm(steps[0]) == pytest.approx(np.linalg.norm(steps[1]))
            assert things[0].radius_px == things[1].radius_px
            centres = np.stack([thing.centre_xy for thing in things])
            nearest = np.linalg.norm(several[number][:, None] - centres, axis=2).argmin(axis=1)
            assert set(nearest[:2].tolist()) == {0, 1}
            first.append(int((one[number, 0] == centres[1]).all()))
            assert (one[number, 0] == centres[first[-1]]).all()
            n_people += 1
    assert n_people > 100
    assert 0.35 < np.mean(first) < 0.65


def test_several_annotators_point_at_the_object() -> None:
    distances = []
    for index, scene in enumerate(plans(40)):
        points = annotate(scene, 5, np.random.default_rng(index))
        assert points.shape == (len(scene.people), 5, 2)
        for person, row in zip(scene.people, points, strict=True):
            if person.targets:
                thing = scene.objects[person.targets[0]]
                distances.append(np.linalg.norm(row - thing.centre_xy, axis=1) / thing.radius_px)
    assert 0 < np.mean(distances) < 0.4
    assert np.max(distances) <= 0.6


def test_a_data_set_is_written_and_repeats(tmp_path: Path) -> None:
    first = make_gaze_scenes(tmp_path / "a", 6, image_hw=HW, seed=7, annotators=3)
    second = make_gaze_scenes(tmp_path / "b", 4, image_hw=HW, seed=7, annotators=3)
    table, smaller = read_table(first), read_table(second)
    assert table.image_names == tuple(f"images/{number:05d}.png" for number in range(6))
    assert (table.image_hw == HW).all()
    assert table.gaze_xy.shape == (len(table), 3, 2)
    assert len(set(table.person)) == len(table)
    assert all(table.group[row] == table.image_names[image] for row, image in enumerate(table.image))
    np.testing.assert_array_equal(table.gaze_xy[: len(smaller)], smaller.gaze_xy)
    for name in smaller.image_names:
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()
    image, scene = draw_scene(np.random.default_rng([7, 2]), HW)
    written = cv2.imread(str(first.parent / table.image_names[2]))
    assert written is not None
    np.testing.assert_array_equal(written[..., ::-1], image)
    boxes = [person.head_box for person in scene.people]
    np.testing.assert_array_equal(table.head_box[table.image == 2], boxes)
    assert not list(first.parent.glob("**/.*"))


def test_wrong_requests_are_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"^expected drawn scenes of at least 64x64 pixels, got 32x128$"):
        draw_scene(rng, (32, 128))
    with pytest.raises(ValueError, match=r"^share_outside: expected a share from 0 to 1, got 2$"):
        draw_scene(rng, HW, share_outside=2)
    with pytest.raises(ValueError, match="at least 1 image and 1 annotator, got 0 and 1"):
        make_gaze_scenes(tmp_path, 0)
    with pytest.raises(ValueError, match="seed of 0 or more, got seed=-1"):
        make_gaze_scenes(tmp_path, 1, seed=-1)
    assert draw_scene(rng, (64, 640))[1].people  # elongated is no problem
