"""What a prediction run has finished so far, in a file that a killed run leaves whole for the next one.

`predictions.partial.jsonl` holds JSON lines: first what the run depends on; then one per image, in the order
of the source, with how many more belong to its batch; then `{"ended": true}` once the source is at its end,
and `{"written": true}` once all files that are made from it are there. A run that goes on starts at the end
of a whole batch, so that the network sees the same batches as without a stop, and gives the same numbers to
the last bit.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from keypoint_detection.files import atomic_write
from keypoint_detection.records import Keypoint, Prediction

logger = logging.getLogger("keypoint_detection")

PARTIAL_NAME = "predictions.partial.jsonl"


@dataclass(frozen=True)
class Record:
    """Hold the stored prediction of one image.

    Attributes:
        index: Place in the source, from 0.
        entry: Its JSON form, as in predictions.json.
    """

    index: int
    entry: dict[str, Any]

    def prediction(self, channel_names: Sequence[str]) -> Prediction:
        """Return the prediction; its channels are in the order of the names."""
        keypoints = self.entry["keypoints"]
        return Prediction(
            tuple(tuple(map(keypoint_of, keypoints[name])) for name in channel_names),
            tuple(channel_names),
            (self.entry["height"], self.entry["width"]),
            self.entry["source"],
        )


def keypoint_of(stored: Mapping[str, float]) -> Keypoint:
    """Return the point of its JSON form."""
    visibility = int(stored.get("visibility", 2))
    return Keypoint(stored["x"], stored["y"], stored["score"], visibility, stored.get("p_visible"))


@dataclass
class _Progress:
    """Hold how far a file is: images, bytes up to the last whole batch, and the marks behind them."""

    n_done: int = 0
    n_bytes: int = 0
    marks: set[str] = field(default_factory=set)


class PartialStore:
    """Append finished batches to a file, or go on behind those that an earlier run has left there.

    Attributes:
        path: The file.
        n_done: Images of the source that are finished, those that cannot be read included.
        ended: True when the source is at its end.
        written: True when all other files of the run are there.
        restart: Whether the file of an earlier run was left aside.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, restart: bool = False) -> None:
        """Look at the file, and say what becomes of it; nothing is written yet.

        Args:
            path: The file; it need not be there.
            header: What the predictions depend on, JSON-ready; a file with another one is of no use.
            restart: Take no notice of the file.
        """
        self.path, self.restart = path, restart
        self._header = dict(header)
        self._file: BinaryIO | None = None
        progress = None if restart else self._read_progress()
        self._n_bytes = progress.n_bytes if progress else 0
        self.n_done = progress.n_done if progress else 0
        marks = progress.marks if progress else set()
        self.ended, self.written = "ended" in marks, "written" in marks
        if restart and path.is_file():
            logger.info("%s: left aside (--restart)", path)
        elif progress and progress.n_done:
            logger.info("%s: going on behind %d finished images", path, progress.n_done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_progress(self) -> _Progress | None:
        """Return how far the file is, or None when there is none that fits."""
        if not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            header = _parse(file.readline())
            if header != self._header:
                logger.info("%s: %s; starting anew", self.path, _difference(header, self._header))
                return None
            return _progress(file)

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write a batch and hand it to the system, so that a kill does not take it.

        Args:
            entries: Of consecutive images: `{"entry": prediction}` or `{"problem": line}`.
        """
        last = len(entries) - 1
        lines = [
            _line({"index": self.n_done + place, "left": last - place, **entry})
            for place, entry in enumerate(entries)
        ]
        self._write(b"".join(lines))
        self.n_done += len(entries)

    def end(self) -> None:
        """Note that the source is at its end."""
        self._write(_line({"ended": True}))
        self.ended = True

    def finish(self) -> None:
        """Note that all files are written."""
        self._write(_line({"written": True}))
        self.written = True

    def _write(self, content: bytes) -> None:
        if self._file is None:
            self._file = self._opened()
        self._file.write(content)
        self._file.flush()

    def _opened(self) -> BinaryIO:
        """Open the file behind its last whole batch, or a new one in place of it."""
        if not self._n_bytes:
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(_line(self._header))
            return self.path.open("ab")
        file = self.path.open("r+b")
        file.truncate(self._n_bytes)
        file.seek(self._n_bytes)
        return file

    def records(self) -> Iterator[Record]:
        """Yield the predictions in order, one at a time."""
        for line in self._lines():
            if "entry" in line:
                yield Record(line["index"], line["entry"])

    def problems(self) -> list[str]:
        """Return why images could not be read, one line each."""
        return [line["problem"] for line in self._lines() if "problem" in line]

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            file.readline()
            yield from map(json.loads, file)

    def stopped_text(self, n_items: int | None, *, is_video: bool) -> str:
        """Return how to go on with a run that Ctrl-C has stopped, out of `n_items` if that is known."""
        done = f"{self.n_done}" if n_items is None else f"{self.n_done} of {n_items}"
        unit = "frames" if is_video else "images"
        without = " without --restart" if self.restart else ""
        return (
            f"interrupted; {done} {unit} are finished and kept in {self.path}, the same command{without} "
            "goes on behind them"
        )

    def remove(self) -> None:
        """Remove the file."""
        self.__exit__()
        self.path.unlink(missing_ok=True)


def _progress(file: BinaryIO) -> _Progress:
    """Read the lines behind the header, up to the first that is cut or out of order."""
    progress = _Progress(n_bytes=file.tell())
    index = 0
    for content in file:
        line = _parse(content)
        if line.get("index") == index:
            index += 1
            if line.get("left") != 0:
                continue
        elif index != progress.n_done or not line.keys() <= {"ended", "written"} or not line:
            break
        progress.n_done, progress.n_bytes = index, file.tell()
        progress.marks |= line.keys() & {"ended", "written"}
    return progress


def _parse(content: bytes) -> dict[str, Any]:
    """Return the object of a line; an empty one when the line is cut or holds none."""
    try:
        value = json.loads(content) if content.endswith(b"\n") else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _difference(header: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in what a file of another run differs."""
    changed = [name for name in wanted if header.get(name) != wanted[name]]
    return f"it is of another {' and '.join(changed)}" if header else "it is damaged"
