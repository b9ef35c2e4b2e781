"""Commands that SIGKILL ends at several moments and that are called again give what an unbroken run gives."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from point_data import make_points

from keypoint_detection.visibility.load_classifier import load_classifier

pytestmark = pytest.mark.slow
NAMES = ("fold1", "fold2")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_points(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(points: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a cross-validation that nothing has stopped."""
    output = tmp_path_factory.mktemp("whole") / "folds"
    assert start(folds_of(points, output)).wait(240) == 0
    return output


def folds_of(points: Path, output: Path) -> list[str]:
    argv = ["cross-validate", "--data", str(points), "--folds", "2", "--output", str(output)]
    argv += ["--eval_group", "tiny", "--patch_px", "8", "--size_hidden", "4", "--batch_size", "32"]
    argv += ["--max_epochs", "6", "--num_workers", "0", "--accelerator", "cpu", "--dropout", "0.5"]
    return [*argv, "--n_resamples", "50"]


def start(argv: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "keypoint_detection", "visibility", *argv]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(argv: list[str], is_time: Callable[[], bool]) -> None:
    """Run a command and kill it as soon as a moment has come."""
    process, end = start(argv), time.monotonic() + 240
    while not is_time() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL  # it was not at its end


def scored(output: Path) -> dict[str, str]:
    path = output / "folds.json"
    return json.loads(path.read_text())["scored"] if path.is_file() else {}


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def numbers(output: Path) -> dict[str, object]:
    """Return all that is scored; what is left out are paths."""
    metrics = {name: json.loads((output / name / "eval" / "metrics.json").read_text()) for name in NAMES}
    found: dict[str, object] = {
        name: {key: value for key, value in content.items() if key != "about"}
        for name, content in metrics.items()
    }
    for file in ("comparison.csv", "fold1/eval/predictions.csv", "fold2/eval/predictions.csv"):
        found[file] = (output / file).read_text()
    return found


def assert_same(output: Path, whole: Path) -> None:
    assert numbers(output) == numbers(whole)
    for name in NAMES:
        ours, theirs = (
            load_classifier(folder / name / "checkpoints" / "last.ckpt").state_dict()
            for folder in (output, whole)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_cross_validation_that_is_killed_three_times_ends_as_an_unbroken_one(
    points: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "folds"
    argv = folds_of(points, output)
    kill_when(argv, (output / "fold1" / "checkpoints" / "last.ckpt").is_file)
    assert scored(output) == {}
    kill_when(argv, lambda: "fold1" in scored(output))
    assert list(scored(output)) == ["fold1"]
    first = files_of(output / "fold1")
    kill_when(argv, (output / "fold2" / "checkpoints" / "last.ckpt").is_file)
    assert list(scored(output)) == ["fold1"]
    assert start(argv).wait(240) == 0
    assert files_of(output / "fold1") == first
    assert_same(output, whole)


def test_a_cross_validation_that_is_killed_while_it_compares_ends_as_an_unbroken_one(
    points: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "folds"
    argv = folds_of(points, output)
    kill_when(argv, lambda: len(scored(output)) == 2)
    before = [files_of(output / name) for name in NAMES]
    assert start(argv).wait(240) == 0
    assert [files_of(output / name) for name in NAMES] == before
    assert_same(output, whole)


def test_a_comparison_that_is_killed_leaves_whole_files_and_is_made_again(
    whole: Path, tmp_path: Path
) -> None:
    folders = [str(whole), str(shutil.copytree(whole, tmp_path / "other"))]
    names = ["--eval_group", "a", "b", "--n_resamples", "50", "--output"]
    assert start(["compare", *folders, *names, str(tmp_path / "whole")]).wait(120) == 0
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    output, sources = tmp_path / "killed", files_of(whole)
    argv = ["compare", *folders, *names, str(output)]
    kill_when(argv, lambda: output.is_dir() and any(not one.name.startswith(".") for one in output.iterdir()))
    left = {path.name: path.read_bytes() for path in output.iterdir() if path.name in wanted}
    assert left.items() <= wanted.items()
    assert start(argv).wait(120) == 0
    assert {name: (output / name).read_bytes() for name in wanted} == wanted
    assert files_of(whole) == sources
