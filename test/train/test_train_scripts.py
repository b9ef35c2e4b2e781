import os
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def python(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose Python writes its arguments down, a line a call, and fails for `--fail`."""
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/bash\nprintf "%s|" "$@" >> {tmp_path}/calls\necho >> {tmp_path}/calls\n'
        '[[ " $* " != *" --fail "* ]]\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PYTHON": str(program)}


def run(name: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run([SCRIPTS / name, *arguments], env=env, capture_output=True, text=True, check=False)


def test_one_training(tmp_path: Path, python: dict[str, str]) -> None:
    done = run("train.sh", "my data.json", "--max_epochs", "3", env=python)
    assert done.returncode == 0, done.stderr
    expected = "-m|keypoint_detection|train|--json_dataset_path|my data.json|--max_epochs|3|\n"
    assert (tmp_path / "calls").read_text() == expected
    assert run("train.sh", env=python).returncode == 2


def test_trainings_one_after_the_other(tmp_path: Path, python: dict[str, str]) -> None:
    runs = tmp_path / "runs.txt"
    runs.write_text(
        "# two of three succeed\n--run_name a --keypoint_channel_configuration 'x; y'\n\n"
        "--run_name b --fail # bad\n"
        '--run_name "c $(touch hacked)"'
    )
    done = run("back_to_back.sh", str(runs), "--seed", "1", env=python)
    assert done.returncode == 1
    assert "failed: --run_name b --fail" in done.stderr
    calls = [line.split("|")[3:-1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == [
        ["--seed", "1", "--run_name", "a", "--keypoint_channel_configuration", "x; y"],
        ["--seed", "1", "--run_name", "b", "--fail"],
        ["--seed", "1", "--run_name", "c $(touch hacked)"],
    ]
    assert run("back_to_back.sh", str(tmp_path / "none.txt"), env=python).returncode == 2
