"""Which heads of a file are in which image: names meet paths from their ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from keypoint_detection.gaze.head_boxes import HeadBox, HeadBoxes


def heads_of_images(boxes: HeadBoxes, paths: Sequence[Path]) -> tuple[list[Sequence[HeadBox]], int]:
    """Return the heads in each image, and how many names of the file are of no image.

    A name is the end of a path: `b.png` and `clip/b.png` are both `/data/clip/b.png`, and where a file has
    both, the longer one counts.

    Args:
        boxes: Of images.
        paths: The images.

    Raises:
        ValueError: The file is of frames, a name is the end of several paths, or none is of any.
    """
    if boxes.by_frame:
        raise ValueError(
            f"{boxes.path}: expected boxes with the names of images (image), got numbers of frames; give "
            "their video as --source"
        )
    name_of = [_name_of(path, boxes.by_image) for path in paths]
    image_of: dict[str, Path] = {}
    for path, name in zip(paths, name_of, strict=True):
        other = image_of.setdefault(name, path) if name is not None else path
        if other != path:
            raise ValueError(
                f"{boxes.path}: expected {name} to be one image, got {other} and {path}; give names with "
                "their folders"
            )
    if not image_of:
        raise ValueError(
            f"{boxes.path}: expected names of the images to predict on, such as {paths[0].name}, got "
            f"{len(boxes.by_image)} that are none of them, such as {next(iter(boxes.by_image))}"
        )
    heads = [boxes.by_image[name] if name is not None else () for name in name_of]
    return heads, len(boxes.by_image) - len(image_of)


def _name_of(path: Path, by_image: Mapping[str, object]) -> str | None:
    """Return the longest name that is an end of a path."""
    whole = path.resolve()
    names = [str(path), whole.as_posix()]
    names += ["/".join(whole.parts[start:]) for start in range(1, len(whole.parts))]
    given = path.as_posix().split("/")
    names += ["/".join(given[start:]) for start in range(len(given))]  # where a link goes elsewhere
    return next((name for name in names if name in by_image), None)
