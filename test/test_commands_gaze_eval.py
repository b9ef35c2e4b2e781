import json
from pathlib import Path

import pytest
from gaze_runs import draw_people, tiny_config

from keypoint_detection.__main__ import main
from keypoint_detection.gaze.train import train

FEW = ["--n_resamples", "40", "--accelerator", "cpu", "--num_workers", "0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a checkpoint of each decoder."""
    folder = tmp_path_factory.mktemp("runs")
    data = draw_people(folder / "people")
    checkpoints = {}
    for decoder in ("diffusion", "direct"):
        config = tiny_config(data, folder, decoder=decoder, run_name=decoder, max_epochs=1)
        checkpoints[decoder] = train(config, is_quiet=True).last_checkpoint
    return {**checkpoints, "data": data}


def error(argv: list[str], code: int, capsys: pytest.CaptureFixture) -> str:
    """Run the command, which must fail, and return its one line."""
    capsys.readouterr()
    assert main(["gaze", "eval", *argv]) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


def test_the_whole_path(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = str(runs["data"])
    direct = str(tmp_path / "direct")
    given = ["gaze", "eval", "--data", data, "--samples", "3", *FEW]
    assert main([*given, "--checkpoint", str(runs["direct"]), "--output", direct, "--no-report"]) == 0
    text = capsys.readouterr().out
    assert "1 map of each" in text
    assert "spread: needs several maps of each person, got one" in text
    assert "the page to look at" not in text
    assert not (tmp_path / "direct" / "report.html").exists()
    more = ["--others", direct, "--training_data", data, "--by_group"]
    assert main([*given, "--checkpoint", str(runs["diffusion"]), *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["diffusion", "95 % interval", "direct", "centre bias", "chance"]
    assert [line.split("  ")[0] or line.split("  ")[1] for line in lines[1:6]] == names
    folder = runs["diffusion"].parent.parent / "eval-people"
    content = json.loads((folder / "metrics.json").read_text())
    assert content["intervals"]["unit"] == "group"
    assert content["intervals"]["resamples"] == 40
    assert content["samples"] == 3
    assert content["about"]["decoder"] == "diffusion"
    assert content["about"]["checkpoint"] == str(runs["diffusion"])
    assert content["centre_bias"]["from"] == "the people that were trained on"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"the page to look at: {folder / 'report.html'}" in lines
    assert 'data-key="direct"' in page


def test_the_same_call_gives_the_same_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    given = ["gaze", "eval", "--data", str(runs["data"]), "--checkpoint", str(runs["diffusion"])]
    given += [*FEW, "--samples", "2", "--no-report"]
    contents = []
    for name, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        assert main([*given, "--output", str(tmp_path / name), "--seed", seed]) == 0
        contents.append((tmp_path / name / "predictions.json").read_text())
    assert contents[0] == contents[1] != contents[2]


def test_what_fails_exits_with_one(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint, data = ["--checkpoint", str(runs["direct"])], ["--data", str(runs["data"])]
    assert "missing.ckpt" in error(["--checkpoint", "missing.ckpt", *data], 1, capsys)
    assert "missing.json" in error([*checkpoint, "--data", "missing.json"], 1, capsys)
    assert "found none" in error([*checkpoint, *data, "--others", str(tmp_path)], 1, capsys)
    assert "'goo'" in error([*checkpoint, *data, "--data_format", "gooo"], 1, capsys)


def test_others_of_other_people_are_refused_before_anything_is_written(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = draw_people(tmp_path / "others", 5)
    checkpoint = ["--checkpoint", str(runs["direct"])]
    given = ["gaze", "eval", *checkpoint, "--data", str(other), *FEW, "--no-report"]
    assert main([*given, "--output", str(tmp_path / "one")]) == 0
    output = tmp_path / "two"
    argv = [*checkpoint, "--data", str(runs["data"]), "--others", str(tmp_path / "one")]
    assert "scored by different definitions" in error([*argv, "--output", str(output)], 1, capsys)
    assert not output.exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--checkpoint"),
        (["--checkpoint", "a", "--data", "b", "--samples", "0"], "--samples"),
        (["--checkpoint", "a", "--data", "b", "--n_resamples", "5"], "--n_resamples"),
        (["--checkpoint", "a", "--data", "b", "--sample", "3"], "--sample"),
    ],
)
def test_wrong_calls_exit_with_two(argv: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert message in error(argv, 2, capsys)
