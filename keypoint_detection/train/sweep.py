"""A sweep without an account: trainings with other flags each, some at a time, that survive a kill."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keypoint_detection.train.sweep_page import write_page
from keypoint_detection.train.sweep_plan import SweepPlan
from keypoint_detection.train.sweep_study import SweepStudy, TrialRecord
from keypoint_detection.train.sweep_table import trial_line, write_csv
from keypoint_detection.train.sweep_trial import (
    TrialProcess,
    environments,
    finished_score,
    outcome,
    start_trial,
    trial_folder,
    visible_devices,
)

LOCK_FILE, CSV_FILE, PAGE_FILE = ".sweep.lock", "sweep.csv", "sweep.html"
POLL_SECONDS = 0.1


class SweepInterrupted(RuntimeError):
    """Ctrl-C during a sweep: the message says how to go on."""


@dataclass
class _Sweep:
    """Hold a sweep under way: a training per slot, and the trials that were killed, `waiting`."""

    plan: SweepPlan
    output: Path
    study: SweepStudy
    count: int
    slots: list[TrialProcess | None]
    variables: list[dict[str, str]]
    waiting: list[TrialRecord] = field(default_factory=list)


def run_trials(
    plan: SweepPlan, output: str | Path, *, count: int | None = None, jobs: int = 1, seed: int = 0
) -> SweepStudy:
    """Run the trials of a sweep that have not run yet, and write what came out.

    Repeat the call after an interruption: finished trials are kept, and those that were running go on from
    their last checkpoint, or begin again where they have none; each counts once.

    Args:
        plan: What is varied and how.
        output: Folder with `study.db`, `sweep.csv`, `sweep.html` and `trials/`, a run folder each.
        count: Trials in total, failed and pruned ones included; None: the `run_cap` of the file, or the grid.
        jobs: Trainings at a time.
        seed: Of the search.

    Returns:
        The study with all trials.

    Raises:
        ValueError: The folder holds another sweep, or nothing says how many trials to run; one line.
        SweepInterrupted: The user stopped it.
    """
    output = Path(output)
    with _only_sweep(output):
        study = SweepStudy(output, plan, seed)
        total = _total(study, plan, count)
        devices = visible_devices() if jobs > 1 else []
        sweep = _Sweep(plan, output, study, total, [None] * jobs, environments(jobs, devices))
        sweep.waiting = [trial for trial in study.trials() if trial.state == "running"]
        try:
            while _fill_slots(sweep):
                if not _collect(sweep):
                    time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            raise SweepInterrupted("interrupted; the same command goes on where it stopped") from None
        finally:
            for slot in sweep.slots:
                if slot is not None:
                    slot.interrupt()
        write_summary(study, output)
        return study


def write_summary(study: SweepStudy, output: Path) -> None:
    """Write the table and the page of a sweep, finished or not."""
    write_csv(study, output / CSV_FILE)
    write_page(study, output / PAGE_FILE)


def _total(study: SweepStudy, plan: SweepPlan, count: int | None) -> int:
    limits = [limit for limit in (count or plan.run_cap, study.most_trials) if limit is not None]
    if not limits:
        raise ValueError("expected the number of trials: give --count, or run_cap in the file")
    return min(limits)


def _fill_slots(sweep: _Sweep) -> bool:
    """Start trials in the free slots; return whether any training runs."""
    for place, slot in enumerate(sweep.slots):
        while sweep.slots[place] is None and slot is None:
            record = _next_trial(sweep)
            if record is None:
                break
            if not _take_finished(sweep, record):
                sweep.slots[place] = start_trial(record, sweep.plan, sweep.output, sweep.variables[place])
    return any(slot is not None for slot in sweep.slots)


def _next_trial(sweep: _Sweep) -> TrialRecord | None:
    if sweep.waiting:
        return sweep.waiting.pop(0)
    if len(sweep.study.trials()) >= sweep.count or _target_is_reached(sweep):
        return None
    return sweep.study.ask()


def _target_is_reached(sweep: _Sweep) -> bool:
    best, target = sweep.study.best(), sweep.plan.target
    if best is None or best.score is None or target is None:
        return False
    return best.score == target or sweep.plan.is_better(best.score, target)


def _take_finished(sweep: _Sweep, record: TrialRecord) -> bool:
    """Keep the score of a trial whose training had ended when the sweep was killed."""
    score = finished_score(trial_folder(sweep.output, record.number), sweep.plan.metric)
    if score is None:
        return False
    sweep.study.finish(record.number, score)
    _tell_user(sweep, record.number)
    return True


def _collect(sweep: _Sweep) -> bool:
    """Keep what came out of the trainings that have ended; return whether there was one."""
    found = False
    for place, slot in enumerate(sweep.slots):
        if slot is not None and slot.is_over():
            result = outcome(slot.record, sweep.plan, sweep.output, slot.process.returncode)
            slot.lock.close()
            sweep.slots[place], found = None, True
            if isinstance(result, str):
                sweep.study.fail(slot.record.number, result)
            else:
                sweep.study.finish(slot.record.number, result)
            _tell_user(sweep, slot.record.number)
    return found


def _tell_user(sweep: _Sweep, number: int) -> None:
    print(trial_line(sweep.study.trials()[number], sweep.plan, sweep.count), flush=True)
    write_summary(sweep.study, sweep.output)


@contextmanager
def _only_sweep(output: Path) -> Iterator[None]:
    """Refuse a second sweep in the same folder at the same time."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{output}: another sweep runs in this folder; give another --output") from None
        yield
