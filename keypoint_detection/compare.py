"""Compare two evaluations of the same images: which numbers differ by more than chance."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.evaluation_report import FEW_UNITS
from keypoint_detection.files import write_json
from keypoint_detection.metric_contract import HASH, check_same
from keypoint_detection.metrics.paired_bootstrap import Difference, compare_statistics
from keypoint_detection.score_sheet import ScoreSheet, load_score_sheet

METRICS_FILE, MATCHES_FILE = "metrics.json", "matches.npz"
SCORE_AGAIN = "score the run again with keypoint-detection eval"

LOWER_IS_BETTER = ("error", "rmse", "nme", "missed")
"""Metrics with one of these in their name get better downwards, all others upwards."""

TOLERANCE = 1e-9
"""Relative; a number of `metrics.json` and the same one computed again differ by rounding only."""

HEADINGS = ("metric", "A", "B", "B - A", "interval", "p", "resolvable", "B is")


@dataclass(frozen=True)
class Evaluation:
    """Hold what a comparison needs of one evaluation.

    Attributes:
        name: The path that was asked for.
        contract: The definitions of the numbers.
        sheet: The scores of the images, in rising order of their ids.
    """

    name: str
    contract: Mapping[str, Any]
    sheet: ScoreSheet


@dataclass(frozen=True)
class Comparison:
    """Hold how the numbers of B differ from those of A.

    Attributes:
        names: What was compared: A and B.
        contract_hash: Stands for the definitions, which are the same on both sides.
        n_images: Images that both were scored on.
        n_groups: Groups of images that were resampled; None where single images were.
        n_resamples: Resamples behind the intervals.
        level: Coverage of the intervals.
        seed: Seed of the resamples.
        differences: By metric, `map`, and by channel and metric, `stem/map`.
    """

    names: tuple[str, str]
    contract_hash: str
    n_images: int
    n_groups: int | None
    n_resamples: int
    level: float
    seed: int
    differences: dict[str, Difference]


def compare_runs(
    a: str | Path, b: str | Path, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare two evaluations, resampling the images of both alike.

    Args:
        a: An `eval/` folder with `metrics.json` and `matches.npz`, the run folder around it, or its
            `metrics.json`.
        b: Likewise; its numbers minus those of `a` are the differences.
        n_resamples: Number of resamples, at least 1 / (1 - level).
        level: Coverage of the intervals, in (0, 1).
        seed: Seed of the resamples, >= 0.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A broken file, other definitions, images or groups, or too few resamples; one line.
    """
    least = math.floor(1 / (1 - level) + 1e-9)  # below, no p-value can be below 1 - level
    if n_resamples < least:
        raise ValueError(f"--n_resamples: expected at least {least} for level {level:g}, got {n_resamples}")
    one, other = read_evaluation(a), read_evaluation(b)
    _check_same_images(one, other)
    check_same(one.contract, other.contract, one.name, other.name)
    _check_same_numbers(one, other)
    found = compare_statistics(
        one.sheet.statistics,
        other.sheet.statistics,
        n_images=len(one.sheet.image_ids),
        groups=one.sheet.groups,
        n_resamples=n_resamples,
        level=level,
        seed=seed,
    )
    return Comparison(
        names=(one.name, other.name),
        contract_hash=one.contract[HASH],
        n_images=len(one.sheet.image_ids),
        n_groups=None if one.sheet.groups is None else len(set(one.sheet.groups)),
        n_resamples=n_resamples,
        level=level,
        seed=seed,
        differences=found,
    )


def read_evaluation(path: str | Path) -> Evaluation:
    """Read the files of an evaluation; see `compare_runs` for the path.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or the two do not belong together; one line.
    """
    folder = _evaluation_folder(Path(path))
    sheet = load_score_sheet(folder / MATCHES_FILE).in_order_of_ids()
    file = folder / METRICS_FILE
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        contract, values = report["contract"], {k: v["value"] for k, v in report["metrics"].items()}
        if not isinstance(contract[HASH], str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: expected metrics and the contract that defines them, got neither; {SCORE_AGAIN}"
        ) from None
    _check_belongs(folder, values, sheet.values())
    return Evaluation(str(path), contract, sheet)


def _evaluation_folder(path: Path) -> Path:
    if path.name == METRICS_FILE and path.is_file():
        return path.parent
    for folder in (path, path / "eval"):
        if (folder / METRICS_FILE).is_file():
            return folder
    raise FileNotFoundError(
        f"{path}: expected a folder with {METRICS_FILE} and {MATCHES_FILE}, or a run folder with eval/ in it,"
        f" found no {METRICS_FILE}; make it with keypoint-detection eval"
    )


def _check_belongs(folder: Path, written: Mapping[str, Any], computed: Mapping[str, float]) -> None:
    """Refuse a `metrics.json` whose numbers are not those of the `matches.npz` beside it."""
    for name, value in written.items():
        again = computed.get(name, math.nan)
        number = math.nan if value is None else value
        if math.isnan(number) and math.isnan(again):
            continue
        if not math.isclose(number, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise ValueError(
                f"{folder}: {METRICS_FILE} and {MATCHES_FILE} are of two evaluations: {name} is {number:g} in"
                f" one and {again:g} in the other; {SCORE_AGAIN}"
            )


def _check_same_images(a: Evaluation, b: Evaluation) -> None:
    ids_a, ids_b = set(a.sheet.image_ids.tolist()), set(b.sheet.image_ids.tolist())
    if ids_a != ids_b:
        raise ValueError(
            f"{len(ids_a - ids_b)} images are only in {a.name} and {len(ids_b - ids_a)} only in {b.name};"
            " compare needs two runs that are scored on the same images"
        )


def _check_same_numbers(a: Evaluation, b: Evaluation) -> None:
    if a.sheet.groups != b.sheet.groups:
        raise ValueError(
            f"{a.name} {_grouping(a.sheet)} and {b.name} {_grouping(b.sheet)}; score both with the same"
            " --group_by of keypoint-detection eval"
        )
    apart = sorted(set(a.sheet.columns) ^ set(b.sheet.columns))
    if apart:
        owner = a.name if apart[0] in a.sheet.columns else b.name
        raise ValueError(
            f"{len(apart)} metrics are in one run only, such as {apart[0]} in {owner}; score both with the"
            " same version of keypoint-detection eval"
        )


def _grouping(sheet: ScoreSheet) -> str:
    if sheet.groups is None:
        return "has no groups of images"
    return f"has {len(set(sheet.groups))} groups such as {sheet.groups[0]!r}"


def verdict(metric: str, difference: Difference) -> str:
    """Return what an interval says of B against A.

    Args:
        metric: Name of the number; its end, after a channel's name, says which direction is better.
        difference: B minus A.

    Returns:
        "better" or "worse" where the interval leaves out 0, "undefined" where there is no difference,
        else "no difference shown".
    """
    if math.isnan(difference.difference):
        return "undefined"
    lower_is_better = any(word in metric.rsplit("/", 1)[-1] for word in LOWER_IS_BETTER)
    if difference.low > 0:
        return "worse" if lower_is_better else "better"
    if difference.high < 0:
        return "better" if lower_is_better else "worse"
    return "no difference shown"


def comparison_table(comparison: Comparison, per_channel: bool = False) -> str:
    """Return a comparison as aligned text with the meaning of its columns, without a newline at the end.

    Args:
        comparison: Of `compare_runs`.
        per_channel: Show the rows of single channels too.
    """
    rows = [list(HEADINGS)]
    rows += [
        _cells(metric, difference)
        for metric, difference in comparison.differences.items()
        if per_channel or "/" not in metric
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    a, b = comparison.names
    return "\n".join(
        [f"A: {a}", f"B: {b}", "", *(_line(row, widths) for row in rows), "", *_notes(comparison)]
    )


def _cells(metric: str, difference: Difference) -> list[str]:
    ends = "-"
    if math.isfinite(difference.low) and math.isfinite(difference.high):
        ends = f"{_text(difference.low, '+.4g')} to {_text(difference.high, '+.4g')}"
    return [
        metric,
        _text(difference.value_a),
        _text(difference.value_b),
        _text(difference.difference, "+.4g"),
        ends,
        _text(difference.p_value, ".2g"),
        _text(difference.resolvable, ".2g"),
        verdict(metric, difference),
    ]


def _text(number: float, form: str = ".4g") -> str:
    if number == 0:
        return "0"
    return format(number, form) if math.isfinite(number) else "-"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Align the numbers to the right, the names and verdicts to the left."""
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *numbers, cells[-1]])


def _notes(comparison: Comparison) -> list[str]:
    drawn = "images" if comparison.n_groups is None else f"{comparison.n_groups} groups"
    units = comparison.n_images if comparison.n_groups is None else comparison.n_groups
    return [
        f"{comparison.n_images} images; intervals from {comparison.n_resamples} resamples of the {drawn},"
        " drawn alike for A and B.",
        *([f"So few make intervals and p too small; trust them from {FEW_UNITS} on."] * (units < FEW_UNITS)),
        f"interval: holds the true B - A in {100 * comparison.level:g} % of the cases. p: chance"
        " of so large a difference if there were none.",
        "resolvable: the smallest true difference that this many images would show in 80 % of the cases.",
        f"better, worse: the interval leaves out 0. Lower is better for {', '.join(LOWER_IS_BETTER)}; higher"
        " for all others.",
        "Intervals and p are per metric, not corrected: of many metrics some differ by chance.",
        f"metric contract {comparison.contract_hash}",
    ]


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write a comparison as JSON, with the verdict of every metric; what is undefined becomes null."""
    content = {
        "a": comparison.names[0],
        "b": comparison.names[1],
        "contract_hash": comparison.contract_hash,
        "images": comparison.n_images,
        "groups": comparison.n_groups,
        "resamples": comparison.n_resamples,
        "level": comparison.level,
        "seed": comparison.seed,
        "differences": {
            metric: {
                **{
                    name: number if math.isfinite(number) else None
                    for name, number in difference._asdict().items()
                },
                "verdict": verdict(metric, difference),
            }
            for metric, difference in comparison.differences.items()
        },
    }
    write_json(path, content)
