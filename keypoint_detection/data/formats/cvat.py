"""Read the labels of CVAT as COCO keypoints: XML for images, XML for video, and its COCO export.

A label `category.keypoint` on points, or a skeleton, gives the category and the keypoint. CVAT counts from
the corner of the image, so points move by half a pixel; boxes stay.
"""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoImage, CocoKeypoints, read_coco
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.cvat_categories import (
    KeypointCategory,
    LabelSplitter,
    add_skeleton_edges,
    categories_of_labels,
    label_splitter,
    read_configuration,
)
from keypoint_detection.data.formats.cvat_images import (
    IMAGES_FOLDER,
    find_frames,
    find_images,
    image_file_name,
)
from keypoint_detection.data.formats.cvat_instances import (
    CvatInstance,
    coco_annotation,
    count_points,
    group_shapes,
    track_owners,
)
from keypoint_detection.data.formats.cvat_xml import HALF, CvatXml, Shape, XmlFrame, XmlImage

_LAYOUTS = "CVAT's annotations.xml, the folder it lies in, or its person_keypoints_*.json"
_Labelled = list[tuple[XmlImage, list[CvatInstance]]]


def read_cvat(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read a CVAT export: "CVAT for images 1.1", "CVAT for video 1.1" or "COCO Keypoints 1.0".

    Args:
        source: `annotations.xml`, the unpacked folder that holds it beside `images/`, or the JSON of a COCO
            export.
        categories: Configuration (JSON) of the categories and of how many keypoints each type has; without
            it they follow from the labels.

    Returns:
        The records, where the images lie, and notes.

    Raises:
        FileNotFoundError: There is no export, or an image of it is missing while others are there.
        ValueError: The file is broken, or an instance has more points of a label than its category.
    """
    path = _locate(Path(source))
    if path.suffix.lower() != ".json":
        return _read_xml(path, None if categories is None else read_configuration(Path(categories)))
    if categories is not None:
        raise ValueError(f"{path}: a COCO export holds its categories; remove the configuration {categories}")
    return _read_json(path)


def _locate(source: Path) -> Path:
    if not source.exists():
        raise FileNotFoundError(f"expected a CVAT export at {source}, found nothing; give {_LAYOUTS}")
    if source.is_dir():
        exports = [source / "annotations.xml"] if (source / "annotations.xml").is_file() else []
        exports = exports or sorted(source.glob("annotations/person_keypoints_*.json"))
        if len(exports) != 1:
            found = ", ".join(path.name for path in exports) or "neither"
            raise FileNotFoundError(
                f"expected annotations.xml or one annotations/person_keypoints_*.json in {source}, "
                f"got {found}"
            )
        return exports[0]
    if source.suffix.lower() == ".zip":
        raise ValueError(f"expected an unpacked CVAT export, got {source}; unpack it and give the folder")
    return source


def _read_xml(path: Path, configured: list[KeypointCategory] | None) -> Conversion:
    xml = CvatXml(path)
    images = _read_images(xml, path, label_splitter(xml.header, configured))
    entries = _categories(xml, path, images, configured)
    coco = _coco(path, images, entries, xml.unread)
    notes = add_skeleton_edges(entries, xml.header)
    if xml.unread:
        counts = ", ".join(f"{count} x {what}" for what, count in xml.unread.items())
        notes.append(f"left out what is no keypoint of a category: {counts}")
    places = [_place(path, item) for item, _ in images]
    return _with_images(path, coco, [path.parent / IMAGES_FOLDER, path.parent], places, notes)


def _with_images(
    path: Path, coco: CocoKeypoints, folders: list[Path], places: list[str], notes: list[str]
) -> Conversion:
    """Find the images in folders, the first of which is the one that CVAT exports."""
    places_by_name = dict(zip((image.file_name for image in coco.images), places, strict=True))
    paths, more = find_images(folders, places_by_name, folders[0].is_dir())
    found = {image.id: place for image, place in zip(coco.images, paths, strict=True) if place is not None}
    return Conversion(coco, found, tuple(f"{path}: {note}" for note in [*more, *notes]))


def _read_images(xml: CvatXml, path: Path, split: LabelSplitter) -> _Labelled:
    """Return every image, or frame of a video, and its instances."""
    images: _Labelled = []
    frames: dict[int, list[Shape]] = {}
    tasks: set[str] = set()
    for item in xml:
        if isinstance(item, XmlImage):
            instances, unclear = group_shapes(item.shapes, split)
            images.append((item, instances))
            item.shapes = []
            xml.unread.update(unclear)
        else:
            _add_frame(item, frames, tasks, path)
    if images and frames:
        raise ValueError(f"{path}: expected images or the tracks of a video, got both; export them apart")
    return images or _video(xml, path, frames, split)


def _add_frame(item: XmlFrame, frames: dict[int, list[Shape]], tasks: set[str], path: Path) -> None:
    tasks.add(item.task_id)
    if len(tasks) > 1:  # their frames have the same numbers
        raise ValueError(
            f"{path} line {item.line}: expected the tracks of one task, got tasks "
            f"{', '.join(sorted(tasks))[:60]!r}; export every task by itself"
        )
    if not item.shape.is_empty:
        frames.setdefault(item.number, []).append(item.shape)


def _video(xml: CvatXml, path: Path, frames: dict[int, list[Shape]], split: LabelSplitter) -> _Labelled:
    owners = track_owners((shape for shapes in frames.values() for shape in shapes), split)
    images: _Labelled = []
    for image, number in find_frames(path.parent, frames, xml.header, path):
        shapes = frames.get(number, [])
        instances, unclear = group_shapes(shapes, split)
        xml.unread.update(unclear)
        for instance in instances:
            if instance.points and not instance.is_skeleton:
                key = instance.category, instance.group
                instance.track_id = owners.get(key, instance.track_id)
        images.append((image, instances))
    return images


def _categories(
    xml: CvatXml, path: Path, images: _Labelled, configured: list[KeypointCategory] | None
) -> list[KeypointCategory]:
    """Return the configured categories, or those of the labels; that nothing fits is an error."""
    most: dict[tuple[str, str], int] = {}
    for _, instances in images:
        count_points(instances, most)
    if configured is None:
        entries = categories_of_labels(xml.header, most, path)
        if not entries:
            raise ValueError(f"{path}: expected points or skeletons, found none on {len(images)} images")
        return entries
    known = {(entry.category.name, name) for entry in configured for name in entry.counts}
    if most and not known & most.keys():
        wanted, found = (", ".join(sorted(".".join(key) for key in keys)[:5]) for keys in (known, most))
        raise ValueError(
            f"{path}: expected points labelled as configured, {wanted[:200]!r}, got {found[:200]!r}"
        )
    return configured


def _coco(
    path: Path, images: _Labelled, entries: list[KeypointCategory], unread: Counter[str]
) -> CocoKeypoints:
    by_name = {entry.category.name: entry for entry in entries}
    records: dict[str, CocoImage] = {}
    annotations: list[CocoAnnotation] = []
    for item, instances in images:
        where = _place(path, item)
        file_name = image_file_name(item.name, where)
        if file_name in records:
            raise ValueError(f"{where}: expected image names that occur once, got {file_name!r} twice")
        image_id = len(records) + 1
        records[file_name] = CocoImage(id=image_id, file_name=file_name, width=item.width, height=item.height)
        for instance in instances:
            entry = by_name.get(instance.category)
            unread.update(_unknown(instance, entry))
            if entry is not None and (instance.box or not entry.counts.keys().isdisjoint(instance.points)):
                place = f"{path} line {instance.line}: image {item.name!r}"
                number = len(annotations) + 1
                annotations.append(coco_annotation(instance, entry, number, image_id, place))
    categories = [entry.category for entry in entries]
    return CocoKeypoints(images=list(records.values()), categories=categories, annotations=annotations)


def _place(path: Path, image: XmlImage) -> str:
    return f"{path} line {image.line}" if image.line else str(path)


def _unknown(instance: CvatInstance, entry: KeypointCategory | None) -> Iterable[str]:
    """Yield a few words for everything of an instance that is not in its category."""
    if entry is None and instance.box is not None:
        yield f"box labelled {instance.category!r}"
    for semantic_type, points in instance.points.items():
        if entry is None or semantic_type not in entry.counts:
            label = f"{instance.category}.{semantic_type}"
            yield from [f"point labelled {label!r}"] * len(points)


def _read_json(path: Path) -> Conversion:
    coco = read_coco(path)
    moved = 0
    for annotation in coco.annotations:
        values = annotation.keypoints
        for index in range(0, len(values), 3):
            if values[index + 2] > 0:
                values[index : index + 2] = [_centred(value) for value in values[index : index + 2]]
                moved += 1
    places: dict[str, str] = {}
    for image in coco.images:
        where = f"{path}: image {image.id}"
        image.file_name = image_file_name(image.file_name.removeprefix(f"{IMAGES_FOLDER}/"), where)
        if image.file_name in places:
            raise ValueError(f"{where}: expected image names that occur once, got {image.file_name!r} twice")
        places[image.file_name] = where
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    subset = path.stem.removeprefix("person_keypoints_")
    folders = [root / IMAGES_FOLDER, root / IMAGES_FOLDER / subset, root]
    note = f"{moved} points were moved by -0.5, -0.5: CVAT counts from the corner of the image"
    return _with_images(path, coco, folders, list(places.values()), [note])


def _centred(value: float) -> float:
    return float(Decimal(repr(value)) - HALF)
