"""Join the shapes that CVAT draws on one image to instances, and write an instance as a COCO annotation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from keypoint_detection.data.coco_parser import CocoAnnotation
from keypoint_detection.data.formats.cvat_categories import KeypointCategory, LabelSplitter
from keypoint_detection.data.formats.cvat_xml import Point, Shape


@dataclass(slots=True)
class CvatInstance:
    """Hold one object of one image: its points by semantic type, in the order in which they were drawn."""

    category: str
    group: int
    line: int
    points: dict[str, list[Point]] = field(default_factory=dict)
    box: tuple[float, float, float, float] | None = None
    track_id: int | None = None
    is_skeleton: bool = False

    def add(self, semantic_type: str, shape: Shape) -> None:
        """Add the points of a shape."""
        if shape.points:
            self.points.setdefault(semantic_type, []).extend(shape.points)


def group_shapes(shapes: Iterable[Shape], split: LabelSplitter) -> tuple[list[CvatInstance], list[str]]:
    """Join the shapes of one image to instances, in order of appearance.

    Points of one category and group are one instance, and so are those without a group. A skeleton is an
    instance by itself. A box belongs to the only instance of its label and group, or else is one by itself.

    Args:
        shapes: What was drawn on the image.
        split: Returns category and semantic type of a label.

    Returns:
        The instances, and what is not part of one: a few words per shape.
    """
    joined: dict[tuple[str, int], CvatInstance] = {}
    instances: list[CvatInstance] = []
    boxes: list[Shape] = []
    unread: list[str] = []
    for shape in shapes:
        if shape.kind == "points":
            category, semantic_type = split(shape.label)
            if (category, shape.group) not in joined:
                joined[category, shape.group] = _instance(category, shape)
                instances.append(joined[category, shape.group])
            joined[category, shape.group].add(semantic_type, shape)
        elif shape.kind == "skeleton":
            instances.append(_instance(shape.label, shape))
            for part in shape.parts:
                instances[-1].add(part.label, part)
        elif shape.box is not None:
            boxes.append(shape)
        elif not shape.is_outside:
            unread.append(shape.kind)
    instances = [instance for instance in instances if instance.points]
    unread += _place_boxes(boxes, instances)
    return sorted(instances, key=lambda instance: instance.line), unread


def count_points(instances: Iterable[CvatInstance], most: dict[tuple[str, str], int]) -> None:
    """Raise `most`, the most points of one instance by category and semantic type, to what these have."""
    for instance in instances:
        for semantic_type, points in instance.points.items():
            key = instance.category, semantic_type
            most[key] = max(len(points), most.get(key, 0))


def coco_annotation(
    instance: CvatInstance, entry: KeypointCategory, identity: int, image_id: int, where: str
) -> CocoAnnotation:
    """Return an instance as COCO writes it, without the semantic types that its category does not have.

    Args:
        instance: The instance.
        entry: Its category.
        identity: Id of the annotation.
        image_id: Id of the image.
        where: File, line and image, for an error.

    Raises:
        ValueError: It has more points of a semantic type than the category.
    """
    values: list[float] = []
    labelled: list[Point] = []
    for semantic_type, count in entry.counts.items():
        points = instance.points.get(semantic_type, [])
        if len(points) > count:
            raise ValueError(_too_many(instance, semantic_type, count, where))
        labelled += points
        values += [number for point in points for number in point] + [0.0] * 3 * (count - len(points))
    annotation = CocoAnnotation(
        id=identity,
        image_id=image_id,
        category_id=entry.category.id,
        keypoints=values,
        num_keypoints=len(labelled),
        iscrowd=0,
    )
    if instance.track_id is not None:
        setattr(annotation, "track_id", instance.track_id)  # noqa: B010 - a field of its own
    _add_box(annotation, instance.box, labelled)
    return annotation


def _instance(category: str, shape: Shape) -> CvatInstance:
    instance = CvatInstance(category, shape.group, shape.line, box=shape.box, track_id=shape.track_id)
    instance.is_skeleton = shape.kind == "skeleton"
    return instance


def _place_boxes(boxes: list[Shape], instances: list[CvatInstance]) -> list[str]:
    """Give instances their boxes, add an instance for a box without points; return what is not clear."""
    drawn: dict[tuple[str, int], list[Shape]] = {}
    for box in boxes:
        drawn.setdefault((box.label, box.group), []).append(box)
    candidates: dict[tuple[str, int], list[CvatInstance]] = {key: [] for key in drawn}
    for instance in instances:
        candidates.get((instance.category, instance.group), []).append(instance)
    unclear: list[str] = []
    for key, shapes in drawn.items():
        if len(shapes) == len(candidates[key]) == 1:
            candidates[key][0].box = shapes[0].box
        elif candidates[key]:
            unclear += ["box that may belong to several instances (give it their group)"] * len(shapes)
        else:
            instances += [_instance(shape.label, shape) for shape in shapes]
    return unclear


def _too_many(instance: CvatInstance, semantic_type: str, count: int, where: str) -> str:
    got = len(instance.points[semantic_type])
    label = f"{instance.category}.{semantic_type}"
    group = f"group {instance.group}" if instance.group else "no group"
    return (
        f"{where}: expected at most {count} points labelled {label!r} in one "
        f"instance, got {got} with {group}; give every instance a group of its own, or raise n_keypoints"
    )


def _add_box(
    annotation: CocoAnnotation, box: tuple[float, float, float, float] | None, points: list[Point]
) -> None:
    """Set the drawn box, or the tight box of the points, and its area; none where it has no area."""
    if box is None and points:
        columns, rows = [point[0] for point in points], [point[1] for point in points]
        size = max(columns) - min(columns), max(rows) - min(rows)
        tight = min(columns) + 0.5, min(rows) + 0.5, *size  # boxes count from the corner of the image
        box = tight if tight[2] * tight[3] > 0 else None
    if box is not None:
        annotation.bbox = list(box)
        if box[2] * box[3] > 0:  # scores that are relative to the area need one above zero
            annotation.area = box[2] * box[3]


def track_owners(shapes: Iterable[Shape], split: LabelSplitter) -> Mapping[tuple[str, int], int]:
    """Return the smallest id of the tracks of points that make up an instance, by category and group."""
    owners: dict[tuple[str, int], int] = {}
    for shape in shapes:
        if shape.kind == "points" and shape.track_id is not None:
            key = split(shape.label)[0], shape.group
            owners[key] = min(shape.track_id, owners.get(key, shape.track_id))
    return owners
