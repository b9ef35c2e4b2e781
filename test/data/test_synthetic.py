"""Drawn data sets: labels that agree with the pixels, same bytes for the same seed, valid COCO files."""

import math

import cv2
import numpy as np
import pytest

from keypoint_detection.data.coco_parser import instances_by_image, read_coco
from keypoint_detection.data.synthetic import KINDS, draw_image, make_dataset
from keypoint_detection.data.synthetic_flowers import HEART
from keypoint_detection.geometry import invert, resize_affine, transform_points

BOXES = "boxes"


def draw(kind, seed, image_hw=(96, 96), clutter=True):
    return draw_image(kind, image_hw, np.random.default_rng([seed, 0]), clutter=clutter)


def points_of(instances, *starts):
    """Return name, x, y of the visible points whose name begins with one of `starts`."""
    for instance in instances:
        for name, point in instance.keypoints.items():
            if name.startswith(starts) and point.visibility == 2:
                yield name, point.x, point.y


@pytest.mark.parametrize(("kind", "starts"), [(BOXES, ("corner", "flap")), ("flowers", ("leaf",))])
def test_labelled_corners_are_where_the_drawn_edges_meet(kind, starts):
    """The small picture is the block average of a large one, where a corner finder is precise enough."""
    height, width, factor = 32, 35, 32
    to_large = resize_affine((height, width), (height * factor, width * factor))
    errors, differences = [], []
    for seed in range(8):
        small, instances = draw(kind, seed, (height, width), clutter=False)
        large, _ = draw(kind, seed, (height * factor, width * factor), clutter=False)
        averaged = large.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
        contrast = np.linalg.norm(large - np.median(large, axis=(0, 1)), axis=2).astype(np.float32)
        labelled = np.array([(p.x, p.y) for instance in instances for p in instance.keypoints.values()])
        for _, x, y in points_of(instances, *starts):
            crowded = np.sort(np.hypot(*(labelled - (x, y)).T))[1] < 2  # another corner would draw the finder
            if crowded or not (1 < x < width - 2 and 1 < y < height - 2):
                continue
            near = np.s_[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
            differences.append(np.abs(averaged[near] - small[near]).max())
            start_x, start_y = transform_points(to_large, np.array([x, y]))
            found = corner_near(contrast, start_x + 1, start_y - 1)
            errors.append(transform_points(invert(to_large), found.astype(float)) - (x, y))
    assert len(errors) >= 40
    assert np.mean(differences) < 2  # of 255: the small picture shows the same corner at the same place
    assert max(differences) < 10
    assert np.abs(np.mean(errors, axis=0)).max() < 0.01
    assert np.hypot(*np.transpose(errors)).max() < 0.05


def corner_near(grey, x, y):
    """Return the point on which the edges around (x, y) converge, from the pixels alone."""
    start = np.array([[[x, y]]], dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    return cv2.cornerSubPix(grey, start, (5, 5), (2, 2), criteria)[0, 0]


def pupils(image):
    """Return the centroids of the dark discs in the hearts of flowers, found by their colour alone."""
    dark, bright = 0.75 * np.array(HEART), np.array(HEART)
    mask = (np.abs(image / 255 - dark).sum(axis=2) < 0.06).astype(np.uint8)
    weight = np.clip(((image / 255 - bright) @ (dark - bright)) / ((dark - bright) @ (dark - bright)), 0, 1)
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask)
    y, x = np.indices(mask.shape)
    for (*_, area), (rough_x, rough_y) in zip(stats[1:], centres[1:], strict=True):
        near = weight * (np.hypot(x - rough_x, y - rough_y) < 1.4 * math.sqrt(area / math.pi))
        yield np.array([(near * x).sum(), (near * y).sum()]) / near.sum()


def test_stems_are_the_centroids_of_the_drawn_hearts():
    n_stems = 0
    for seed in range(12):
        image, instances = draw("flowers", seed, (320, 360), clutter=False)
        stems = np.array([(x, y) for _, x, y in points_of(instances, "stem")])
        found = np.array(list(pupils(image)))
        assert len(found) == len(stems)
        distances = np.hypot(*(found[:, None] - stems[None]).transpose(2, 0, 1))
        assert distances.min(axis=0).max() < 0.05
        n_stems += len(stems)
    assert n_stems >= 20


def test_cluttered_picture_shows_the_same_objects_where_the_labels_are():
    """Clutter adds texture and noise; the discs in the hearts stay where their labels say."""
    picture, instances = draw("flowers", 3, (256, 256))
    red, _, blue = picture.astype(int).transpose(2, 0, 1)
    for _, x, y in points_of(instances, "stem"):
        assert (red - blue)[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].min() > 60


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_picture_other_seed_another(kind):
    (first, labels), (again, same_labels), (other, other_labels) = (draw(kind, seed) for seed in (1, 1, 2))
    assert first.dtype == np.uint8
    assert first.shape == (96, 96, 3)
    np.testing.assert_array_equal(first, again)
    assert labels == same_labels
    assert labels != other_labels
    assert np.abs(first.astype(int) - other).mean() > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image_hw", [(64, 64), (60, 150), (130, 70)])
def test_points_are_inside_and_the_box_is_that_of_the_shown_part(kind, image_hw):
    for seed in range(25):
        for instance in draw(kind, seed, image_hw)[1]:
            left, top, width, height = instance.box
            assert instance.keypoints
            assert set(instance.keypoints) <= set(KINDS[kind].keypoints)
            assert left >= -0.5
            assert top >= -0.5
            assert left + width <= image_hw[1] - 0.5 + 1e-9
            assert top + height <= image_hw[0] - 0.5 + 1e-9
            assert 0.3 * width * height < instance.area <= width * height
            for point in instance.keypoints.values():
                assert point.visibility in (1, 2)
                assert left - 1e-3 <= point.x <= left + width + 1e-3
                assert top - 1e-3 <= point.y <= top + height + 1e-3


def test_flowers_vary_in_number():
    pictures = [draw("flowers", seed, (64, 64))[1] for seed in range(60)]
    assert {len(instances) for instances in pictures} == {1, 2, 3, 4, 5, 6}
    leaves = [point for flowers in pictures for flower in flowers for point in flower.keypoints.values()]
    assert {leaf.visibility for leaf in leaves} == {1, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_dataset_is_a_valid_coco_file_with_the_labels_that_were_drawn(kind, tmp_path):
    path = make_dataset(kind, tmp_path / "set", 12, (64, 72), seed=4, prefix="train_")
    coco = read_coco(path)
    assert path == tmp_path / "set" / "annotations.json"
    assert coco.keypoint_names() == list(KINDS[kind].keypoints)
    instances = instances_by_image(coco)
    for index, entry in enumerate(coco.images):
        assert entry.file_name == f"images/train_{index:05d}.png"
        image, labels = draw_image(kind, (64, 72), np.random.default_rng([4, index]))
        stored = cv2.imread(str(path.parent / entry.file_name))
        np.testing.assert_array_equal(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), image)
        assert (entry.height, entry.width) == stored.shape[:2]
        assert instances[entry.id] == labels
    for annotation in coco.annotations:
        assert annotation.num_keypoints == sum(flag > 0 for flag in annotation.keypoints[2::3])
    named = {name for labels in instances.values() for instance in labels for name in instance.keypoints}
    assert named == set(KINDS[kind].keypoints)


def test_files_are_the_same_for_a_seed_and_a_larger_set_begins_with_the_smaller(tmp_path):
    small, again, large, other = (
        make_dataset(BOXES, tmp_path / name, n, (64, 64), seed=seed).parent
        for name, n, seed in (("a", 3, 0), ("b", 3, 0), ("c", 5, 0), ("d", 3, 1))
    )
    assert (small / "annotations.json").read_bytes() == (again / "annotations.json").read_bytes()
    for index in range(3):
        name = f"images/{index:05d}.png"
        assert (small / name).read_bytes() == (again / name).read_bytes() == (large / name).read_bytes()
        assert (small / name).read_bytes() != (other / name).read_bytes()
    assert sorted(path.name for path in (small / "images").iterdir()) == [
        "00000.png",
        "00001.png",
        "00002.png",
    ]


def test_channels_of_a_kind_name_its_keypoints():
    for kind in KINDS.values():
        names = [name.strip() for channel in kind.channels.split(";") for name in channel.split("=")]
        assert names == list(kind.keypoints)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"kind": "boxs", "n_images": 2}, ["boxs", "boxes, flowers", "Did you mean 'boxes'"]),
        ({"kind": BOXES, "n_images": 0}, ["at least 1 image", "n_images=0"]),
        ({"kind": BOXES, "n_images": 2, "seed": -1}, ["seed", "-1"]),
        ({"kind": BOXES, "n_images": 2, "image_hw": (64, 8)}, ["32x32", "64x8"]),
    ],
)
def test_wrong_requests_are_one_line_and_write_nothing(arguments, expected, tmp_path):
    with pytest.raises(ValueError) as error:
        make_dataset(output=tmp_path / "set", **arguments)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in expected)
    assert not (tmp_path / "set").exists()
