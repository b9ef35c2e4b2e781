"""Scenes: both layouts are found, depth and masks are read as they were meant."""

import cv2
import numpy as np
import pytest

from keypoint_detection.visibility.scenes import Scene, find_scenes, load_depth, load_labels

STEM = "1159_1_2022-03-04_1300"


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".jp2":
        path.touch()  # only its name is looked at, and JPEG 2000 holds no image as small as these
    else:
        assert cv2.imwrite(str(path), pixels)


def opaque(shape, *pixels, alpha=255):
    """Return a picture with colour everywhere that is opaque at the given (x, y) only."""
    picture = np.full((*shape, 4), (10, 20, 30, 0), np.uint8)
    for x, y in pixels:
        picture[y, x, 3] = alpha
    return picture


def make_raw(folder, stem=STEM, hw=(4, 6)):
    """Write one image of camvis2's layout: two visible pixels, one of both kinds, one of opacity 1."""
    metres = np.full(hw, 25.5)
    metres[0] = np.nan
    coordinates = np.full((*hw, 3), 4e6)
    save(folder / "depth_maps" / f"{stem[:6]}.npy", np.dstack([metres, coordinates]))
    save(folder / "images" / f"{stem}.jp2", np.full((*hw, 3), 90, np.uint8))
    visible = opaque(hw, (1, 2), (2, 2), (3, 3), alpha=2)
    visible[1, 1, 3] = 1  # hardly opaque: does not count
    save(folder / "images" / f"{stem}_0002_visible.png", visible)
    save(folder / "images" / f"{stem}_0001_nonvisible.png", opaque(hw, (3, 3), (4, 3)))


def test_the_raw_layout_of_camvis2(tmp_path):
    make_raw(tmp_path)
    make_raw(tmp_path, "1159_2_2022-03-04_1300")
    make_raw(tmp_path, "1148_1_2021-12-24_0900")
    (tmp_path / "images" / f"._{STEM}.jp2").write_bytes(b"left by a file manager")
    scenes = find_scenes(tmp_path)
    assert [scene.view for scene in scenes] == ["1148_1", "1159_1", "1159_2"]
    scene = scenes[1]
    assert scene.name == f"images/{STEM}.jp2"
    assert scene.image_path == tmp_path / "images" / f"{STEM}.jp2"
    assert scene.depth_path == tmp_path / "depth_maps" / "1159_1.npy"
    depth_m = load_depth(scene)
    assert depth_m.shape == (4, 6)
    assert np.isnan(depth_m[0]).all()
    assert (depth_m[1:] == 25.5).all()
    expected = np.full((4, 6), 2)
    expected[2, 1] = expected[2, 2] = 1
    expected[3, 3] = expected[3, 4] = 0  # (3, 3) is in both masks: not visible wins
    np.testing.assert_array_equal(load_labels(scene), expected)


def test_flat_raw_files_and_what_is_missing(tmp_path):
    save(tmp_path / f"{STEM}.jp2", np.zeros((4, 6, 3), np.uint8))
    save(tmp_path / f"{STEM}_0001_nonvisible.png", opaque((4, 6), (0, 0)))
    (scene,) = find_scenes(tmp_path)
    assert (scene.name, scene.depth_path, scene.visible_path) == (f"{STEM}.jp2", None, None)
    labels = load_labels(scene)
    assert labels[0, 0] == 0
    assert (labels == 2).sum() == 4 * 6 - 1
    with pytest.raises(ValueError, match=rf"{STEM}\.jp2: expected a depth map .* for view 1159_1; add it"):
        load_depth(scene)


def make_ours(folder, view, name, hw=(3, 5)):
    save(folder / "images" / view / f"{name}.png", np.zeros((*hw, 3), np.uint8))
    visible, nonvisible = np.zeros(hw, np.uint8), np.zeros(hw, np.uint8)
    visible[0], nonvisible[2] = 255, 1
    save(folder / "masks" / view / f"{name}_visible.png", visible)
    save(folder / "masks" / view / f"{name}_nonvisible.png", nonvisible)


def test_our_layout(tmp_path):
    for view, name in (("harbour", "b"), ("harbour", "a"), ("alps", "c")):
        make_ours(tmp_path, view, name)
    save(tmp_path / "depth" / "harbour.npy", np.full((3, 5), 7.0, np.float32))
    save(tmp_path / "depth" / "harbour" / "b.npy", np.array([[1, -1, 0, np.inf, 5]] * 3, np.float64))
    (tmp_path / "images" / "harbour" / "notes.txt").write_text("no image")
    scenes = find_scenes(tmp_path)
    assert [(scene.view, scene.name) for scene in scenes] == [
        ("alps", "images/alps/c.png"),
        ("harbour", "images/harbour/a.png"),
        ("harbour", "images/harbour/b.png"),
    ]
    assert scenes[0].depth_path is None
    assert (load_depth(scenes[1]) == 7).all()
    np.testing.assert_array_equal(load_depth(scenes[2])[0], [1, np.nan, np.nan, np.nan, 5])
    np.testing.assert_array_equal(load_labels(scenes[2])[:, 0], [1, 2, 0])


def test_an_own_layout_of_images_alone_is_found(tmp_path):
    save(tmp_path / "images" / "alps" / "a.jpg", np.zeros((3, 5, 3), np.uint8))
    (scene,) = find_scenes(tmp_path)
    assert (scene.view, scene.depth_path, scene.nonvisible_path) == ("alps", None, None)
    with pytest.raises(ValueError, match=r"a\.jpg: expected masks .* found none"):
        load_labels(scene)


def test_folders_that_hold_no_scenes(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none at .*nowhere"):
        find_scenes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found neither"):
        find_scenes(tmp_path)
    make_raw(tmp_path)
    save(tmp_path / "again" / f"{STEM}.jp2", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"one file of its kind, got .*{STEM}\.jp2 and .*{STEM}\.jp2"):
        find_scenes(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no array", "expected an array of depths"),
        (b"", "expected an array of depths"),
        (np.ones(4), r"expected depths \[h, w\] .* got \(4,\)"),
        (np.ones((3, 5), complex), "expected depths as numbers, got complex128"),
        (np.array([{"pickled": 1}]), "expected an array of depths"),
    ],
)
def test_a_wrong_depth_map_is_one_line(tmp_path, content, words):
    make_ours(tmp_path, "alps", "a")
    path = tmp_path / "depth" / "alps.npy"
    path.parent.mkdir()
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"alps\.npy: {words}") as error:
        load_depth(find_scenes(tmp_path)[0])
    assert "\n" not in str(error.value)


def test_wrong_masks_are_one_line(tmp_path):
    make_ours(tmp_path, "alps", "a")
    scene = find_scenes(tmp_path)[0]
    save(scene.nonvisible_path, np.zeros((5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a_nonvisible\.png: expected a mask of the size .* 3x5, got 5x3"):
        load_labels(scene)
    for content in (b"", b"no picture"):
        scene.nonvisible_path.write_bytes(content)
        with pytest.raises(ValueError, match=r"no 8- or 16-bit picture: .*a_nonvisible\.png"):
            load_labels(scene)
    scene.nonvisible_path.unlink()
    with pytest.raises(FileNotFoundError, match=r"nothing at .*a_nonvisible\.png"):
        load_labels(scene)


def test_depth_that_is_text_or_out_of_range(tmp_path):
    path = tmp_path / "depth.npy"
    scene = Scene("a.png", "view", tmp_path / "a.png", path, None, None)
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"depth\.npy: expected an array of depths") as caught:
        load_depth(scene)
    assert "allow_pickle" not in str(caught.value)  # nobody should load it unsafely
    np.save(path, np.array([[1e300, 5.0]]))
    assert np.isnan(load_depth(scene)[0, 0])
