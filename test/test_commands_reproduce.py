from pathlib import Path
from typing import Any

import pytest

from keypoint_detection.commands_reproduce import run_reproduce
from keypoint_detection.train import reproduce
from keypoint_detection.train.reproduce import Reproduction, Row


@pytest.mark.parametrize(("new", "code"), [(0.5, 0), (0.7, 1)])
def test_the_exit_code_says_whether_a_run_came_out_again(
    new: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked: list[Any] = []

    def plan(run: Path, output: Path, replaced: dict, *, force: bool) -> Any:
        asked.extend([run, output, replaced, force])
        return reproduce.ReproductionPlan(run, None, ("torch: 1 then, 2 now",))  # pyright: ignore

    rows = (Row("map", 0.5, (0.4, 0.6), new),)
    monkeypatch.setattr(reproduce, "plan_reproduction", plan)
    monkeypatch.setattr(reproduce, "reproduce", lambda *a, **k: Reproduction(tmp_path, False, rows, ()))
    (tmp_path / "old-reproduced").mkdir()
    assert run_reproduce([str(tmp_path / "old"), "--num_workers", "0", "--force"]) == code
    assert asked == [tmp_path / "old", tmp_path / "old-reproduced-1", {"num_workers": "0"}, True]
    said = capsys.readouterr().out
    assert said.startswith("note: torch: 1 then, 2 now\n")
    assert ("not reproduced" in said) is bool(code)
