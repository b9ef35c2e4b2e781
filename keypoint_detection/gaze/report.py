"""The page of an evaluation of gaze: scores beside the baselines, figures, and people with what was said."""

import html
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.files import atomic_write
from keypoint_detection.gaze.evaluate import PeopleJudged
from keypoint_detection.gaze.evaluate_read import GazeEvaluation, read_evaluation
from keypoint_detection.gaze.evaluate_table import name_of, people_text, score_rows
from keypoint_detection.gaze.figures import draw_in_out, draw_spread, draw_within
from keypoint_detection.gaze.gaze_baselines import CENTRE_BIAS, CentreBias, centre_scores
from keypoint_detection.gaze.people import INSIDE, UNKNOWN
from keypoint_detection.gaze.report_html import intervals_text, people_html, scores_html
from keypoint_detection.gaze.report_people import chosen_people, show_person
from keypoint_detection.html_page import fill_page
from keypoint_detection.visibility.figures import Theme
from keypoint_detection.visibility.report_html import chart_html, contract_html, figures_html

PAGE_FILE = "report.html"

_LEGEND = (
    "White box: the head. Yellow: ray to each candidate, as wide as its weight, and a ring of the standard"
    " deviation of its maps; dashed where the person is said to look out. Heat: mean of the maps. Blue dots:"
    " annotators."
)

Draw = Callable[[Path, Theme], None]


def write_report(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    images: str | Path | None = None,
    judged: PeopleJudged | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    title: str = "Gaze",
    most_people: int = 4,
) -> Path:
    """Write the page of an evaluation; everything that it shows is inside the file.

    Args:
        folder: As `write_evaluation` wrote it.
        output: The page; `report.html` in the folder if None.
        images: Folder to which the names of the pictures are relative; without it nobody is shown.
        judged: What was said, with the maps; without it there is no heat, which the files do not hold.
        others: Contents of `metrics.json` of other followers on the same people by name, for the table.
        title: Of the page.
        most_people: Most people of each kind: the worst, the median, the best.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: A file of the evaluation, or a picture to show, is missing.
        ValueError: A file of the evaluation or a picture is broken, others are of other people, or `output`
            is a folder.
    """
    output = Path(folder) / PAGE_FILE if output is None else Path(output)
    if output.is_dir():
        raise ValueError(f"expected the path of a page to write, got the folder {output}; add a file name")
    found = read_evaluation(folder)
    content, charts = found.content, _charts(found)
    people = "" if images is None else _people(found, judged or found.judged, Path(images), most_people)
    page = fill_page(
        "gaze_page.html",
        styles=["page_base.css", "visibility_page.css", "gaze_page.css"],
        scripts=["visibility_page.js"],
        image_sources="data:",
        content={"title": title},
        blocks={
            "SUMMARY": html.escape(f"{name_of(content)}: {people_text(content)}"),
            "SCORES": scores_html(score_rows(content, others=others)),
            "INTERVALS": html.escape(intervals_text(content["intervals"])),
            "FIGURES": figures_html(charts) if charts else "",
            "LEGEND": html.escape(_LEGEND) if people else "",
            "PEOPLE": people,
            "CONTRACT": contract_html(content["contract"]),
        },
    )
    with atomic_write(output) as temporary:
        temporary.write_bytes(page)
    return output


def _people(found: GazeEvaluation, judged: PeopleJudged, images: Path, most: int) -> str:
    chosen = chosen_people(found.table, found.scores["min_distance"], judged.p_in, most)
    return "".join(
        people_html(title, [show_person(found.table, judged, found.scores, row, images) for row in rows])
        for title, rows in chosen.items()
    )


def _charts(found: GazeEvaluation) -> list[str]:
    """Return the figures that the people allow, as HTML."""
    distance, spread = found.scores["min_distance"], found.scores["sample_spread"]
    charts: list[tuple[str, str, Draw]] = []
    if not np.isnan(distance).all():
        both = {name_of(found.content): distance, CENTRE_BIAS: _centre_distance(found)}
        note = "people within each distance"
        charts.append(("Distances", note, lambda path, theme: draw_within(both, path, theme=theme)))
    if not np.isnan(spread).all():
        note = "a dot per person; on the line, the maps are as far apart as they are off"
        charts.append(("Spread", note, lambda path, theme: draw_spread(spread, distance, path, theme=theme)))
    known = found.table.in_frame != UNKNOWN
    if len(np.unique(found.table.in_frame[known])) > 1:
        p_in, is_inside = found.judged.p_in[known], found.table.in_frame[known] == INSIDE
        note = "with 95 % intervals"
        charts.append(
            ("In and out", note, lambda path, theme: draw_in_out(p_in, is_inside, path, theme=theme))
        )
    return [chart_html(name, note, _drawn(draw)) for name, note, draw in charts]


def _centre_distance(found: GazeEvaluation) -> NDArray[np.float64]:
    mean, std = (tuple(found.content["centre_bias"][name]) for name in ("mean", "std"))
    return centre_scores(found.table, CentreBias(mean, std))["min_distance"]


def _drawn(draw: Draw) -> tuple[bytes, bytes]:
    """Return a figure as PNG for a light and a dark page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        pictures = []
        themes: tuple[Theme, Theme] = ("light", "dark")
        for theme in themes:
            draw(path, theme)
            pictures.append(path.read_bytes())
    return pictures[0], pictures[1]
