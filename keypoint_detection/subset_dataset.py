"""Write a part of a COCO file: fewer images, categories or keypoints; the images stay where they are."""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from keypoint_detection.data.coco_parser import CocoCategory, CocoImage, CocoKeypoints, read_coco
from keypoint_detection.data.keypoint_choice import choose_keypoints, choose_labels
from keypoint_detection.data.splits import seeded_order
from keypoint_detection.dataset_files import check_free, relocated, write_together
from keypoint_detection.registry import nearest_name

logger = logging.getLogger("keypoint_detection")


def subset_dataset(
    json_path: str | Path,
    output: str | Path,
    *,
    n: int | None = None,
    ids: Collection[int] | None = None,
    keypoints: Collection[str] | None = None,
    categories: Collection[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write a COCO file with less in it, which leads to the same images by relative paths; notes are logged.

    Args:
        json_path: COCO file.
        output: The COCO file to write.
        n: Number of images to draw at random; for one seed, fewer are a part of more.
        ids: Or the ids of the images to take, in the order of the file.
        keypoints: Names of the keypoints to keep, in the order of the file; their bones, symmetries and
            labels go along. A category that keeps none goes with its annotations.
        categories: Names of the categories to keep. Images without annotations stay.
        seed: Seed of the draw.
        overwrite: Replace a file that is there already; the source is never replaced.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: There is no such COCO file.
        ValueError: The COCO file or a choice is wrong, or the output is there already; nothing is written.
    """
    json_path, output = Path(json_path), Path(output)
    coco = read_coco(json_path)
    images = _chosen_images(coco, n, ids, seed)
    coco, notes = _fewer_keypoints(_fewer_categories(coco, categories), keypoints)
    wanted = {image.id for image in images}
    annotations = [annotation for annotation in coco.annotations if annotation.image_id in wanted]
    check_free([output], [json_path], overwrite)
    images = relocated(images, json_path.parent, output.parent)
    write_together({output: coco.model_copy(update={"images": images, "annotations": annotations})})
    for note in notes:
        logger.warning("%s: %s", json_path, note)
    return output


def _chosen_images(
    coco: CocoKeypoints, n: int | None, ids: Collection[int] | None, seed: int
) -> list[CocoImage]:
    known = [image.id for image in coco.images]
    if n is not None and ids is not None:
        raise ValueError("expected a number of images or their ids, got both; leave one out")
    if n is not None:
        if not known:
            raise ValueError("expected images to draw from, got a file without any")
        if not 1 <= n <= len(known):
            raise ValueError(f"expected 1 to {len(known)} images, as many as there are, got {n}")
        ids = seeded_order(known, seed)[:n]
    if ids is None:
        return coco.images
    unknown = sorted(set(ids) - set(known))
    if unknown or not ids:
        got = f"{unknown[0]}" if unknown else "none"
        raise ValueError(f"expected ids of images of the file, got {got}")
    wanted = set(ids)
    return [image for image in coco.images if image.id in wanted]


def _fewer_categories(coco: CocoKeypoints, names: Collection[str] | None) -> CocoKeypoints:
    if names is None:
        return coco
    _check_names("categories", names, [category.name for category in coco.categories])
    return _with_categories(coco, [category for category in coco.categories if category.name in names])


def _fewer_keypoints(
    coco: CocoKeypoints, names: Collection[str] | None
) -> tuple[CocoKeypoints, Sequence[str]]:
    if names is None:
        return coco, ()
    _check_names("keypoints", names, coco.keypoint_names())
    notes: list[str] = []
    kept: list[CocoCategory] = []
    for category in coco.categories:
        own = [name for name in category.keypoints if name in names]
        if own:
            chosen, its_notes = choose_keypoints(category, own)
            kept.append(chosen)
            notes += its_notes
        else:
            count = sum(entry.category_id == category.id for entry in coco.annotations)
            notes.append(
                f"category {category.name!r} keeps no keypoint and is left out with {count} annotations"
            )
    old = {category.id: category.keypoints for category in coco.categories}
    new = {category.id: category.keypoints for category in kept}
    coco = _with_categories(coco, kept)
    annotations = [
        choose_labels(entry, old[entry.category_id], new[entry.category_id]) for entry in coco.annotations
    ]
    return coco.model_copy(update={"annotations": annotations}), notes


def _with_categories(coco: CocoKeypoints, categories: Sequence[CocoCategory]) -> CocoKeypoints:
    """Return the file with these categories and their annotations alone."""
    ids = {category.id for category in categories}
    annotations = [entry for entry in coco.annotations if entry.category_id in ids]
    return coco.model_copy(update={"categories": list(categories), "annotations": annotations})


def _check_names(kind: str, names: Collection[str], known: Iterable[str]) -> None:
    known = list(known)
    if not names:
        raise ValueError(f"expected names of {kind} to keep, got none")
    for name in names:
        if name not in known:
            raise ValueError(
                f"expected {kind} of the file ({', '.join(known)}), got {name!r}.{nearest_name(name, known)}"
            )
