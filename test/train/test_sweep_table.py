import csv
from pathlib import Path

import pytest

from keypoint_detection.train.sweep_plan import SweepPlan
from keypoint_detection.train.sweep_space import Parameter
from keypoint_detection.train.sweep_study import SweepStudy
from keypoint_detection.train.sweep_table import best_command, best_first, rows, sweep_text, write_csv

PARAMETERS = (
    Parameter("max_epochs", "constant", (3,)),
    Parameter("alpha", "categorical", ([2, 4], [8])),
    Parameter("flip", "categorical", (True, False)),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> SweepStudy:
    """Return four trials: scores 0.2 and 0.6, one that failed, one without a score yet."""
    flags = ("--json_dataset_path", "my data.json")
    plan = SweepPlan("grid", "map", "maximize", None, PARAMETERS, None, flags)
    study = SweepStudy(tmp_path_factory.mktemp("sweep"), plan)
    for score in (0.2, 0.6):
        study.finish(study.ask().number, score)
    study.fail(study.ask().number, "out of memory, or so")
    study.ask()
    return study


def test_the_best_trial_comes_first(study: SweepStudy) -> None:
    assert [trial.number for trial in best_first(study)] == [1, 0, 2, 3]
    heading, best, *_ = rows(study)
    assert heading == ["trial", "state", "map", "alpha", "flip", "validations", "seconds"]
    assert best[:5] == ["2", "finished", "0.6", "[2, 4]", "False"]


def test_the_best_command_line_can_be_pasted(study: SweepStudy) -> None:
    expected = (
        "keypoint-detection train --json_dataset_path 'my data.json'"
        " --max_epochs=3 '--alpha=[2, 4]' --flip=False"
    )
    assert best_command(study) == expected
    text = sweep_text(study)
    assert text.endswith(f"4 trials: 2 finished, 1 failed, 1 running\nbest:\n{expected}")


def test_the_file_holds_every_trial_in_order(study: SweepStudy, tmp_path: Path) -> None:
    write_csv(study, tmp_path / "sweep.csv")
    with (tmp_path / "sweep.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["trial"] for row in found] == ["1", "2", "3", "4"]
    assert [row["map"] for row in found] == ["0.2", "0.6", "", ""]
    assert [row["alpha"] for row in found] == ["[2, 4]", "[2, 4]", "[8]", "[8]"]
    assert found[2]["reason"] == "out of memory, or so"
