"""Read CVAT's XML piece by piece: one image or one frame of a track at a time, never the whole tree.

CVAT counts from the top-left corner of the image: points are moved by half a pixel here, and nowhere else.
Boxes stay, because COCO's boxes count from that corner too.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from xml.parsers import expat

Point = tuple[float, float, int]
"""x and y in pixels (an integer is the centre of a pixel), and visibility 1 or 2."""

HALF = Decimal("0.5")
MAX_DEPTH = 32
MAX_PIXEL = 10**9
_CHUNK_BYTES = 1 << 16
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_WHOLE = re.compile(r"[0-9]{1,9}")
_FLAGS = {"0": False, "1": True}
_SHAPES = frozenset(("points", "box", "skeleton"))
_CORNERS = ("xtl", "ytl", "xbr", "ybr")


@dataclass(slots=True)
class Shape:
    """Hold one thing that was drawn.

    Attributes:
        kind: `points`, `box`, `skeleton` or `rotated box`, which nothing reads.
        group: Number that joins the shapes of one instance, 0 for none.
        points: The points that are not outside, of a `points` shape.
        box: `(x, y, width, height)` in pixels from the corner of the image, of a `box` shape.
        parts: The `points` shapes of a `skeleton`.
        track_id: Track that it belongs to, None in an export for images.
        is_outside: True where it is not on the image; it has no points and no box then.
    """

    kind: str
    label: str
    line: int
    group: int = 0
    points: list[Point] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    parts: list["Shape"] = field(default_factory=list)
    track_id: int | None = None
    is_outside: bool = False

    @property
    def is_empty(self) -> bool:
        """Tell whether everything of it lies outside of the image."""
        return self.is_outside or (self.kind == "skeleton" and all(part.is_empty for part in self.parts))


@dataclass(slots=True)
class XmlImage:
    """Hold one `<image>`: its name below the folder `images`, its size in pixels and what was drawn on it."""

    name: str
    width: int
    height: int
    line: int
    shapes: list[Shape] = field(default_factory=list)


@dataclass(slots=True)
class XmlFrame:
    """Hold what one track shows in one frame of a video."""

    number: int
    task_id: str
    line: int
    shape: Shape


@dataclass(slots=True)
class XmlLabel:
    """Hold one label that the task defines; `parent` is the skeleton it is a point of."""

    name: str = ""
    type: str = "any"
    parent: str = ""
    svg: str = ""


@dataclass
class XmlHeader:
    """Hold what `<meta>` says: labels in their order, and the texts of the task by tag, each the first."""

    labels: list[XmlLabel] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, set[str]] = field(default_factory=lambda: {"width": set(), "height": set()})


class CvatXml:
    """Read one file by iterating over it, once; the header is complete when the first item arrives.

    Args:
        path: The XML file.

    Attributes:
        header: What `<meta>` says.
        unread: How often something occurred that is no point, box or skeleton, by tag.

    Raises:
        ValueError: While iterating: the XML is broken, defines entities, or holds a value that is none.
    """

    def __init__(self, path: Path) -> None:
        self.header = XmlHeader()
        self.unread: Counter[str] = Counter()
        self._path = path
        # the encoding is fixed, as CVAT writes it: a declared one could name any codec of Python
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._tags: list[str] = []
        self._text: list[str] = []
        self._ready: deque[XmlImage | XmlFrame] = deque()
        self._image: XmlImage | None = None
        self._track: Mapping[str, str] = {}
        self._frame: XmlFrame | None = None
        self._shape: Shape | None = None

    def __iter__(self) -> Iterator[XmlImage | XmlFrame]:
        """Yield every image and every frame of a track in the order of the file."""
        with self._path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                self._feed(chunk, is_last=False)
                while self._ready:
                    yield self._ready.popleft()
        self._feed(b"", is_last=True)
        yield from self._ready

    def _feed(self, chunk: bytes, is_last: bool) -> None:
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise ValueError(f"{self._path} line {error.lineno}: expected CVAT's XML; {reason}") from None

    @property
    def _where(self) -> str:
        return f"{self._path} line {self._parser.CurrentLineNumber}"

    def _refuse(self, *_: object) -> None:
        raise ValueError(f"{self._where}: the reader refuses XML entities and document types; remove them")

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._tags.append(tag)
        depth = len(self._tags)
        if depth > MAX_DEPTH:
            raise ValueError(f"{self._where}: expected at most {MAX_DEPTH} nested elements, got more")
        if depth == 1:
            if tag != "annotations":
                raise ValueError(f"{self._where}: expected <annotations> as in CVAT's XML, got <{tag[:60]}>")
        elif self._tags[1] == "meta":
            self._text.clear()
            if tag == "label":
                self.header.labels.append(XmlLabel())
        else:
            self._start_drawn(depth, tag, attributes)

    def _start_drawn(self, depth: int, tag: str, attributes: Mapping[str, str]) -> None:
        parent = self._tags[-2]
        if depth == 2 and tag == "image":
            self._image = self._read_image(attributes)
        elif depth == 2 and tag == "track":
            self._track = dict(attributes)
        elif depth == 3 and tag in _SHAPES and self._image is not None:
            self._shape = self._read_shape(tag, attributes, attributes)
            self._image.shapes.append(self._shape)
        elif depth == 3 and tag in _SHAPES and parent == "track":
            self._start_frame(tag, attributes)
        elif depth == 4 and parent == "skeleton" and tag == "points" and self._shape is not None:
            self._shape.parts.append(self._read_shape(tag, attributes, attributes))
        elif tag != "version":
            self.unread[tag[:60]] += 1

    def _start_frame(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._shape = self._read_shape(tag, attributes, self._track)
        self._shape.track_id = self._whole(self._track, "id")
        number, task_id = self._whole(attributes, "frame"), self._track.get("task_id", "")
        self._frame = XmlFrame(number, task_id, self._shape.line, self._shape)

    def _end(self, tag: str) -> None:
        depth = len(self._tags)
        if depth > 2 and self._tags[1] == "meta":
            self._end_meta(tag)
        elif depth == 2 and tag == "image" and self._image is not None:
            self._ready.append(self._image)
            self._image = None
        elif depth == 3 and self._frame is not None:
            self._ready.append(self._frame)
            self._frame = None
        self._tags.pop()

    def _end_meta(self, tag: str) -> None:
        text, parent = "".join(self._text), self._tags[-2]
        self._text.clear()
        if parent == "label" and tag in ("name", "type", "parent", "svg"):
            setattr(self.header.labels[-1], tag, text)
        elif parent == "original_size" and tag in self.header.sizes:
            self.header.sizes[tag].add(text)
        elif parent in ("task", "job", "project"):
            self.header.texts.setdefault(tag, text)

    def _characters(self, text: str) -> None:
        if len(self._tags) > 2 and self._tags[1] == "meta":
            self._text.append(text)

    def _read_image(self, attributes: Mapping[str, str]) -> XmlImage:
        name = self._attribute(attributes, "name")
        if attributes.get("subset"):  # a project's export has a folder of images per subset
            name = f"{attributes['subset']}/{name}"
        width, height = self._whole(attributes, "width"), self._whole(attributes, "height")
        if width == 0 or height == 0:
            raise ValueError(f"{self._where}: expected an image of at least 1x1 pixels, got {width}x{height}")
        return XmlImage(name, width, height, self._parser.CurrentLineNumber)

    def _read_shape(self, tag: str, attributes: Mapping[str, str], owner: Mapping[str, str]) -> Shape:
        """Return a shape; `owner` has its label and group: the shape itself, or its track."""
        shape = Shape(tag, self._attribute(owner, "label"), self._parser.CurrentLineNumber)
        shape.group = self._whole(owner, "group_id") if "group_id" in owner else 0
        shape.is_outside = self._flag(attributes, "outside")
        if shape.is_outside:
            return shape
        if tag == "points":
            visibility = 1 if self._flag(attributes, "occluded") else 2
            text = self._attribute(attributes, "points")
            shape.points = [self._read_point(pair, visibility) for pair in text.split(";")]
        elif tag == "box" and attributes.get("rotation", "0").strip("0."):
            shape.kind = "rotated box"
        elif tag == "box":
            shape.box = self._read_box(attributes)
        return shape

    def _read_point(self, text: str, visibility: int) -> Point:
        x, comma, y = text.partition(",")
        if not comma:
            raise ValueError(f"{self._where}: expected points as 'x,y;x,y', got {text[:60]!r}")
        # decimal, so that 64.10 becomes 63.6 and not 63.599999999999994
        return float(self._pixel(x) - HALF), float(self._pixel(y) - HALF), visibility

    def _read_box(self, attributes: Mapping[str, str]) -> tuple[float, float, float, float]:
        left, top, right, bottom = (self._pixel(self._attribute(attributes, name)) for name in _CORNERS)
        if right < left or bottom < top:
            raise ValueError(
                f"{self._where}: expected a box with xtl <= xbr and ytl <= ybr, got {left:f}, {top:f} to "
                f"{right:f}, {bottom:f}"
            )
        return float(left), float(top), float(right - left), float(bottom - top)

    def _pixel(self, text: str) -> Decimal:
        value = Decimal(text.strip()) if _NUMBER.fullmatch(text.strip()) else None
        if value is None or abs(value) > MAX_PIXEL:
            raise ValueError(f"{self._where}: expected a coordinate in pixels, got {text[:60]!r}")
        return value

    def _attribute(self, attributes: Mapping[str, str], name: str) -> str:
        if not attributes.get(name):
            raise ValueError(f"{self._where}: expected <{self._tags[-1][:60]}> with {name!r}, got none")
        return attributes[name]

    def _whole(self, attributes: Mapping[str, str], name: str) -> int:
        text = self._attribute(attributes, name)
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"{self._where}: expected a whole number for {name!r}, got {text[:60]!r}")
        return int(text)

    def _flag(self, attributes: Mapping[str, str], name: str) -> bool:
        text = attributes.get(name, "0")
        if text not in _FLAGS:
            raise ValueError(f"{self._where}: expected 0 or 1 for {name!r}, got {text[:60]!r}")
        return _FLAGS[text]
