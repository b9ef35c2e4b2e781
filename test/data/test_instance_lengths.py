import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.instance_lengths import (
    NORMALIZERS,
    LengthNormalizer,
    instance_lengths,
    resolve_normalizer,
)

NAN = math.nan
EYES = LengthNormalizer("reference", ("left_eye", "right_eye"))


@pytest.fixture
def table(coco_folder) -> KeypointTable:
    """Return two images, 30x40 and 60x80 (height, width), with three instances and an unlabelled fourth."""
    both_eyes, one_eye = [1, 1, 2, 10, 10, 2, 13, 14, 1], [1, 1, 2, 0, 0, 0, 20, 20, 2]
    coco_folder.add(np.zeros((30, 40, 3), np.uint8), [both_eyes, one_eye], bbox=[2, 2, 6, 8])
    far_eyes, nothing = [0, 0, 0, 0, 0, 2, 60, 25, 2], [0] * 9
    coco_folder.add(np.zeros((60, 80, 3), np.uint8), [far_eyes, nothing], bbox=[0, 0, 12, 5])
    return read_table(coco_folder.write())


def error_line(table: KeypointTable, normalizer: LengthNormalizer) -> str:
    with pytest.raises(ValueError) as caught:
        instance_lengths(table, normalizer)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_boxes(table: KeypointTable, *boxes: list[float]) -> KeypointTable:
    return replace(table, box=np.array(boxes, np.float32))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pixels", [1, 1, 1, 1]),
        ("box_diagonal", [10, 10, 13, 13]),
        ("box_side", [8, 8, 12, 12]),
        ("image_diagonal", [50, 50, 100, 100]),
        ("auto", [8, 8, 12, 12]),
        ("head_size", [5, NAN, 7, NAN]),
    ],
)
def test_lengths_by_hand(table, name, expected):
    table = replace(table, head_size=np.array([5, NAN, 7, NAN], np.float32))
    lengths = instance_lengths(table, LengthNormalizer(name))
    assert lengths.dtype == np.float32
    np.testing.assert_array_equal(lengths, expected)


def test_reference_by_hand(table):
    """Eyes at (10, 10) and (13, 14): 5 pixels; at (0, 0) and (60, 25): 65; the others lack one or both."""
    np.testing.assert_array_equal(instance_lengths(table, EYES), np.float32([5, NAN, 65, NAN]))
    swapped = LengthNormalizer("reference", ("right_eye", "left_eye"))
    np.testing.assert_array_equal(instance_lengths(table, swapped), instance_lengths(table, EYES))


def test_a_length_of_zero_is_none(table):
    table = with_boxes(table, [1, 1, 0, 8], [1, 1, 6, NAN], [1, 1, 3, 4], [1, 1, 3, -4])
    for name in ("box_side", "box_diagonal"):
        found = instance_lengths(table, LengthNormalizer(name))
        np.testing.assert_array_equal(np.isnan(found), [True, True, False, True])
    xy = np.where((table.instance == 0)[:, None], 4.0, table.xy)
    assert np.isnan(instance_lengths(replace(table, xy=xy), EYES)[0])
    xy[table.instance == 0] = 0.0
    xy[(table.instance == 0) & (table.name_index == 2), 1] = 1e-300  # 0 as float32
    assert np.isnan(instance_lengths(replace(table, xy=xy), EYES)[0])


def test_auto_takes_boxes_only_where_every_labelled_instance_has_one(table):
    auto = LengthNormalizer("auto")
    good, none, flat = [0.0, 0, 3, 4], [NAN] * 4, [0.0, 0, 0, 4]
    assert resolve_normalizer(with_boxes(table, good, good, good, none), auto).name == "box_side"
    assert resolve_normalizer(with_boxes(table, good, none, good, good), auto).name == "image_diagonal"
    assert resolve_normalizer(with_boxes(table, good, flat, good, good), auto).name == "image_diagonal"


def test_a_definite_normalizer_stays(table):
    for name in set(NORMALIZERS) - {"auto", "reference"}:
        assert resolve_normalizer(table, LengthNormalizer(name)) == LengthNormalizer(name)
    assert resolve_normalizer(table, EYES) == EYES


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        (LengthNormalizer("box_sides"), "Did you mean 'box_side'?"),
        (LengthNormalizer("reference"), "two different keypoint names"),
        (LengthNormalizer("reference", ("nose", "nose")), "two different keypoint names"),
        (
            LengthNormalizer("reference", ("nose", "left eye")),
            "got 'left eye'; it has nose, left_eye, right_eye",
        ),
        (LengthNormalizer("reference", ("nose", "left eye")), "Did you mean 'left_eye'?"),
        (LengthNormalizer("pixels", ("nose", "left_eye")), "'reference' only"),
    ],
)
def test_a_wrong_normalizer(table, normalizer, expected):
    assert expected in error_line(table, normalizer)
    with pytest.raises(ValueError):
        resolve_normalizer(table, normalizer)


def test_a_length_that_no_labelled_instance_has(table):
    none = [NAN] * 4
    without_boxes = with_boxes(table, none, none, none, [0, 0, 3, 4])  # only the unlabelled one has a box
    assert "expected a 'bbox' of positive size" in error_line(without_boxes, LengthNormalizer("box_side"))
    head = replace(table, head_size=np.full(4, NAN, np.float32))
    line = error_line(head, LengthNormalizer("head_size"))
    assert "the normaliser head size expected a 'head_box'" in line
    assert "got none in 3 labelled instances" in line
    assert str(table.json_path) in line
    apart = replace(table, name_index=np.zeros_like(table.name_index))
    assert 'distance "left_eye" - "right_eye"' in error_line(apart, EYES)


def test_no_labels_at_all(coco_folder):
    coco_folder.add(np.zeros((30, 40, 3), np.uint8))
    coco_folder.add(np.zeros((30, 40, 3), np.uint8), [[0] * 9])
    table = read_table(coco_folder.write())
    assert np.isnan(instance_lengths(table, EYES)).tolist() == [True]
    assert resolve_normalizer(table, LengthNormalizer("auto")).name == "image_diagonal"


@pytest.mark.parametrize(
    ("normalizer", "text"),
    [
        (LengthNormalizer("reference", ("eye top", "eye bottom")), 'distance "eye top" - "eye bottom"'),
        (LengthNormalizer("pixels"), "pixels"),
        (LengthNormalizer("head_size"), "head size"),
        (LengthNormalizer("box_side"), "longer side of the box"),
        (LengthNormalizer("box_diagonal"), "box diagonal"),
        (LengthNormalizer("image_diagonal"), "image diagonal"),
    ],
)
def test_describe(normalizer, text):
    assert normalizer.describe() == text


def make_table(template: KeypointTable, labels: list[list[dict[int, tuple[float, float]]]]) -> KeypointTable:
    """Return a table with the given points by name number, per image and instance."""
    instances = [points for image in labels for points in image]
    flat = [(n, name, xy) for n, points in enumerate(instances) for name, xy in points.items()]
    edges = np.cumsum([0, *map(len, labels)])
    return replace(
        template,
        image_hw=np.array([(30, 40 + n) for n in range(len(labels))], np.int64).reshape(-1, 2),
        box=np.full((len(instances), 4), NAN, np.float32),
        first_instance=edges,
        xy=np.array([xy for *_, xy in flat], np.float64).reshape(-1, 2),
        name_index=np.array([name for _, name, _ in flat], np.int64),
        instance=np.array([n for n, *_ in flat], np.int64),
    )


point = st.tuples(st.floats(0, 30), st.floats(0, 30))
label_lists = st.lists(
    st.lists(st.dictionaries(st.integers(0, 2), point), max_size=3), min_size=1, max_size=4
)


@settings(max_examples=100, deadline=None)
@given(labels=label_lists)
def test_slow_reference(bare_table, labels):
    table = make_table(bare_table, labels)
    expected, diagonals = [], []
    for row, image in enumerate(labels):
        for points in image:
            distance = math.dist(points[1], points[2]) if {1, 2} <= points.keys() else NAN
            expected.append(distance if np.float32(distance) > 0 else NAN)
            diagonals.append(math.hypot(30, 40 + row))
    labelled = any(points for image in labels for points in image)
    if labelled and np.isnan(expected).all():
        assert "normaliser" in error_line(table, EYES)
    else:
        np.testing.assert_allclose(instance_lengths(table, EYES), np.float32(expected), rtol=1e-6)
    found = instance_lengths(table, LengthNormalizer("image_diagonal"))
    np.testing.assert_array_equal(found, np.float32(diagonals))


@pytest.fixture(scope="module")
def bare_table(tmp_path_factory) -> KeypointTable:
    """Return a table whose arrays a property test replaces; only its names and path are used."""
    empty = np.empty(0, np.int64)
    fields: dict = dict.fromkeys(KeypointTable.__dataclass_fields__, empty)
    fields.update(json_path=tmp_path_factory.mktemp("none") / "a.json", file_names=[])
    return KeypointTable(**{**fields, "names": ["nose", "left_eye", "right_eye"]})
