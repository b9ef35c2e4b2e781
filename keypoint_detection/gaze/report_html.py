"""Parts of the page of an evaluation of gaze as HTML; every text that comes from files is escaped."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from keypoint_detection.gaze.evaluate_table import METRICS, ScoreRow, ends_text, reasons_of, value_text
from keypoint_detection.gaze.report_people import ShownPerson


def scores_html(rows: Sequence[ScoreRow]) -> str:
    """Return the table of scores: the follower, others and baselines; a click on a heading sorts it."""
    titles = ("who", *(title for title, _ in METRICS.values()))
    heads = "".join(f'<th scope="col"><button type="button">{title}</button></th>' for title in titles)
    body = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    reasons = "".join(f'<p class="soft">{html.escape(text)}</p>' for text in reasons_of(rows[0].numbers))
    return f'<div class="scroll" tabindex="0">{table}</div>{reasons}'


def _row(row: ScoreRow) -> str:
    name = html.escape(row.name)
    cells = [f'<th scope="row" data-key="{name}">{name}</th>']
    for metric in METRICS:
        value = row.numbers.get(metric, {}).get("value")
        key = "" if value is None else value
        ends = ends_text(row.numbers, metric)
        cells.append(f'<td data-key="{key}">{value_text(row.numbers, metric)}<small>{ends}</small></td>')
    return "".join(cells)


def intervals_text(intervals: Mapping[str, Any]) -> str:
    """Return what is better, and how the intervals were made."""
    units = {"person": "people", "group": "groups, which stay together"}[intervals["unit"]]
    return (
        "AUC and in/out AP: higher is better; distances (shares of width and height) and angles (degrees):"
        f" lower is better. {100 * intervals['level']:g} % intervals from {intervals['resamples']} resamples"
        f" of {intervals['units']} {units} ({intervals['method']})."
    )


def people_html(title: str, people: Sequence[ShownPerson]) -> str:
    """Return a section of pictures of people; nothing without any."""
    if not people:
        return ""
    name = title.lower().replace(" ", "-")
    figures = "".join(
        f"<figure><figcaption><b>{html.escape(one.name)}</b> "
        f"<span>{html.escape(one.note)}</span></figcaption>"
        f'<img loading="lazy" alt="gaze of {html.escape(one.name)}"'
        f' src="data:image/jpeg;base64,{base64.b64encode(one.jpeg).decode()}"></figure>'
        for one in people
    )
    return (
        f'<section aria-labelledby="{name}-title"><h2 id="{name}-title">{html.escape(title)}</h2>'
        f'<div class="people">{figures}</div></section>'
    )
