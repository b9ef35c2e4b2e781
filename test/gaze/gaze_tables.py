"""Tables of people drawn at random, for the tests of gaze."""

import numpy as np
from hypothesis import strategies as st

from keypoint_detection.gaze.people import GazeTable

COLUMNS = ("image_hw", "image", "head_box", "eye_xy", "gaze_xy", "in_frame")


def table_of(
    images: list[int], groups: list[str] | None = None, *, annotators: int = 1, seed: int = 0
) -> GazeTable:
    """Return people in the images of these numbers; the group of a person is that of its image."""
    rng = np.random.default_rng(seed)
    n, n_images = len(images), max(images, default=-1) + 1
    hw = rng.integers(50, 90, (n_images, 2)) if n_images else np.empty((0, 2), dtype=np.int64)
    groups = groups or [f"group {index}" for index in range(n_images)]
    corner = rng.uniform(0, 30, (n, 2))
    in_frame = rng.integers(-1, 2, n).astype(np.int8)
    eye = rng.uniform(0, 40, (n, 2))
    eye[rng.random(n) < 0.3] = np.nan
    gaze = rng.uniform(0, 49, (n, annotators, 2))
    given = rng.integers(1, annotators + 1, n)
    gaze[np.arange(annotators) >= given[:, None]] = np.nan
    gaze[in_frame != 1] = np.nan
    return GazeTable(
        image_names=tuple(f"{index}.png" for index in range(n_images)),
        image_hw=hw.astype(np.int64),
        image=np.array(images, dtype=np.int64),
        person=tuple(f"{image}.png#{row}" for row, image in enumerate(images)),
        head_box=np.concatenate([corner, corner + rng.uniform(1, 15, (n, 2))], axis=1),
        eye_xy=eye,
        gaze_xy=gaze,
        in_frame=in_frame,
        group=tuple(groups[image] for image in images),
    )


@st.composite
def tables(draw: st.DrawFn, min_people: int = 0, min_groups: int = 1) -> GazeTable:
    """Draw tables whose images share few groups."""
    n_images = draw(st.integers(max(1, min_groups), 8))
    n_groups = draw(st.integers(min_groups, n_images))
    groups = [f"clip {index % n_groups}" for index in range(n_images)]
    extra = draw(st.lists(st.integers(0, n_images - 1), min_size=min_people, max_size=20))
    images = [*range(min_groups), *extra] if min_groups > 1 else extra
    return table_of(images, groups, annotators=draw(st.integers(1, 4)), seed=draw(st.integers(0, 2**32 - 1)))


def assert_same(one: GazeTable, other: GazeTable) -> None:
    assert one.image_names == other.image_names
    assert one.person == other.person
    assert one.group == other.group
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype, name


def rows_by_person(table: GazeTable) -> dict[str, tuple]:
    """Return what the table says of each person, apart from where it is in the table."""
    return {
        person: (
            table.image_names[table.image[row]],
            tuple(table.image_hw[table.image[row]]),
            table.group[row],
            table.head_box[row].tobytes(),
            table.eye_xy[row].tobytes(),
            table.gaze_xy[row].tobytes(),
            int(table.in_frame[row]),
        )
        for row, person in enumerate(table.person)
    }
