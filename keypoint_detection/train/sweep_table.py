"""The trials of a sweep as text: a line each, a table, and a CSV file."""

import csv
import json
import math
import shlex
from pathlib import Path
from typing import Any

from keypoint_detection.files import atomic_write
from keypoint_detection.train.sweep_plan import SweepPlan
from keypoint_detection.train.sweep_study import SweepStudy, TrialRecord
from keypoint_detection.train.sweep_trial import trial_flags

REASON_CHARACTERS = 100


def value_text(value: Any) -> str:
    """Return a value for reading, numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trial_line(trial: TrialRecord, plan: SweepPlan, count: int) -> str:
    """Return one line about a trial that has ended."""
    values = " ".join(f"{name}={value_text(trial.values.get(name))}" for name in varied(plan))
    end = f"{plan.metric} {value_text(score_of(trial))}" if trial.state != "failed" else trial.reason
    return f"trial {trial.number + 1} of {count}: {trial.state}, {end[:REASON_CHARACTERS]}; {values}"


def score_of(trial: TrialRecord) -> float | None:
    """Return the score of a trial; of one that was stopped early, its last one."""
    if trial.score is None and trial.course:
        return trial.course[max(trial.course)]
    return trial.score


def best_first(study: SweepStudy) -> list[TrialRecord]:
    """Return finished trials from the best to the worst, then pruned ones likewise, then the others."""
    sign = -1.0 if study.plan.goal == "maximize" else 1.0
    groups = {"finished": 0, "pruned": 1}

    def rank(trial: TrialRecord) -> tuple[int, float, int]:
        score = score_of(trial)
        return (
            groups.get(trial.state, 2),
            math.inf if score is None else sign * score,
            trial.number,
        )

    return sorted(study.trials(), key=rank)


def varied(plan: SweepPlan) -> list[str]:
    """Return the names of the parameters that have more than one value."""
    return [one.name for one in plan.parameters if len(one.choices) != 1]


def rows(study: SweepStudy) -> list[list[str]]:
    """Return the heading and a row per trial, the best first."""
    names = varied(study.plan)
    table = [["trial", "state", study.plan.metric, *names, "validations", "seconds"]]
    for trial in best_first(study):
        score, seconds = score_of(trial), trial.seconds
        table.append(
            [
                str(trial.number + 1),
                trial.state,
                "-" if score is None else value_text(score),
                *(value_text(trial.values.get(name, "-")) for name in names),
                str(len(trial.course)),
                "-" if seconds is None else f"{seconds:.1f}",
            ]
        )
    return table


def sweep_text(study: SweepStudy) -> str:
    """Return the table for a terminal, how many trials ended how, and the best command line."""
    table = rows(study)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in table]
    states = [trial.state for trial in study.trials()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    command = best_command(study)
    return "\n".join([*lines, f"{len(states)} trials: {counts}", *(["best:", command] if command else [])])


def best_command(study: SweepStudy) -> str | None:
    """Return the command line that trains with the values of the best trial."""
    best = study.best()
    if best is None:
        return None
    return shlex.join(["keypoint-detection", "train", *trial_flags(best, study.plan)])


def write_csv(study: SweepStudy, path: Path) -> None:
    """Write a row per trial in the order of their numbers, with all digits; a list is JSON."""
    names = [parameter.name for parameter in study.plan.parameters]
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", study.plan.metric, *names, "validations", "seconds", "reason"])
        for trial in study.trials():
            values = [trial.values.get(name) for name in names]
            plain = [json.dumps(value) if isinstance(value, list | dict) else value for value in values]
            writer.writerow(
                [
                    trial.number + 1,
                    trial.state,
                    score_of(trial),
                    *plain,
                    len(trial.course),
                    trial.seconds,
                    trial.reason,
                ]
            )
