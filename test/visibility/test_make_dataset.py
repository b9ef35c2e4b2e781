"""Data sets of points: from scenes of both layouts, one line for a wrong scene, no half sets."""

import shutil
import sys

import cv2
import numpy as np
import pytest

from keypoint_detection.visibility import make_dataset as module
from keypoint_detection.visibility.make_dataset import make_dataset
from keypoint_detection.visibility.points import read_points
from keypoint_detection.visibility.pyramid import crop_patches, open_pyramid
from keypoint_detection.visibility.scenes import find_scenes, load_depth, load_labels
from keypoint_detection.visibility.synthetic import make_terrain

SMALL = {"points_per_image": 40, "border_px": 12, "factors": (2, 4), "seed": 0}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "terrain"
    return make_terrain(folder, n_views=2, images_per_view=2, image_hw=(96, 128), seed=8)


@pytest.fixture
def terrain(original, tmp_path):
    return shutil.copytree(original, tmp_path / "terrain")


def test_points_agree_with_the_scenes_and_the_pyramid(terrain, tmp_path):
    points_path, pyramid_folder = make_dataset(terrain, tmp_path / "set", **SMALL)
    assert (points_path, pyramid_folder) == (tmp_path / "set" / "points.csv", tmp_path / "set" / "pyramid")
    table, pyramid, scenes = read_points(points_path), open_pyramid(pyramid_folder), find_scenes(terrain)
    assert table.image_names == tuple(scene.name for scene in scenes) == tuple(pyramid.image_names)
    assert table.views == tuple(scene.view for scene in scenes)
    assert table.image_hw.tolist() == [[96, 128]] * 4
    assert (pyramid.factors, pyramid.n_channels) == ((2, 4), 4)
    assert np.bincount(table.image).tolist() == [40] * 4
    for index, scene in enumerate(scenes):
        x, y = table.xy[table.image == index].astype(int).T
        np.testing.assert_array_equal(table.label[table.image == index], load_labels(scene)[y, x])
        np.testing.assert_array_equal(table.depth_m[table.image == index], load_depth(scene)[y, x])
        assert x.min() >= 12
        assert x.max() <= 128 - 1 - 12
        assert y.max() <= 96 - 1 - 12
    assert set(table.label.tolist()) == {0, 1}
    assert crop_patches(pyramid, table.image[:3], table.xy[:3]).shape == (3, 8, 128, 128)


def test_points_of_an_image_do_not_depend_on_the_others(terrain, tmp_path):
    path, _ = make_dataset(terrain, tmp_path / "one", **SMALL)
    before = read_points(path)
    first = find_scenes(terrain)[0]
    first.image_path.unlink()
    path, _ = make_dataset(terrain, tmp_path / "two", **SMALL)
    after = read_points(path)
    assert after.image_names == before.image_names[1:]
    np.testing.assert_array_equal(after.xy, before.xy[before.image > 0])
    path, _ = make_dataset(terrain, tmp_path / "three", **(SMALL | {"seed": 1}))
    assert not np.array_equal(read_points(path).xy, after.xy)


def test_the_raw_layout_with_sky_and_jpeg_2000(tmp_path):
    raw, stem, hw = tmp_path / "raw", "1159_1_2022-03-04_1300", (96, 120)
    raw.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (12, 15, 3)).astype(np.uint8)
    assert cv2.imwrite(str(raw / f"{stem}.jp2"), cv2.resize(image, hw[::-1]))
    depth = np.full((*hw, 4), 300.0)
    depth[:40, :, 0] = np.nan
    depth[:, 60:, 0] *= 10
    np.save(raw / "1159_1.npy", depth)
    for number, kind, columns in ((1, "nonvisible", np.s_[50:]), (2, "visible", np.s_[:70])):
        mask = np.zeros((*hw, 4), np.uint8)
        mask[:, columns, 3] = 2
        assert cv2.imwrite(str(raw / f"{stem}_000{number}_{kind}.png"), mask)
    path, _ = make_dataset(raw, tmp_path / "set", **(SMALL | {"points_per_image": 400}))
    table = read_points(path)
    assert (table.image_names, table.views, len(table)) == ((f"{stem}.jp2",), ("1159_1",), 400)
    assert table.xy[:, 1].min() >= 40  # no sky
    np.testing.assert_array_equal(table.label, table.xy[:, 0] < 50)  # where both masks are it is not visible
    np.testing.assert_array_equal(table.depth_m, np.where(table.xy[:, 0] < 60, 300.0, 3000.0))


def assert_refused(terrain, output, words, **changes):
    with pytest.raises(ValueError, match=words) as error:
        make_dataset(terrain, output, **(SMALL | changes))
    assert "\n" not in str(error.value)
    assert not output.exists()


def test_a_scene_without_depth_or_labels_is_one_line_and_nothing_is_written(terrain, tmp_path):
    output = tmp_path / "set"
    scene = find_scenes(terrain)[1]
    scene.nonvisible_path.unlink()
    make_dataset(terrain, tmp_path / "one_mask", **SMALL)
    scene.visible_path.unlink()
    assert_refused(terrain, output, r"view00/001\.png: expected labels, found none; add masks")
    scene.depth_path.unlink()
    assert_refused(terrain, output, r"view00/000\.png: expected a depth map, found none \(and 1 more of 4\)")


def test_other_wrong_scenes(terrain, tmp_path):
    output, scene = tmp_path / "set", find_scenes(terrain)[2]
    assert_refused(terrain, output, r"000\.png: expected labelled pixels .* 60 px or more", border_px=60)
    np.save(scene.depth_path, np.ones((50, 60)))
    assert_refused(terrain, output, r"view01/000\.png: .* one size, got 96x128 and 50x60")
    assert_refused(terrain, output, "at least 1 point per image", points_per_image=0)
    assert_refused(terrain, output, "seed of 0 or more", seed=-1)
    assert_refused(terrain, output, r"ends in \.csv or \.parquet", points_format="xls")


def test_parquet_without_its_library_is_told_before_anything_is_built(terrain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_refused(terrain, tmp_path / "set", r"keypoint-detection\[parquet\]", points_format="parquet")


def test_an_output_that_is_a_file(terrain, tmp_path):
    (tmp_path / "set").write_text("mine")
    with pytest.raises(ValueError, match="expected a folder for the data set, got the file"):
        make_dataset(terrain, tmp_path / "set", **SMALL)
    assert (tmp_path / "set").read_text() == "mine"


def test_a_damaged_image_leaves_the_older_set_as_it_is(terrain, tmp_path):
    points_path, pyramid_folder = make_dataset(terrain, tmp_path / "set", **SMALL)
    before, table = points_path.read_bytes(), read_points(points_path)
    patches = crop_patches(open_pyramid(pyramid_folder), table.image, table.xy)
    damaged = find_scenes(terrain)[3].image_path
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(ValueError, match=damaged.name) as error:
        make_dataset(terrain, tmp_path / "set", **(SMALL | {"seed": 3}))
    assert "\n" not in str(error.value)
    assert points_path.read_bytes() == before
    np.testing.assert_array_equal(crop_patches(open_pyramid(pyramid_folder), table.image, table.xy), patches)


def test_an_older_table_of_another_format_is_removed(terrain, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "points.parquet").write_text("older")
    path, _ = make_dataset(terrain, tmp_path / "set", **SMALL)
    assert list(path.parent.glob("points.*")) == [path]
    (tmp_path / "set" / "points.parquet").write_text("older")
    make_dataset(terrain, tmp_path / "set", **SMALL)  # with the pyramid that is there
    assert list(path.parent.glob("points.*")) == [path]


@pytest.mark.parametrize(
    "case",
    [
        ("build_pyramid", {"factors": (2,)}, 1),
        ("write_points", {"factors": (2,)}, 0),  # the older one is not about this pyramid
        ("write_points", {}, 1),
    ],
)
def test_a_table_is_always_about_the_pyramid_and_another_run_makes_the_set_whole(
    terrain, tmp_path, monkeypatch, case
):
    stage, changes, tables = case
    output, changes = tmp_path / "set", SMALL | {"seed": 3} | changes
    before, _ = make_dataset(terrain, output, **SMALL)
    content = before.read_bytes()

    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, stage, cut)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(terrain, output, **changes)
    assert [path.read_bytes() for path in output.glob("points.*")] == [content] * tables
    path, pyramid = make_dataset(terrain, output, **changes)
    fresh, _ = make_dataset(terrain, tmp_path / "fresh", **changes)
    assert path.read_bytes() == fresh.read_bytes()
    assert open_pyramid(pyramid).factors == changes["factors"]


def test_an_image_of_another_size_than_its_depth_and_masks_is_told_how_to_mend(terrain, tmp_path):
    scene = find_scenes(terrain)[0]
    cv2.imwrite(str(scene.image_path), np.zeros((90, 128, 3), np.uint8))
    with pytest.raises(ValueError, match=r"got 90x128; give the image, its depth map and its masks one size"):
        make_dataset(terrain, tmp_path / "set", **SMALL)
    assert not list((tmp_path / "set").glob("points.*"))
