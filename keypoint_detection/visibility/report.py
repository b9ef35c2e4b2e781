"""The page of an evaluation of visibility: scores by view, figures, distances and the worst images."""

import html
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from keypoint_detection.files import atomic_write
from keypoint_detection.html_page import fill_page
from keypoint_detection.metrics.binary_classification import binary_loss, calibration_bins
from keypoint_detection.visibility.distance import DistanceEstimate, spatial_blocks, visibility_distance
from keypoint_detection.visibility.evaluate_files import METRICS_FILE, PointEvaluation, read_evaluation
from keypoint_detection.visibility.figures import Theme, draw_confusions, draw_fold_strips
from keypoint_detection.visibility.figures_points import (
    draw_calibration,
    draw_distance_histogram,
    draw_distances,
)
from keypoint_detection.visibility.report_html import (
    METRICS,
    ImageRow,
    chart_html,
    contract_html,
    distances_html,
    figures_html,
    images_html,
    intervals_text,
    numbers_html,
    views_html,
)
from keypoint_detection.visibility.report_images import worst_pictures

PAGE_FILE = "report.html"

_STRIPS = ("balanced_accuracy", "auroc", "loss")
_MOST_CONFUSIONS = 8


def write_report(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    images: str | Path | None = None,
    true_m: Mapping[str, float] | None = None,
    title: str = "Visibility",
    most_images: int = 8,
    rows: Sequence[ImageRow] | None = None,
) -> Path:
    """Write the page of an evaluation; everything that it shows is inside the file.

    Args:
        folder: As `write_evaluation` wrote it.
        output: The page; `report.html` in the folder if None.
        images: Folder to which the names of the images are relative; without it the page has no pictures of
            them.
        true_m: Visibility distance in metres by name of image, where it is known.
        title: Of the page.
        most_images: Most images to show.
        rows: Of `image_rows`, with the truth, where they are known already: distances take time to estimate.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: A file of the evaluation, or an image to show, is missing.
        ValueError: A file of the evaluation or an image to show is broken, or `output` is a folder.
    """
    output = Path(folder) / PAGE_FILE if output is None else Path(output)
    if output.is_dir():
        raise ValueError(f"expected the path of a page to write, got the folder {output}; add a file name")
    evaluation = read_evaluation(folder)
    metrics = json.loads((Path(folder) / METRICS_FILE).read_text(encoding="utf-8"))
    rows = image_rows(evaluation, true_m or {}) if rows is None else rows
    pictures = worst_pictures(evaluation, rows, Path(images), most_images) if images is not None else []
    page = fill_page(
        "visibility_page.html",
        styles=["page_base.css", "visibility_page.css"],
        scripts=["visibility_page.js"],
        image_sources="data:",
        content={"title": title},
        blocks={
            "SUMMARY": html.escape(_summary(evaluation)),
            "NUMBERS": numbers_html(metrics["metrics"]),
            "INTERVALS": html.escape(intervals_text(metrics["intervals"])),
            "VIEWS": views_html(metrics["views"]),
            "FIGURES": figures_html(_charts(evaluation, metrics, rows)),
            "DISTANCES": distances_html(rows),
            "IMAGES": images_html(pictures),
            "CONTRACT": contract_html(metrics["contract"]),
        },
    )
    with atomic_write(output) as temporary:
        temporary.write_bytes(page)
    return output


def image_rows(evaluation: PointEvaluation, true_m: Mapping[str, float]) -> list[ImageRow]:
    """Return loss, accuracy and visibility distance of each image that has points, in the table's order."""
    table, logits = evaluation.table, evaluation.logits
    loss = binary_loss(logits, table.label)
    is_right = (logits > 0) == (table.label == 1)
    rows = []
    for image in np.unique(table.image).tolist():
        chosen = table.image == image
        name = table.image_names[image]
        distance = _distance(evaluation, image, chosen)
        rows.append(
            ImageRow(
                image,
                name,
                table.views[image],
                int(chosen.sum()),
                float(loss[chosen].mean()),
                float(is_right[chosen].mean()),
                distance,
                float(true_m.get(name, np.nan)),
            )
        )
    return rows


def _distance(evaluation: PointEvaluation, image: int, chosen: NDArray[np.bool_]) -> DistanceEstimate | None:
    """Return how far one can see in an image; None where no point has a distance."""
    table = evaluation.table
    depth = table.depth_m[chosen]
    if not np.isfinite(depth).any():
        return None
    height, width = table.image_hw[image].tolist()
    blocks = spatial_blocks(table.xy[chosen], (height, width))
    return visibility_distance(expit(evaluation.logits[chosen]), depth, blocks=blocks)


def _summary(evaluation: PointEvaluation) -> str:
    table = evaluation.table
    n_images, n_views = len(np.unique(table.image)), len(set(table.point_views.tolist()))
    share = 100 * float((table.label == 1).mean())
    return (
        f"{evaluation.name}: {len(table):,} points of {n_images} image{'s' * (n_images != 1)} from "
        f"{n_views} view{'s' * (n_views != 1)}; {share:.1f} % of the points are visible"
    )


def _charts(evaluation: PointEvaluation, metrics: Mapping[str, Any], rows: Sequence[ImageRow]) -> list[str]:
    """Return the figures that the points allow, as HTML."""
    table, p = evaluation.table, expit(evaluation.logits)
    counts = {"all points": np.array(metrics["confusion"]["counts"])}
    if 1 < len(metrics["views"]) < _MOST_CONFUSIONS:
        counts |= {view: np.array(part["confusion"]["counts"]) for view, part in metrics["views"].items()}
    bins = calibration_bins(evaluation.logits, table.label)
    known = [row for row in rows if row.distance is not None and np.isfinite(row.true_m)]
    charts = [
        ("Scores by view", "a line is the interval of a view, the bar their mean", _strips(metrics)),
        (
            "Confusion",
            "percentages of the true class",
            lambda path, theme: draw_confusions(counts, path, theme=theme),
        ),
        ("Calibration", "with 95 % intervals", lambda path, theme: draw_calibration(bins, path, theme=theme)),
    ]
    if np.isfinite(table.depth_m).any():
        charts.append(
            (
                "Distance and P(visible)",
                "points in each cell",
                lambda path, theme: draw_distance_histogram(
                    table.depth_m, p, path, label=table.label, theme=theme
                ),
            )
        )
    if known:
        charts.append(
            ("Visibility distance", "estimated against true, with 95 % intervals", _distances(known))
        )
    wide = {"Scores by view", *(["Confusion"] if len(counts) > 1 else [])}  # one matrix fits a phone
    return [chart_html(name, note, _drawn(draw), is_wide=name in wide) for name, note, draw in charts]


Draw = Callable[[Path, Theme], None]


def _strips(metrics: Mapping[str, Any]) -> Draw:
    panels = {}
    for name in _STRIPS:
        scores = {}
        for view, part in metrics["views"].items():
            value, ends = part["metrics"][name]["value"], part["metrics"][name]["interval"]
            if value is not None:
                scores[view] = (value, *(ends or (np.nan, np.nan)))
        direction = " (lower is better)" if name == "loss" else ""
        panels[METRICS[name][0] + direction] = {"": scores}
    return lambda path, theme: draw_fold_strips(panels, path, theme=theme)


def _distances(rows: list[ImageRow]) -> Draw:
    estimates = [row.distance for row in rows if row.distance is not None]
    truth, views = [row.true_m for row in rows], [row.view for row in rows]
    return lambda path, theme: draw_distances(truth, estimates, path, views=views, theme=theme)


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
