"""The page of a sweep: the best command line, a picture per parameter, and a table of all trials."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.files import atomic_write
from keypoint_detection.html_page import fill_page
from keypoint_detection.train.sweep_space import Parameter
from keypoint_detection.train.sweep_study import SweepStudy, TrialRecord
from keypoint_detection.train.sweep_table import best_command, rows, score_of, value_text, varied

WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 340, 220, 58, 34, 12
"""Size of a picture and its margins, in units of the SVG."""


@dataclass(frozen=True)
class Axis:
    """Hold where values lie along one side of a picture.

    Attributes:
        places: Place of each trial, from 0 to 1.
        ticks: Place and text of each mark.
    """

    places: list[float]
    ticks: list[tuple[float, str]]


def write_page(study: SweepStudy, path: Path) -> None:
    """Write the page of a sweep as one file that needs no other."""
    plan, best = study.plan, study.best()
    title = f"Sweep: {plan.metric}"
    command = best_command(study)
    page = fill_page(
        "sweep_page.html",
        styles=["page_base.css", "sweep_page.css"],
        scripts=["sweep_page.js"],
        image_sources="data:",
        content={"title": title},
        blocks={
            "SUMMARY": html.escape(_summary(study, best)),
            "COMMAND": html.escape(command or "no trial has finished yet"),
            "PLOTS": "\n".join(_plots(study, best)),
            "TABLE": _table(study, best),
        },
    )
    with atomic_write(path) as temporary:
        temporary.write_bytes(page)


def _summary(study: SweepStudy, best: TrialRecord | None) -> str:
    states = [trial.state for trial in study.trials()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    text = (
        f"{len(states)} trials ({counts}), method {study.plan.method}, {study.plan.goal} {study.plan.metric}"
    )
    return text if best is None else f"{text}; best: trial {best.number + 1} with {value_text(best.score)}"


def _plots(study: SweepStudy, best: TrialRecord | None) -> list[str]:
    """Return a picture of the score by trial, and one by each parameter that is varied."""
    trials = [trial for trial in study.trials() if score_of(trial) is not None]
    if not trials:
        return []
    names = varied(study.plan)
    scores = number_axis([score_of(trial) or 0.0 for trial in trials])
    axes = {"trial": number_axis([float(trial.number + 1) for trial in trials])}
    for parameter in study.plan.parameters:
        if parameter.name in names:
            axes[parameter.name] = parameter_axis(parameter, trials)
    return [_scatter(name, axis, scores, trials, best) for name, axis in axes.items()]


def parameter_axis(parameter: Parameter, trials: Sequence[TrialRecord]) -> Axis:
    """Return the places of a parameter's values: choices evenly spread, a range to its scale."""
    values = [trial.values[parameter.name] for trial in trials]
    if not parameter.choices:
        return number_axis(values, logarithmic=parameter.kind == "log")
    last = max(1, len(parameter.choices) - 1)
    order = [str(choice) for choice in parameter.choices]
    places = [order.index(str(value)) / last for value in values]
    return Axis(places, [(place / last, text[:12]) for place, text in enumerate(order)])


def number_axis(values: Sequence[float], logarithmic: bool = False) -> Axis:
    """Return the places of numbers between the least and the largest, and marks at both and between."""
    scaled = [math.log(value) if logarithmic else float(value) for value in values]
    low, high = min(scaled), max(scaled)
    if low == high:
        return Axis([0.5] * len(scaled), [(0.5, value_text(float(values[0])))])
    middle = (low + high) / 2
    ticks = [(0.0, low), (0.5, middle), (1.0, high)]
    named = [(place, value_text(math.exp(end) if logarithmic else end)) for place, end in ticks]
    return Axis([(value - low) / (high - low) for value in scaled], named)


def _scatter(
    name: str, across: Axis, up: Axis, trials: Sequence[TrialRecord], best: TrialRecord | None
) -> str:
    parts = [
        f'<figure><figcaption>{html.escape(name)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="score by {html.escape(name)}">',
        f'<path class="axes" d="M{LEFT} {EDGE}V{HEIGHT - BOTTOM}H{WIDTH - EDGE}"/>',
    ]
    for place, text in across.ticks:
        x, y = _x(place), HEIGHT - BOTTOM + 18
        parts.append(f'<text class="across" x="{x:.1f}" y="{y}">{html.escape(text)}</text>')
    for place, text in up.ticks:
        parts.append(f'<text class="up" x="{LEFT - 6}" y="{_y(place) + 4:.1f}">{html.escape(text)}</text>')
    for trial, x, y in zip(trials, across.places, up.places, strict=True):
        mark = "best" if best is not None and trial.number == best.number else trial.state
        said = html.escape(f"trial {trial.number + 1}: {value_text(score_of(trial))}")
        parts.append(
            f'<circle class="{mark}" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="5"><title>{said}</title></circle>'
        )
    return "".join([*parts, "</svg></figure>"])


def _x(place: float) -> float:
    return LEFT + 10 + place * (WIDTH - LEFT - EDGE - 20)


def _y(place: float) -> float:
    return HEIGHT - BOTTOM - 8 - place * (HEIGHT - BOTTOM - EDGE - 16)


def _table(study: SweepStudy, best: TrialRecord | None) -> str:
    heading, *body = rows(study)
    cells = "".join(f'<th scope="col"><button type="button">{html.escape(t)}</button></th>' for t in heading)
    lines = [f"<table><thead><tr>{cells}</tr></thead><tbody>"]
    reasons = {str(trial.number + 1): trial.reason for trial in study.trials()}
    for row in body:
        mark = ' class="best"' if best is not None and row[0] == str(best.number + 1) else ""
        title = html.escape(reasons[row[0]], quote=True)
        columns = "".join(f"<td>{html.escape(text)}</td>" for text in row)
        lines.append(f'<tr{mark} title="{title}">{columns}</tr>')
    return "\n".join([*lines, "</tbody></table>"])
