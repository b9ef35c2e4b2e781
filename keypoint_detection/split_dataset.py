"""Split a COCO file into parts, at random, by group or into folds; the images stay where they are."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.data.coco_parser import CocoKeypoints, read_coco
from keypoint_detection.data.groups import group_labels
from keypoint_detection.data.splits import k_folds, random_split, split_parts
from keypoint_detection.dataset_files import check_free, relocated, write_together

PART_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitPart:
    """Count what is in one of the written files.

    Attributes:
        path: The COCO file.
        n_images: Images, those without annotations included.
        n_annotations: Annotations.
        n_keypoints: Labelled points (visibility above 0) by keypoint name, in the order of the file.
    """

    path: Path
    n_images: int
    n_annotations: int
    n_keypoints: Mapping[str, int]


def split_dataset(
    json_path: str | Path,
    output: str | Path | None = None,
    *,
    ratios: Sequence[float] = (0.8, 0.2),
    folds: int | None = None,
    group_by: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> list[SplitPart]:
    """Write the parts of a data set as COCO files that lead to the same images by relative paths.

    Images of one group (and one image that is listed twice) are never in two parts. Two parts without groups
    are those that a training with this `seed` and `validation_split_ratio` would take.

    Args:
        json_path: COCO file.
        output: Folder for `train.json`, `validation.json` and, for three ratios, `test.json`; default: the
            folder of the COCO file.
        ratios: Share of the images of two or three parts, 1 together; not used for folds.
        folds: Write `fold0_train.json`, `fold0_validation.json`, ... instead, this many pairs.
        group_by: "folder", or a field of the images such as `video`.
        seed: Seed of the split, apart from every other seed.
        overwrite: Replace files that are there already; the source is never replaced.

    Returns:
        What each file holds, in the order written.

    Raises:
        FileNotFoundError: There is no such COCO file.
        ValueError: The COCO file or an option is wrong, or a file is there already; nothing is written.
    """
    json_path = Path(json_path)
    output = json_path.parent if output is None else Path(output)
    coco = read_coco(json_path)
    named_ids = _parts(coco, ratios, folds, group_by, seed)
    files = {output / f"{name}.json": part_of(coco, ids) for name, ids in named_ids.items()}
    check_free(list(files), [json_path], overwrite)
    for part in files.values():
        part.images = relocated(part.images, json_path.parent, output)
    write_together(files)
    return [count_labels(path, part) for path, part in files.items()]


def counts_table(parts: Sequence[SplitPart]) -> str:
    """Return a table of the parts: images, annotations and labelled points by name, one line per part."""
    names = list(dict.fromkeys(name for part in parts for name in part.n_keypoints))
    head = ["file", "images", "annotations", *names]
    rows = [
        [part.path.name, *map(str, (part.n_images, part.n_annotations, *_in_order(part, names)))]
        for part in parts
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for first, *others in (head, *rows):
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def count_labels(path: Path, coco: CocoKeypoints) -> SplitPart:
    """Count the images, annotations and labelled points of a COCO file."""
    names = {category.id: category.keypoints for category in coco.categories}
    counts = Counter(
        name
        for annotation in coco.annotations
        for name, flag in zip(names[annotation.category_id], annotation.keypoints[2::3], strict=True)
        if flag > 0
    )
    by_name = {name: counts[name] for name in coco.keypoint_names()}
    return SplitPart(path, len(coco.images), len(coco.annotations), by_name)


def _parts(
    coco: CocoKeypoints, ratios: Sequence[float], folds: int | None, group_by: str | None, seed: int
) -> dict[str, list[int]]:
    """Return the image ids of each part by the name of its file."""
    ids = [image.id for image in coco.images]
    groups = kept_together(coco, group_by)
    if folds is not None:
        pairs = enumerate(k_folds(ids, folds, seed, groups))
        return {
            f"fold{number}_{name}": part
            for number, pair in pairs
            for name, part in zip(PART_NAMES, pair, strict=False)
        }
    if not 2 <= len(ratios) <= 3:
        raise ValueError(
            f"expected two or three ratios, for training, validation and test, got {len(ratios)}; "
            "for more parts of equal size give folds"
        )
    if groups is None and len(ratios) == 2 and abs(sum(ratios) - 1) < 1e-6:
        parts: Sequence[list[int]] = random_split(ids, ratios[1], seed)
    else:
        parts = split_parts(ids, ratios, seed, groups)
    return dict(zip(PART_NAMES, parts, strict=False))


def kept_together(coco: CocoKeypoints, group_by: str | None) -> list[str] | None:
    """Return the group of every image that no split tears apart; None where each image is on its own.

    Without `group_by` an image that is listed twice is a group: it must not be trained on and scored.
    """
    if group_by is not None:
        return group_labels(coco.images, group_by)
    file_names = [image.file_name for image in coco.images]
    return file_names if len(set(file_names)) < len(file_names) else None


def part_of(coco: CocoKeypoints, image_ids: Iterable[int]) -> CocoKeypoints:
    """Return the images of these ids with their annotations, in the order of the file."""
    wanted = set(image_ids)
    images = [image for image in coco.images if image.id in wanted]
    annotations = [annotation for annotation in coco.annotations if annotation.image_id in wanted]
    return coco.model_copy(update={"images": images, "annotations": annotations})


def _in_order(part: SplitPart, names: Sequence[str]) -> list[int]:
    return [part.n_keypoints.get(name, 0) for name in names]
