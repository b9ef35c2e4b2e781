"""The memory of a sweep: a study of Optuna in one SQLite file. No other file imports Optuna."""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keypoint_detection.metric_contract import differences
from keypoint_detection.train.sweep_plan import Pruning, SweepPlan
from keypoint_detection.train.sweep_space import Parameter

STUDY_FILE, STUDY_NAME = "study.db", "sweep"
SETTINGS, REASON, PRUNED = "settings", "reason", "pruned"
"""Names of what the study keeps beside the values."""

LOCK_SECONDS = 120
"""How long one process waits for another one that writes to the file."""

State = Literal["running", "finished", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """Hold one trial.

    Attributes:
        number: From 0.
        study_id: What the study calls it; for its own process.
        state: How far it is.
        values: The values of the flags, by name.
        score: Its metric at the end; None where there is none.
        course: The metric of each validation, by its number from 1.
        reason: Why it failed.
        seconds: From its start to its end; None while it runs.
    """

    number: int
    study_id: int
    state: State
    values: dict[str, Any]
    score: float | None = None
    course: dict[int, float] = field(default_factory=dict)
    reason: str = ""
    seconds: float | None = None


def optuna() -> Any:
    """Import Optuna, quiet; its absence names the extra to install."""
    try:
        import optuna as library
    except ImportError:
        raise ValueError(
            "a sweep without wandb needs Optuna: pip install 'keypoint-detection[sweep]'"
        ) from None
    library.logging.set_verbosity(library.logging.WARNING)
    return library


class SweepStudy:
    """Choose the values of trials and remember how they went; what is written survives a kill.

    Args:
        folder: Of the sweep; `study.db` is made or continued.
        plan: What is varied and how.
        seed: The values of trial n depend on it, on n and on the trials before.

    Raises:
        ValueError: The folder holds the study of another sweep; one line.
    """

    def __init__(self, folder: Path, plan: SweepPlan, seed: int = 0) -> None:
        self.plan, self.seed = plan, seed
        self._study = _open(folder, plan.pruning, "maximize" if plan.goal == "maximize" else "minimize")
        settings = json.loads(json.dumps({**plan.settings(), "seed": seed}))
        earlier = self._study.user_attrs.get(SETTINGS)
        if earlier is None:
            self._study.set_user_attr(SETTINGS, settings)
        elif found := differences(earlier, settings):
            name, then, now = found[0]
            raise ValueError(
                f"{folder} holds a sweep with {name} {json.dumps(then)}, asked for now is {json.dumps(now)};"
                " give another --output, or the same file and flags to go on"
            )
        self._combinations = (
            list(itertools.product(*(p.grid() for p in plan.parameters))) if self._is_grid else []
        )

    @property
    def _is_grid(self) -> bool:
        return self.plan.method == "grid"

    @property
    def most_trials(self) -> int | None:
        """Return how many trials there can be; None where there is no end."""
        return len(self._combinations) if self._is_grid else None

    def trials(self) -> list[TrialRecord]:
        """Return every trial that has begun, by its number."""
        return [self._record(trial) for trial in self._study.get_trials() if trial.state.name != "WAITING"]

    def ask(self) -> TrialRecord:
        """Begin a trial with new values."""
        number = len(self.trials())
        self._study.sampler = _sampler(self.plan.method, self.seed, number)
        if self._is_grid and not any(trial.state.name == "WAITING" for trial in self._study.get_trials()):
            names = [parameter.name for parameter in self.plan.parameters]
            self._study.enqueue_trial(dict(zip(names, self._combinations[number], strict=True)))
        trial = self._study.ask({one.name: _distribution(one) for one in self.plan.parameters})
        return self.trials()[trial.number]

    def finish(self, number: int, score: float) -> None:
        """Keep the score of a trial, as pruned where it was stopped early."""
        library = optuna()
        trial = self._study.get_trials()[number]
        state = library.trial.TrialState.PRUNED if PRUNED in trial.user_attrs else None
        self._study.tell(number, None if state else score, state=state)

    def fail(self, number: int, reason: str) -> None:
        """Keep why a trial has no score."""
        library = optuna()
        study_id = self._study.get_trials()[number]._trial_id
        library.trial.Trial(self._study, study_id).set_user_attr(REASON, reason)
        self._study.tell(number, state=library.trial.TrialState.FAIL)

    def best(self) -> TrialRecord | None:
        """Return the finished trial with the best score, the first of equal ones."""
        best: TrialRecord | None = None
        for trial in self.trials():
            if trial.state != "finished" or trial.score is None:
                continue
            if best is None or best.score is None or self.plan.is_better(trial.score, best.score):
                best = trial
        return best

    def _record(self, trial: Any) -> TrialRecord:
        states: Mapping[str, State] = {"RUNNING": "running", "COMPLETE": "finished", "PRUNED": "pruned"}
        drawn = trial.params
        return TrialRecord(
            number=trial.number,
            study_id=trial._trial_id,
            state=states.get(trial.state.name, "failed"),
            values={
                one.name: one.value(drawn[one.name]) for one in self.plan.parameters if one.name in drawn
            },
            score=trial.value,
            course=dict(trial.intermediate_values),
            reason=trial.user_attrs.get(REASON, ""),
            seconds=_seconds(trial.datetime_start, trial.datetime_complete),
        )


def report_score(folder: Path, study_id: int, pruning: Pruning | None, step: int, score: float) -> bool:
    """Tell the study the score of a validation of a trial, and return whether to stop the trial.

    Args:
        folder: Of the sweep.
        study_id: Of the trial.
        pruning: When a trial is stopped; None: never.
        step: Number of the validation, from 1; one that is known already, in a trial that goes on, is kept.
        score: The metric.
    """
    study = _open(folder, pruning, direction=None)
    trial = optuna().trial.Trial(study, study_id)
    known = next(t for t in study.get_trials() if t._trial_id == study_id).intermediate_values
    if step not in known:
        trial.report(score, step)
    stop = pruning is not None and bool(trial.should_prune())
    if stop:
        trial.set_user_attr(PRUNED, step)
    return stop


def _open(folder: Path, pruning: Pruning | None, direction: Literal["maximize", "minimize"] | None) -> Any:
    library = optuna()
    storage = library.storages.RDBStorage(
        f"sqlite:///{(folder / STUDY_FILE).absolute()}",
        engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}},
    )
    if direction is None:
        return library.load_study(study_name=STUDY_NAME, storage=storage, pruner=_pruner(pruning))
    return library.create_study(
        study_name=STUDY_NAME,
        storage=storage,
        pruner=_pruner(pruning),
        direction=direction,
        load_if_exists=True,
    )


def _sampler(method: str, seed: int, number: int) -> Any:
    """Return what draws the values of trial `number`: a sampler that goes on must not draw the same again."""
    own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    samplers = optuna().samplers
    return samplers.TPESampler(seed=own_seed) if method == "bayes" else samplers.RandomSampler(seed=own_seed)


def _pruner(pruning: Pruning | None) -> Any:
    """Return Optuna's pruner; what wandb calls hyperband has one bracket, which is successive halving."""
    pruners = optuna().pruners
    if pruning is None:
        return pruners.NopPruner()
    if pruning.kind == "median":
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=pruning.first - 1)
    return pruners.SuccessiveHalvingPruner(min_resource=pruning.first, reduction_factor=pruning.factor)


def _distribution(parameter: Parameter) -> Any:
    distributions = optuna().distributions
    if parameter.choices:
        return distributions.CategoricalDistribution(parameter.texts)
    low, high = parameter.bounds
    if parameter.kind in ("int", "step"):
        return distributions.IntDistribution(int(low), int(high))
    return distributions.FloatDistribution(low, high, log=parameter.kind == "log")


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, math.ceil((end - start).total_seconds() * 10) / 10)
