from pathlib import Path

import pytest

from keypoint_detection.train.sweep_plan import Pruning, SweepPlan
from keypoint_detection.train.sweep_space import Parameter
from keypoint_detection.train.sweep_study import SweepStudy, report_score

RATE = Parameter("learning_rate", "log", low=1e-4, high=1e-1)
SIZES = Parameter("batch_size", "categorical", (4, [8, 16], None))


def plan(method: str = "random", *parameters: Parameter, **changes: object) -> SweepPlan:
    values = {"metric": "map", "goal": "maximize", "target": None, "pruning": None, **changes}
    return SweepPlan(method=method, parameters=parameters or (RATE, SIZES), **values)  # pyright: ignore


def run(folder: Path, chosen: SweepPlan, *counts: int, seed: int = 0) -> list[dict]:
    """Run trials that score their learning rate; the study is opened anew for each of the counts."""
    folder.mkdir(exist_ok=True)
    study = None
    for count in counts:
        study = SweepStudy(folder, chosen, seed)
        for _ in range(count):
            trial = study.ask()
            study.finish(trial.number, trial.values.get("learning_rate", 0.0))
    assert study is not None
    return [trial.values for trial in study.trials()]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_study_that_is_opened_again_draws_on_and_not_the_same_again(method: str, tmp_path: Path) -> None:
    chosen = plan(method)
    values = run(tmp_path / "a", chosen, 2, 2)
    assert len({value["learning_rate"] for value in values}) == 4
    assert all(1e-4 <= value["learning_rate"] <= 1e-1 for value in values)
    assert all(value["batch_size"] in (4, [8, 16], None) for value in values)
    assert run(tmp_path / "b", chosen, 4) == values
    assert run(tmp_path / "other", chosen, 1, seed=1) != values[:1]


def test_a_grid_goes_through_every_combination_once_in_order(tmp_path: Path) -> None:
    flip = Parameter("flip", "categorical", (True, False))
    steps = Parameter("sigma", "step", low=1.0, high=2.0, quantum=0.5)
    chosen = plan("grid", flip, steps)
    assert SweepStudy(tmp_path, chosen).most_trials == 6
    expected = [{"flip": f, "sigma": s} for f in (True, False) for s in (1.0, 1.5, 2.0)]
    assert run(tmp_path, chosen, 6) == expected


@pytest.mark.parametrize(("goal", "best"), [("maximize", 1), ("minimize", 2)])
def test_the_best_trial_has_a_score_and_failed_ones_say_why(goal: str, best: int, tmp_path: Path) -> None:
    study = SweepStudy(tmp_path, plan(goal=goal))
    for score in (0.5, 0.7, 0.2, 0.7):
        study.finish(study.ask().number, score)
    study.fail(study.ask().number, "out of memory")
    study.ask()
    trials = study.trials()
    assert [trial.state for trial in trials] == ["finished"] * 4 + ["failed", "running"]
    assert trials[4].reason == "out of memory"
    assert trials[4].score is None
    assert trials[0].seconds is not None
    found = study.best()
    assert found is not None
    assert found.number == best


def test_trials_below_the_best_half_are_pruned(tmp_path: Path) -> None:
    pruning = Pruning("hyperband", first=1, factor=2)
    study = SweepStudy(tmp_path, plan(pruning=pruning))
    answers = []
    for score in (0.6, 0.1, 0.9, 0.2):
        trial = study.ask()
        answers.append(report_score(tmp_path, trial.study_id, pruning, 1, score))
        study.finish(trial.number, score)
    assert answers == [False, True, False, True]
    assert [trial.state for trial in study.trials()] == ["finished", "pruned", "finished", "pruned"]
    assert study.trials()[1].course == {1: 0.1}
    best = study.best()
    assert best is not None
    assert best.score == 0.9


def test_without_pruning_nothing_is_stopped_and_a_validation_counts_once(tmp_path: Path) -> None:
    study = SweepStudy(tmp_path, plan())
    trial = study.ask()
    assert not any(report_score(tmp_path, trial.study_id, None, 1, score) for score in (0.5, 0.4))
    assert study.trials()[0].course == {1: 0.5}


def test_another_sweep_in_the_same_folder_is_refused_with_what_differs(tmp_path: Path) -> None:
    SweepStudy(tmp_path, plan())
    SweepStudy(tmp_path, plan(run_cap=3))
    for other, message in [
        (plan("bayes"), 'method "random", asked for now is "bayes"'),
        (
            plan("random", Parameter("learning_rate", "log", low=1e-5, high=1e-1), SIZES),
            r"learning_rate\.low",
        ),
        (plan(flags=("--seed", "1")), "with flags"),
    ]:
        with pytest.raises(ValueError, match=message):
            SweepStudy(tmp_path, other)
