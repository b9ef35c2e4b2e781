"""Drawn scenes whose geometry says where each person looks: the first object on the ray of the head."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.files import atomic_write
from keypoint_detection.gaze.people import GazeTable, write_table
from keypoint_detection.gaze.synthetic_head import draw_head
from keypoint_detection.gaze.synthetic_objects import draw_ground, draw_object, finish
from keypoint_detection.gaze.synthetic_rays import Floats
from keypoint_detection.gaze.synthetic_scene import Scene, plan_scene

MIN_SIDE = 64
"""Shortest side in pixels at which a head still shows where it looks."""

TABLE_NAME = "people.json"
"""The table of the people in a folder of drawn scenes."""


def draw_scene(
    rng: np.random.Generator,
    image_hw: tuple[int, int] = (192, 256),
    *,
    share_outside: float = 0.25,
    share_two: float = 0.3,
    ambiguous: bool = False,
) -> tuple[NDArray[np.uint8], Scene]:
    """Draw one scene; the same generator state gives the same scene.

    A person looks along a ray. The target is the first object on it; what is not on the ray keeps at least
    `MARGIN_DEGREES` from it, or lies behind the target. Who looks out of the image has nothing on the ray.

    Args:
        rng: Source of every choice.
        image_hw: Height and width in pixels, at least `MIN_SIDE` each.
        share_outside: Probability that a person looks out of the image, in [0, 1].
        share_two: Probability of two people, in [0, 1]; each has a target of its own.
        ambiguous: Put two targets at equal angles on the two sides of each ray, and nothing on it.

    Returns:
        The image, uint8 `[h, w, 3]` RGB, and what it shows.

    Raises:
        ValueError: The image is too small or too elongated, or a share is outside [0, 1].
    """
    _check(image_hw, share_outside, share_two)
    n_people = 2 if rng.random() < share_two else 1
    scene = plan_scene(rng, image_hw, n_people=n_people, share_outside=share_outside, ambiguous=ambiguous)
    canvas = draw_ground(image_hw, rng)
    for thing in scene.objects:
        draw_object(canvas, thing)
    for person in scene.people:
        draw_head(canvas, person, rng)
    return finish(canvas, rng), scene


def make_gaze_scenes(
    folder: str | Path,
    n_images: int,
    *,
    image_hw: tuple[int, int] = (192, 256),
    seed: int = 0,
    annotators: int = 1,
    share_outside: float = 0.25,
    share_two: float = 0.3,
    ambiguous: bool = False,
) -> Path:
    """Draw a data set: `<folder>/images/*.png` and, at last, `<folder>/people.json`.

    An image depends only on its size, the shares, `ambiguous`, the seed and its own number: a larger set
    begins with the smaller one.

    Args:
        folder: Made if need be; files of the same names are replaced.
        n_images: At least 1.
        image_hw: As for `draw_scene`.
        seed: Whole number >= 0; sets of different seeds share no image.
        annotators: Points per person that looks into the image, at least 1. A single one is the centre of the
            target; several are scattered around it on the object.
        share_outside: As for `draw_scene`.
        share_two: As for `draw_scene`.
        ambiguous: As for `draw_scene`. A single annotator names one of the two targets at random, as suits a
            training; of several the first two name both, as suits a test.

    Returns:
        The path of the table.

    Raises:
        ValueError: A number is out of its range.
    """
    if n_images < 1 or annotators < 1:
        raise ValueError(f"expected at least 1 image and 1 annotator, got {n_images} and {annotators}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got seed={seed}")
    folder, scenes, points = Path(folder), [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(n_images):
        image, scene = draw_scene(
            np.random.default_rng([seed, number]),
            image_hw,
            share_outside=share_outside,
            share_two=share_two,
            ambiguous=ambiguous,
        )
        _write_png(folder / _image_name(number), image)
        scenes.append(scene)
        points.append(annotate(scene, annotators, np.random.default_rng([seed, number, 1])))
    path = folder / TABLE_NAME
    write_table(path, scene_table(scenes, points))
    return path


def annotate(scene: Scene, annotators: int, rng: np.random.Generator) -> Floats:
    """Return where annotators say that each person looks.

    Args:
        scene: The scene.
        annotators: Points per person.
        rng: Source of the choice between two targets, and of the scatter of several points.

    Returns:
        `[people, annotators, 2]` in pixels; NaN for who looks out of the image.
    """
    points = np.full((len(scene.people), annotators, 2), np.nan)
    for row, person in zip(points, scene.people, strict=True):
        if not person.targets:
            continue
        order = rng.permutation(len(person.targets))
        chosen = np.concatenate([order, rng.integers(len(order), size=annotators)])[:annotators]
        for annotator, choice in enumerate(chosen):
            thing = scene.objects[person.targets[choice]]
            scatter = np.zeros(2)
            if annotators > 1:
                scatter = np.clip(rng.normal(0.0, 0.2, 2), -0.4, 0.4) * thing.radius_px
            row[annotator] = thing.centre_xy + scatter
    return points


def scene_table(scenes: Sequence[Scene], points: Sequence[Floats]) -> GazeTable:
    """Return the table of all people of scenes, with the points `[people, a, 2]` of `annotate` of each."""
    pairs = [(number, person) for number, scene in enumerate(scenes) for person in scene.people]
    names = tuple(_image_name(number) for number in range(len(scenes)))
    counts = [range(len(scene.people)) for scene in scenes]
    return GazeTable(
        image_names=names,
        image_hw=np.array([scene.image_hw for scene in scenes], dtype=np.int64),
        image=np.array([number for number, _ in pairs], dtype=np.int64),
        person=tuple(f"{number:05d}-{place}" for number, count in enumerate(counts) for place in count),
        head_box=np.stack([person.head_box for _, person in pairs]),
        eye_xy=np.stack([person.eye_xy for _, person in pairs]),
        gaze_xy=np.concatenate(list(points)),
        in_frame=np.array([bool(person.targets) for _, person in pairs], dtype=np.int8),
        group=tuple(names[number] for number, _ in pairs),
    )


def _image_name(number: int) -> str:
    return f"images/{number:05d}.png"


def _check(image_hw: tuple[int, int], share_outside: float, share_two: float) -> None:
    if min(image_hw) < MIN_SIDE:
        raise ValueError(
            f"expected drawn scenes of at least {MIN_SIDE}x{MIN_SIDE} pixels, got {image_hw[0]}x{image_hw[1]}"
        )
    for name, share in (("share_outside", share_outside), ("share_two", share_two)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, got {share}")


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image atomically; grain does not compress, so that little effort is spent on it."""
    with atomic_write(path) as temporary:
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(temporary), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(
                f"could not write the image {path}; check that the folder is writable and the disk not full"
            )
