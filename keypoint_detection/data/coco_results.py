"""COCO results files: one entry per instance that was found; every error is one line that names the entry."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from keypoint_detection.data.coco_parser import Number
from keypoint_detection.files import write_text

Identity = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
"""An id that an int64 array can hold."""

KEYPOINT_FORM = '{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}'
# With one of these pycocotools' loadRes takes an entry for another kind of result, and its area from it.
_REFUSED_FIELDS = frozenset(("bbox", "segmentation", "caption"))

Entry = TypeVar("Entry", bound=BaseModel)


class _KeypointEntry(BaseModel):
    image_id: Identity
    category_id: Identity
    keypoints: list[Number]
    keypoint_scores: list[Number] | None = None
    score: Number


_KEYPOINT_ENTRIES = TypeAdapter(list[_KeypointEntry])


@dataclass(frozen=True)
class KeypointResults:
    """Hold q instances of k keypoints in file order; several of one image are several instances.

    Attributes:
        image_id: int64 `[q]`.
        category_id: int64 `[q]`.
        keypoints: float64 `[q, k, 2]`, (x, y) in pixels of the original image.
        keypoint_scores: float64 `[q, k]`.
        scores: float64 `[q]`.
    """

    image_id: NDArray[np.int64]
    category_id: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    keypoint_scores: NDArray[np.float64]
    scores: NDArray[np.float64]


def keypoint_results(
    image_ids: ArrayLike,
    category_ids: ArrayLike,
    keypoints: ArrayLike,
    keypoint_scores: ArrayLike,
    scores: ArrayLike,
    *,
    extra: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return the entries of a COCO keypoint results file, in the order given.

    An entry has neither `bbox` nor `segmentation`, because pycocotools would take its area from them.

    Args:
        image_ids: Integers `[q]`.
        category_ids: Integers `[q]`.
        keypoints: `[q, k, 2]`, (x, y) in pixels of the original image; every one is finite.
        keypoint_scores: `[q, k]`, finite.
        scores: `[q]`, finite: what the instances are ranked by.
        extra: Further fields of each of the q entries, JSON-ready.

    Raises:
        ValueError: A shape is wrong, a number is not finite, or `extra` names a field that is taken.
    """
    points = np.asarray(keypoints, np.float64)
    weights, ranks = np.asarray(keypoint_scores, np.float64), np.asarray(scores, np.float64)
    images, categories = _ids("image_ids", image_ids), _ids("category_ids", category_ids)
    _check_shapes(images, categories, points, weights, ranks)
    triples = np.concatenate([points, weights[..., None]], axis=-1)
    _check_finite(triples, ranks)
    columns = (images, categories, triples.reshape(len(ranks), 3 * weights.shape[1]), ranks)
    entries = [
        {"image_id": image, "category_id": category, "keypoints": values, "score": score}
        for image, category, values, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return entries if extra is None else _merge(entries, extra)


def write_results(path: str | Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write a results file atomically, one entry per line; numbers keep every bit.

    Raises:
        ValueError: A number is not finite; nothing is written.
    """
    lines = ",\n".join(_line(number, entry) for number, entry in enumerate(entries))
    write_text(path, f"[\n{lines}\n]\n" if lines else "[]\n")


def read_results(path: str | Path, image_ids: Iterable[int], n_keypoints: int) -> KeypointResults:
    """Read and check a COCO keypoint results file.

    The score of a keypoint is its third number; where that is COCO's flag, the entry has `keypoint_scores`.

    Args:
        path: The file; an empty list is valid.
        image_ids: Ids of the images that are scored.
        n_keypoints: How many keypoints an entry has.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no JSON list of such entries, a number is not finite, or an image is unknown.
    """
    path = Path(path)
    entries = read_entries(path, _KEYPOINT_ENTRIES, KEYPOINT_FORM)
    for number, entry in enumerate(entries):
        if len(entry.keypoints) != 3 * n_keypoints:
            raise ValueError(
                f"{path}: entry {number}, field 'keypoints': expected {3 * n_keypoints} numbers (x, y, score "
                f"for {n_keypoints} keypoints), got {len(entry.keypoints)}; take the results of a model with "
                "the keypoints of this category"
            )
    images = np.array([entry.image_id for entry in entries], np.int64)
    check_ids(path, "image_id", images, image_ids)
    shape = len(entries), n_keypoints
    triples = np.array([entry.keypoints for entry in entries], np.float64).reshape(*shape, 3)
    scores = [
        scores_of_keypoints(path, number, entry.keypoints, entry.keypoint_scores)
        for number, entry in enumerate(entries)
    ]
    return KeypointResults(
        image_id=images,
        category_id=np.array([entry.category_id for entry in entries], np.int64),
        keypoints=triples[..., :2],
        keypoint_scores=np.array(scores, np.float64).reshape(shape),
        scores=np.array([entry.score for entry in entries], np.float64),
    )


def scores_of_keypoints(
    path: Path, number: int, keypoints: Sequence[float], keypoint_scores: Sequence[float] | None
) -> Sequence[float]:
    """Return the scores of an entry's k keypoints: third numbers of its `[3 k]`, or those beside them."""
    if keypoint_scores is None:
        return keypoints[2::3]
    if 3 * len(keypoint_scores) != len(keypoints):
        raise ValueError(
            f"{path}: entry {number}, field 'keypoint_scores': expected {len(keypoints) // 3} numbers, one "
            f"per keypoint, got {len(keypoint_scores)}; write the file again"
        )
    return keypoint_scores


def read_entries(path: Path, adapter: TypeAdapter[list[Entry]], form: str) -> list[Entry]:
    """Read a JSON list of entries of one form.

    Args:
        path: The file.
        adapter: The schema.
        form: What an entry looks like, for the errors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no JSON, no list, or an entry has another form.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(
            f"expected a COCO results file (JSON) at {path}, found {found}; check the path"
        )
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # a byte-order mark of Windows tools
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {_first_problem(error, form)}") from None


def check_ids(path: Path, field: str, found: NDArray[np.int64], known: Iterable[int]) -> None:
    """Raise a ValueError for the first id `[q]` that the data set does not have; `field` is its name."""
    known = np.array(sorted(known), np.int64)
    unknown = ~np.isin(found, known)
    if unknown.any():
        first, count = int(unknown.argmax()), int(unknown.sum())
        raise ValueError(
            f"{path}: entry {first}, field '{field}': expected one of the {len(known)} ids of the COCO file "
            f"that is scored{_span(known)}, got {found[first]} ({count} of {len(found)} entries have such an "
            "id); take the results of the same data set, or remove these entries"
        )


def _span(known: NDArray[np.int64]) -> str:
    return f" ({known[0]} to {known[-1]})" if len(known) else ""


def _first_problem(error: ValidationError, form: str) -> str:
    """Return where the first problem of a file is, what was expected, what came and how to fix it."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        reason = first["msg"].removeprefix("Invalid JSON: ")
        cut = "; the file is cut short" if "EOF" in reason else ""
        return f"expected JSON; {reason}{cut}; write the file again"
    if not first["loc"]:
        return f"expected a JSON list of entries {form}, got {_summary(first['input'])}; give a results file"
    others = error.error_count() - 1
    more = f" (and {others} more such problem{'s' if others > 1 else ''})" if others else ""
    return f"{_where(first['loc'])}: {_expected(first)}{more}; each entry needs {form}"


def _expected(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "missing":
        return "expected a value, got none; the field is missing"
    if problem["type"] in ("too_short", "too_long"):
        limits = problem["ctx"]
        length = limits.get("min_length", limits.get("max_length"))
        return f"expected {length} numbers, got {_summary(problem['input'])}"
    return f"{problem['msg'].replace('Input should be', 'expected')}, got {_summary(problem['input'])}"


def _where(location: Sequence[int | str]) -> str:
    number, *inner = location
    parts = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in inner)
    return f"entry {number}, field '{parts}'" if parts else f"entry {number}"


def _summary(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with the fields {', '.join(map(str, list(value)[:6])) or '(none)'}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _ids(name: str, values: ArrayLike) -> NDArray[np.int64]:
    ids = np.asarray(values)
    if ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"expected integers as {name}, got {ids.dtype}; give the ids of the COCO file")
    return ids.astype(np.int64)


def _check_shapes(*columns: NDArray) -> None:
    names = ("image_ids", "category_ids", "keypoints", "keypoint_scores", "scores")
    count, k = len(columns[4]), columns[3].shape[-1]
    shapes = ((count,), (count,), (count, k, 2), (count, k), (count,))
    for name, column, shape in zip(names, columns, shapes, strict=True):
        if column.shape != shape:
            raise ValueError(
                f"expected {name} of shape {list(shape)} for {count} scores of instances with {k} keypoints, "
                f"got {list(column.shape)}"
            )


def _check_finite(triples: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
    """Raise a ValueError that names the first entry with a number that JSON cannot hold."""
    lacking = np.argwhere(~np.isfinite(triples).all(-1))
    if len(lacking):
        entry, keypoint = lacking[0].tolist()
        raise ValueError(
            f"entry {entry}, keypoint {keypoint}: expected finite x, y, score, got "
            f"{triples[entry, keypoint].tolist()}; COCO results have every keypoint: give a missing one a "
            "place and a score of 0"
        )
    if not np.isfinite(scores).all():
        entry = int(np.isfinite(scores).argmin())
        raise ValueError(
            f"entry {entry}: expected a finite score, got {scores[entry]}; leave out instances without one"
        )


def _merge(entries: list[dict[str, Any]], extra: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if len(extra) != len(entries):
        raise ValueError(f"expected further fields for each of {len(entries)} entries, got {len(extra)}")
    for number, (entry, fields) in enumerate(zip(entries, extra, strict=True)):
        taken = sorted(fields.keys() & (entry.keys() | _REFUSED_FIELDS))
        if taken:
            raise ValueError(
                f"entry {number}: expected further fields other than {', '.join(entry)} and "
                f"{', '.join(sorted(_REFUSED_FIELDS))}, got {taken[0]!r}; give it another name"
            )
        entry.update(fields)
    return entries


def _line(number: int, entry: Mapping[str, Any]) -> str:
    """Return the entry as strict JSON, field by field so that an error can name the field."""
    return "{" + ", ".join(f"{json.dumps(name)}: {_dump(number, name, entry[name])}" for name in entry) + "}"


def _dump(number: int, name: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError(
            f"entry {number}, field '{name}': expected finite numbers, got {_summary(value)}; JSON has no "
            "NaN or infinity"
        ) from None
