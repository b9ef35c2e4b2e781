"""The scores of a follower beside those of others and of the baselines, as rows and as text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keypoint_detection.gaze.evaluate_scores import IN_OUT_AP
from keypoint_detection.metric_contract import check_same

METRICS = {
    "auc": ("AUC", 3),
    "min_distance": ("min distance", 3),
    "avg_distance": ("avg distance", 3),
    "min_angle_deg": ("min angle", 1),
    "avg_angle_deg": ("avg angle", 1),
    IN_OUT_AP: ("in/out AP", 3),
    "sample_spread": ("spread", 3),
}
"""What tables call each number, and how many digits they show behind the point."""

NONE = "-"

Numbers = Mapping[str, Mapping[str, Any]]


class ScoreRow(NamedTuple):
    """Hold a name and the numbers of it, as `metrics.json` has them by name."""

    name: str
    numbers: Numbers


def score_rows(
    metrics: Mapping[str, Any],
    baselines: Mapping[str, Numbers] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[ScoreRow]:
    """Return the rows of a table: the follower, the others, centre bias and chance.

    Args:
        metrics: Content of `metrics.json`.
        baselines: Numbers by name; None takes those of `metrics`.
        others: Contents of `metrics.json` of other followers by name, on the same people.

    Raises:
        ValueError: The others were scored on other people, or by other definitions.
    """
    others = others or {}
    for name, other in others.items():
        check_same(metrics["contract"], other["contract"], name_of(metrics), name)
    given = metrics["baselines"] if baselines is None else baselines
    return [
        ScoreRow(name_of(metrics), metrics["metrics"]),
        *(ScoreRow(name, other["metrics"]) for name, other in others.items()),
        *(ScoreRow(name, numbers) for name, numbers in given.items()),
    ]


def name_of(metrics: Mapping[str, Any]) -> str:
    """Return what to call the follower of a `metrics.json`: its decoder."""
    return str(metrics.get("about", {}).get("decoder", "model"))


def scores_text(
    metrics: Mapping[str, Any],
    baselines: Mapping[str, Numbers] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return the table of scores, with the intervals of the follower and why a number is missing.

    Args:
        metrics: As for `score_rows`.
        baselines: Likewise.
        others: Likewise.

    Raises:
        ValueError: As `score_rows`.
    """
    rows = score_rows(metrics, baselines, others)
    level = f"{100 * metrics['intervals']['level']:g} % interval"
    lines = [["", *(title for title, _ in METRICS.values())]]
    lines += [[row.name, *(value_text(row.numbers, name) for name in METRICS)] for row in rows]
    lines.insert(2, [f"  {level}", *(ends_text(rows[0].numbers, name) for name in METRICS)])
    return "\n".join([*_aligned(lines), *reasons_of(rows[0].numbers), people_text(metrics)])


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    ]


def value_text(numbers: Numbers, name: str) -> str:
    """Return a number, a dash where there is none."""
    value = numbers.get(name, {}).get("value")
    return NONE if value is None else f"{value:.{METRICS[name][1]}f}"


def ends_text(numbers: Numbers, name: str) -> str:
    """Return the ends of an interval, nothing where there is none."""
    ends = numbers.get(name, {}).get("interval")
    return "" if ends is None else "-".join(f"{end:.{METRICS[name][1]}f}" for end in ends)


def reasons_of(numbers: Numbers) -> list[str]:
    """Return why numbers are missing, each reason once: `in/out AP: needs ...`."""
    missing: dict[str, list[str]] = {}
    for name, (title, _) in METRICS.items():
        reason = numbers.get(name, {}).get("reason")
        if reason is not None:
            missing.setdefault(reason, []).append(title)
    return [f"{', '.join(titles)}: {reason}" for reason, titles in missing.items()]


def people_text(metrics: Mapping[str, Any]) -> str:
    """Return who was judged, and how many maps were drawn of each."""
    contract, samples = metrics["contract"], metrics["samples"]
    kinds = ", ".join(f"{contract[f'n_{kind}']} {kind}" for kind in ("inside", "outside", "unknown"))
    maps = f"{samples} map{'s' * (samples != 1)} of each"
    people = "1 person" if contract["n_people"] == 1 else f"{contract['n_people']} people"
    images = "1 image" if contract["n_images"] == 1 else f"{contract['n_images']} images"
    return f"{people} in {images} ({kinds}); {maps}"
