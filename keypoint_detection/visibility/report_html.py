"""Parts of the page of an evaluation of visibility as HTML; every text that comes from files is escaped."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keypoint_detection.visibility.distance import DistanceEstimate, metres_text

METRICS = {
    "balanced_accuracy": ("balanced accuracy", "mean of the shares found of both classes"),
    "auroc": ("AUROC", "chance that a visible point is ranked above one that is not"),
    "f1": ("F1", "mean over both classes"),
    "loss": ("loss", "cross entropy of the logits, lower is better"),
    "brier": ("Brier score", "squared error of P(visible), lower is better"),
    "ece": ("calibration error", "of P(visible), lower is better"),
}
"""What the page calls each number, and says of it, in order."""

_NONE = "-"
_COLUMNS = ("balanced_accuracy", "auroc", "f1", "loss", "ece")
_OFF = 0.15  # share of the true distance from which an estimate stands out


class ImageRow(NamedTuple):
    """Hold what is known of one image.

    Attributes:
        image: Index in the table.
        name: Path relative to the folder of images.
        view: Camera view.
        n_points: Labelled points.
        loss: Mean over the points.
        accuracy: Share of the points that is right.
        distance: How far one can see; None without distances of points.
        true_m: The same in truth, metres; NaN where it is unknown.
    """

    image: int
    name: str
    view: str
    n_points: int
    loss: float
    accuracy: float
    distance: DistanceEstimate | None
    true_m: float


class ShownImage(NamedTuple):
    """Hold a picture of an image and what is said of it."""

    name: str
    note: str
    jpeg: bytes


def number_text(value: float | None) -> str:
    """Return a score with three digits, a dash where it is undefined."""
    return _NONE if value is None or math.isnan(value) else f"{value:.3f}"


def numbers_html(metrics: Mapping[str, Any]) -> str:
    """Return a card for each number."""
    cards = []
    for name, (title, meaning) in METRICS.items():
        if name not in metrics:
            continue
        value, ends = metrics[name]["value"], metrics[name]["interval"]
        cards.append(
            f'<div class="number"><h3>{title}</h3><p class="value">{number_text(value)}</p>'
            f'<p class="ends">{_ends(ends)}</p><p class="meaning">{meaning}</p></div>'
        )
    return "".join(cards)


def _ends(ends: Sequence[float] | None) -> str:
    return "no interval" if ends is None else f"{number_text(ends[0])} to {number_text(ends[1])}"


def intervals_text(intervals: Mapping[str, Any]) -> str:
    """Return how the intervals were made."""
    return (
        f"{100 * intervals['level']:g} % intervals from {intervals['resamples']} resamples of "
        f"{intervals['units']} {intervals['unit']}s ({intervals['method']}): "
        "points of one image stay together."
    )


def views_html(views: Mapping[str, Any]) -> str:
    """Return the table of scores by view."""
    heads = ["view", "images", "points", *(METRICS[name][0] for name in _COLUMNS)]
    rows = []
    for view, part in views.items():
        cells = [
            _head(view),
            _cell(f"{part['images']:,}", part["images"]),
            _cell(f"{part['points']:,}", part["points"]),
        ]
        for name in _COLUMNS:
            score = part["metrics"][name]
            key = "" if score["value"] is None else score["value"]
            cells.append(
                _cell(f"{number_text(score['value'])}<small>{_ends(score['interval'])}</small>", key)
            )
        rows.append("".join(cells))
    return _section("views", "Views", _table(heads, rows))


def distances_html(rows: Sequence[ImageRow]) -> str:
    """Return the table of images with their visibility distance; nothing where no point has a distance."""
    rows = [row for row in rows if row.distance is not None]
    if not rows:
        return ""
    has_truth = any(math.isfinite(row.true_m) for row in rows)
    heads = ["image", "visibility distance", *(["truth", "off by"] * has_truth), "view", "points", "accuracy"]
    body = "".join(["<p class='soft'>", html.escape(_within(rows)), "</p>"]) if has_truth else ""
    return _section(
        "distances",
        "Visibility distance",
        body + _table(heads, [_image_cells(row, has_truth) for row in rows]),
    )


def _within(rows: Sequence[ImageRow]) -> str:
    known = [row for row in rows if math.isfinite(row.true_m)]
    closed = [error for row in known if (error := _error(row)) is not None]
    near = sum(abs(error) <= _OFF for error in closed)
    is_held = [row.distance.low_m <= row.true_m <= row.distance.high_m for row in known if row.distance]
    return (
        f"{near} of {len(closed)} estimates lie within {100 * _OFF:.0f} % of the truth; {sum(is_held)} of "
        f"{len(known)} intervals hold it; {len(known) - len(closed)} say only at least or at most."
    )


def _error(row: ImageRow) -> float | None:
    """Return the relative error of an estimate; None where it is open or the truth is unknown."""
    estimate = row.distance
    if estimate is None or estimate.is_open_above or estimate.is_open_below or not math.isfinite(row.true_m):
        return None
    return estimate.value_m / row.true_m - 1


def _image_cells(row: ImageRow, has_truth: bool) -> str:
    estimate = row.distance
    is_known = estimate is not None and math.isfinite(estimate.value_m)
    cells = [
        _head(row.name),
        _cell(html.escape(str(estimate)), estimate.value_m if estimate and is_known else ""),
    ]
    if has_truth:
        error = _error(row)
        is_true = math.isfinite(row.true_m)
        cells.append(_cell(metres_text(row.true_m) if is_true else _NONE, row.true_m if is_true else ""))
        shown = _NONE if error is None else f"{100 * error:+.0f} %"
        is_off = error is not None and abs(error) > _OFF
        cells.append(
            _cell(
                f'<span class="off">{shown}</span>' if is_off else shown, "" if error is None else abs(error)
            )
        )
    cells += [_cell(html.escape(row.view), row.view), _cell(str(row.n_points), row.n_points)]
    cells.append(_cell(number_text(row.accuracy), row.accuracy))
    return "".join(cells)


def chart_html(title: str, note: str, pictures: tuple[bytes, bytes], *, is_wide: bool = False) -> str:
    """Return a figure whose picture follows the page's colours; PNG for light and dark."""
    kind = ' class="wide"' if is_wide else ""
    light, dark = (f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures)
    return (
        f"<figure{kind}><figcaption><b>{html.escape(title)}</b> <span>{html.escape(note)}</span></figcaption>"
        f'<div class="pan" tabindex="0" role="group" aria-label="{html.escape(title)}"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{html.escape(title)}: {html.escape(note)}"></picture></div></figure>'
    )


def figures_html(charts: Sequence[str]) -> str:
    """Return the section of the figures."""
    return _section("figures", "Figures", f'<div class="figures charts">{"".join(charts)}</div>')


def images_html(images: Sequence[ShownImage]) -> str:
    """Return the pictures of images, worst first; nothing without any."""
    if not images:
        return ""
    figures = [
        f"<figure><figcaption><b>{html.escape(image.name)}</b> "
        f"<span>{html.escape(image.note)}</span></figcaption>"
        f'<div class="pan" tabindex="0" role="group" aria-label="picture of {html.escape(image.name)}">'
        f'<img loading="lazy" alt="image, truth and prediction of {html.escape(image.name)}"'
        f' src="data:image/jpeg;base64,{base64.b64encode(image.jpeg).decode()}"></div></figure>'
        for image in images
    ]
    return _section("images", "Worst images", f'<div class="worst">{"".join(figures)}</div>')


def contract_html(contract: Mapping[str, Any]) -> str:
    """Return the definitions as a list of terms."""
    return "".join(
        f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in contract.items()
    )


def _section(name: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{body}</section>'


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(text)}</button></th>' for text in heads
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _head(text: str) -> str:
    return f'<th scope="row" data-key="{html.escape(text)}">{html.escape(text)}</th>'


def _cell(shown: str, key: float | str) -> str:
    """Return a cell of HTML that sorts by its key; an empty key is the last."""
    return f'<td data-key="{html.escape(str(key))}">{shown}</td>'
