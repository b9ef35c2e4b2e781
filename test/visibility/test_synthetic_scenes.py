"""Drawn scenes on disk: labels are depth against the true limit, and a folder is whole or not there."""

import json

import cv2
import numpy as np
import pytest

from keypoint_detection.visibility import synthetic
from keypoint_detection.visibility.scenes import find_scenes, load_depth, load_labels
from keypoint_detection.visibility.synthetic import TRUTH_NAME, make_terrain

HW = (96, 128)


@pytest.fixture(scope="module")
def terrain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "terrain"
    assert make_terrain(folder, n_views=3, images_per_view=2, image_hw=HW, seed=4) == folder
    return folder


def truth_of(folder):
    return json.loads((folder / TRUTH_NAME).read_text(encoding="utf-8"))


def test_scenes_are_found_with_their_truth(terrain):
    scenes, truth = find_scenes(terrain), truth_of(terrain)
    assert [scene.name for scene in scenes] == list(truth)
    assert [scene.view for scene in scenes] == ["view00"] * 2 + ["view01"] * 2 + ["view02"] * 2
    assert len({entry["visibility_m"] for entry in truth.values()}) == 6


def test_labels_are_depth_against_the_limit(terrain):
    truth = truth_of(terrain)
    for scene in find_scenes(terrain):
        depth_m, labels = load_depth(scene), load_labels(scene)
        limit_m = truth[scene.name]["visibility_m"]
        expected = np.where(np.isnan(depth_m), 2, np.where(depth_m.astype(np.float64) < limit_m, 1, 0))
        np.testing.assert_array_equal(labels, expected)
        assert (labels == 1).any()
        assert (labels == 0).any()
        assert cv2.imread(str(scene.image_path), cv2.IMREAD_UNCHANGED).shape == (*HW, 3)


def test_the_same_seed_gives_the_same_files_and_a_larger_set_begins_with_the_smaller(terrain, tmp_path):
    larger = make_terrain(tmp_path / "b", n_views=4, images_per_view=3, image_hw=HW, seed=4)
    for path in sorted(path for path in terrain.rglob("*") if path.is_file() and path.name != TRUTH_NAME):
        assert (larger / path.relative_to(terrain)).read_bytes() == path.read_bytes(), path
    assert truth_of(terrain).items() <= truth_of(larger).items()
    other = make_terrain(tmp_path / "c", n_views=1, images_per_view=1, image_hw=HW, seed=5)
    name = "images/view00/000.png"
    assert (other / name).read_bytes() != (terrain / name).read_bytes()


def test_colours_are_written_as_red_green_blue(terrain, monkeypatch, tmp_path):
    red = np.zeros((*HW, 3), np.uint8)
    red[..., 0] = 250
    monkeypatch.setattr(synthetic, "photograph", lambda view, weather, rng: red)
    folder = make_terrain(tmp_path / "red", n_views=1, images_per_view=1, image_hw=HW, seed=0)
    stored = cv2.imread(str(find_scenes(folder)[0].image_path))  # blue first
    assert stored[0, 0].tolist() == [0, 0, 250]


def test_a_failure_half_way_leaves_nothing(monkeypatch, tmp_path):
    real, calls = synthetic.photograph, []

    def fail_at_the_third(view, weather, rng):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(view, weather, rng)

    monkeypatch.setattr(synthetic, "photograph", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make_terrain(tmp_path / "terrain", n_views=2, images_per_view=2, image_hw=HW, seed=0)
    assert len(calls) == 3
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_another_is_left_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    make_terrain(tmp_path / "empty", n_views=1, images_per_view=1, image_hw=HW, seed=0)
    assert len(find_scenes(tmp_path / "empty")) == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    for folder in (tmp_path / "full", tmp_path / "full" / "thesis.txt"):
        with pytest.raises(ValueError, match="expected a new or empty folder"):
            make_terrain(folder, n_views=1, images_per_view=1, image_hw=HW, seed=0)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_views": 0}, "at least 1 view of 1 image, got 0 views of 1"),
        ({"images_per_view": 0}, "got 1 views of 0"),
        ({"image_hw": (63, 100)}, "at least 64x64 pixels, got 63x100"),
        ({"seed": -1}, "seed of 0 or more, got seed=-1"),
    ],
)
def test_numbers_out_of_range(tmp_path, changes, words):
    numbers = {"n_views": 1, "images_per_view": 1, "image_hw": HW, "seed": 0} | changes
    with pytest.raises(ValueError, match=words):
        make_terrain(tmp_path / "t", **numbers)
    assert not list(tmp_path.iterdir())
