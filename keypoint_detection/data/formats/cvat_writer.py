"""Write COCO keypoints as CVAT's XML for images: points labelled `category.keypoint`, one group each."""

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.data.formats.cvat_categories import CONFIGURATION_NAME
from keypoint_detection.data.formats.cvat_images import IMAGES_FOLDER
from keypoint_detection.data.formats.cvat_xml import HALF, MAX_PIXEL
from keypoint_detection.data.formats.image_files import copy_files
from keypoint_detection.files import atomic_write, write_json

_BY_READER = frozenset(("id", "image_id", "category_id", "keypoints", "num_keypoints", "area", "bbox"))
_DEFAULTS = (None, 0, [], "")


def write_cvat(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write `annotations.xml` ("CVAT for images 1.1"), and the category configuration to read it back with.

    The images go to `images/`, as CVAT exports them; those that are not there are left out with a note.
    Points move by half a pixel, since CVAT counts from the corner of the image.

    Args:
        coco: The labels.
        image_folder: Folder that the file names are relative to.
        output: Folder, made if need be; the configuration is `coco_category_configuration.json` in it.

    Returns:
        One note for every kind of thing that CVAT's points and boxes cannot hold.

    Raises:
        ValueError: A name does not fit in XML, two images get one name, or a point is no place in an image.
    """
    names = _image_names(coco.images)
    for text in (*names.values(), *(name for category in coco.categories for name in _names(category))):
        _refuse_unwritable(text)
    lost = _lost_in_file(coco)
    originals = {image.id: Path(image_folder) / image.file_name for image in coco.images}
    there = {image_id: path for image_id, path in originals.items() if path.is_file()}
    if 0 < len(there) < len(originals):
        lost["images without a file, which are not copied"] = len(originals) - len(there)
    copy_files((path, Path(output) / IMAGES_FOLDER / names[image_id]) for image_id, path in there.items())
    with atomic_write(Path(output) / "annotations.xml") as temporary:
        with temporary.open("w", encoding="utf-8") as xml:
            _write_header(xml, coco)
            _write_images(xml, coco, names)
            xml.write("</annotations>\n")
        write_json(Path(output) / CONFIGURATION_NAME, {"categories": [*_configuration(coco)]})
    for annotation in coco.annotations:
        lost.update(_lost(annotation))
    return tuple(f"{what}: {count}" for what, count in lost.items())


def _image_names(images: list[CocoImage]) -> dict[int, str]:
    """Return the name of each image as CVAT has it, without the folder `images` and ways out of a folder."""
    names: dict[int, str] = {}
    for image in images:
        parts = [part for part in PurePosixPath(image.file_name).parts if part not in ("/", "..")]
        names[image.id] = "/".join(parts[1:] if len(parts) > 1 and parts[0] == IMAGES_FOLDER else parts)
    repeated = [name for name, count in Counter(names.values()).items() if count > 1]
    if repeated:
        raise ValueError(
            f"expected image names that differ without {IMAGES_FOLDER}/ and ../, got {repeated[0]!r} twice"
        )
    return names


def _write_images(xml: TextIO, coco: CocoKeypoints, names: Mapping[int, str]) -> None:
    categories = {category.id: category for category in coco.categories}
    by_image: dict[int, list[CocoAnnotation]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        by_image[annotation.image_id].append(annotation)
    for index, image in enumerate(coco.images):
        size = f'width="{image.width}" height="{image.height}"'
        xml.write(f'  <image id="{index}" name={quoteattr(names[image.id])} {size}>\n')
        for group, annotation in enumerate(by_image[image.id], start=1):
            xml.writelines(_lines(annotation, categories[annotation.category_id], group))
        xml.write("  </image>\n")


def _names(category: CocoCategory) -> list[str]:
    return [category.name, *category.keypoints]


def _refuse_unwritable(text: str) -> None:
    """Raise a ValueError for a name that no XML can hold: empty, or with control characters."""
    is_written = all(character >= " " and not 0xD800 <= ord(character) <= 0xDFFF for character in text)
    if not text or not is_written or "\ufffe" in text or "\uffff" in text:
        raise ValueError(f"expected names without control characters, got {text!r}; rename it for CVAT's XML")


def _write_header(xml: TextIO, coco: CocoKeypoints) -> None:
    xml.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
    xml.write(f"  <meta>\n    <task>\n      <size>{len(coco.images)}</size>\n      <mode>annotation</mode>\n")
    xml.write("      <labels>\n")
    for category in coco.categories:
        points = [(f"{category.name}.{name}", "points") for name in category.keypoints]
        for name, kind in [*points, *([(category.name, "rectangle")] if points else [])]:
            xml.write(f"        <label><name>{escape(name)}</name><type>{kind}</type></label>\n")
    xml.write("      </labels>\n    </task>\n  </meta>\n")


def _lines(annotation: CocoAnnotation, category: CocoCategory, group: int) -> Iterator[str]:
    """Yield the XML of one instance."""
    values = annotation.keypoints
    for index, keypoint in enumerate(category.keypoints):
        x, y, visibility = values[3 * index : 3 * index + 3]
        if visibility > 0:
            label, occluded = quoteattr(f"{category.name}.{keypoint}"), int(visibility == 1)
            place = f"{_text(_decimal(x) + HALF)},{_text(_decimal(y) + HALF)}"
            yield (
                f'    <points label={label} source="manual" occluded="{occluded}" points="{place}" '
                f'z_order="0" group_id="{group}"></points>\n'
            )
    if annotation.bbox is not None and _is_box(annotation.bbox):
        left, top, width, height = (_decimal(value) for value in annotation.bbox)
        corners = zip(("xtl", "ytl", "xbr", "ybr"), (left, top, left + width, top + height), strict=True)
        box = " ".join(f'{name}="{_text(value)}"' for name, value in corners)
        label = quoteattr(category.name)
        yield (
            f'    <box label={label} source="manual" occluded="0" {box} '
            f'z_order="0" group_id="{group}"></box>\n'
        )


def _decimal(value: float) -> Decimal:
    if abs(value) >= MAX_PIXEL:
        raise ValueError(
            f"expected coordinates below {MAX_PIXEL} pixels, got {value:g}; correct the annotation"
        )
    return Decimal(repr(float(value)))  # decimal, so that half a pixel is added without an error of rounding


def _text(value: Decimal) -> str:
    return f"{value:f}"


def _is_box(box: list[float]) -> bool:
    return box[2] >= 0 and box[3] >= 0


def _configuration(coco: CocoKeypoints) -> Iterator[dict[str, Any]]:
    """Yield the configuration of every category, with the fields that XML has no place for."""
    for category in coco.categories:
        if category.keypoints:
            fields = category.model_dump(exclude_unset=True, exclude={"keypoints"})
            types = [{"name": name, "n_keypoints": 1} for name in category.keypoints]
            yield {**fields, "semantic_types": types}


def _lost_in_file(coco: CocoKeypoints) -> Counter[str]:
    """Count what the XML leaves out of the file, its images and its categories."""
    lost: Counter[str] = Counter()
    for index, category in enumerate(coco.categories, start=1):
        kept = {"id", "name", "keypoints"} | {name for name, value in category if value in _DEFAULTS}
        if not category.keypoints:
            lost["categories without keypoints, which are left out"] += 1
        elif category.id != index or "." in category.name or set(dict(category)) - kept:
            lost[f"categories that only {CONFIGURATION_NAME} holds in full (give it to read back)"] += 1
    for image in coco.images:
        if not image.file_name.startswith(f"{IMAGES_FOLDER}/"):
            lost[f"images outside of {IMAGES_FOLDER}/, which are in it when read back"] += 1
        lost.update(f"images with {name!r}, which is left out" for name in image.model_extra or ())
    names = {"info", "licenses", *(coco.model_extra or ())}
    lost.update(
        f"file fields {name!r}, left out" for name in sorted(names) if getattr(coco, name) not in _DEFAULTS
    )
    return lost


def _lost(annotation: CocoAnnotation) -> Iterator[str]:
    """Yield what an annotation loses, or gains when it is read back."""
    box, area = annotation.bbox, annotation.area
    visibilities = annotation.keypoints[2::3]
    for name, value in annotation:
        if name not in _BY_READER and value not in _DEFAULTS:
            yield f"annotations with {name!r}, which is left out"
    if box is not None and not _is_box(box):
        yield "boxes of negative size, left out"
        box = None
    if not any(visibilities) and box is None:
        yield "annotations without points and box, left out"
    elif box is None:
        yield "annotations without a box, which get the tight box of their points when read back"
    elif area is None or abs(area - box[2] * box[3]) > 1e-6 * max(area, 1.0):
        yield "annotations whose area is not that of their box, which it becomes when read back"
    absent = zip(annotation.keypoints[::3], annotation.keypoints[1::3], visibilities, strict=True)
    if any((x or y) and not visibility for x, y, visibility in absent):
        yield "annotations with coordinates of absent points, left out"
