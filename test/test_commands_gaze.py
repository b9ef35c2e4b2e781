import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gaze_runs import TINY, draw_people

from keypoint_detection.__main__ import main
from keypoint_detection.commands_gaze import COMMANDS
from keypoint_detection.gaze.train_config import GazeTrainConfig


def quick(**values: object) -> list[str]:
    """Return the flags of a training of a second."""
    flags: list[str] = []
    for name, value in {**TINY, **values}.items():
        words = value if isinstance(value, list) else [value]
        flags += [f"--{name}", *map(str, words)]
    return flags


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people"))


def error(argv: list[str], code: int, capsys: pytest.CaptureFixture) -> str:
    """Run a command that must fail and return its one line."""
    capsys.readouterr()
    assert main(["gaze", *argv]) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


def test_usage_and_unknown_commands(capsys: pytest.CaptureFixture) -> None:
    assert main(["gaze"]) == 2
    with pytest.raises(SystemExit):
        main(["gaze", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "Did you mean 'train'?" in error(["trian"], 2, capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_defaults(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["gaze", name, "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"keypoint-detection gaze {name}" in text
    assert "default:" in text or name == "export"  # all that it takes is required


def test_help_of_the_training_lists_every_flag(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["gaze", "train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"--{name} " in text for name in GazeTrainConfig.model_fields)
    assert "factors of the brightness (default: 0.5 1.5)" in text
    assert "grows at most, as a share of it (default: 0.2)" in text


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom keypoint_detection.__main__ import main\n"
        "for name in {names}:\n"
        "    try:\n        main(['gaze', name, '--help'])\n    except SystemExit:\n        pass\n"
        "assert not {{'torch', 'cv2', 'pytorch_lightning', 'scipy'}} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code.format(names=list(COMMANDS))], check=True, capture_output=True)


def test_a_training_begins_and_goes_on(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train = ["gaze", "train", *quick(data=people, default_root_dir=tmp_path, run_name="a", ckpt_path="last")]
    assert main(train) == 0
    assert f"last checkpoint: {tmp_path / 'a' / 'checkpoints' / 'last.ckpt'}" in capsys.readouterr().out
    assert main([*train, "--max_epochs", "3"]) == 0
    assert len(list((tmp_path / "a").glob("metrics*.csv"))) == 2
    config = tmp_path / "a" / "config.yaml"
    again = ["gaze", "train", "--config", str(config), "--run_name", "b", "--decoder", "direct"]
    assert main([*again, "--max_epochs", "1", "--ckpt_path", "none"]) == 0
    assert yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())["decoder"] == "direct"
    other = [*again[1:], "--run_name", "c", "--ckpt_path", str(tmp_path / "a")]
    assert "decoder: diffusion there, direct here" in error(other, 1, capsys)


def test_a_training_ends_with_scores(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train = ["gaze", "train", *quick(data=people, default_root_dir=tmp_path, run_name="a", max_epochs=1)]
    assert main([*train, "--decoder", "direct", "--evaluate"]) == 0
    text = capsys.readouterr().out
    assert "last weights on the people held out:" in text
    assert "AUC" in text
    assert (tmp_path / "a" / "eval" / "report.html").is_file()
    about = json.loads((tmp_path / "a" / "eval" / "metrics.json").read_text())["about"]
    assert about["checkpoint"] == str(tmp_path / "a" / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train"], "expected --gazefollow (its folder) or --data"),
        (["train", "--data", "x", "--gazefollow", "y"], "got both"),
        (["train", "--data", "x", "--noise_shedule", "cosine"], "Did you mean '--noise_schedule'?"),
        (["train", "--data", "x", "--decoder", "difusion"], "Did you mean 'diffusion'?"),
        (["train", "--data", "x", "--dropout", "1.5"], "--dropout: Input should be less than 1; got '1.5'"),
        (["train", "--data", "x", "--multipliers", "1", "two"], "--multipliers: "),
        (["train", "--data", "x", "--learning_rates", "scene"], "a factor above 0 for each part, such as sc"),
        (["train", "--data", "x", "--learning_rates", "hed=1"], "Did you mean 'head'?"),
        (["train", "--data", "x", "--freeze", "scene", "hed"], "Did you mean 'head'?"),
        (["train", "--data", "x", "--grid", "7"], "rows and columns, such as '7 7'"),
        (["train", "--data", "x", "--sampling_steps", "2000"], "at most --n_timesteps, 1000, got 2000"),
        (["train", "--config", "none.yaml"], "no such file"),
    ],
)
def test_wrong_calls_exit_with_two(argv: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert message in error(argv, 2, capsys)


def test_wrong_files_of_flags_exit_with_two(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "config.yaml"
    for content, message in (
        ("data: x\nsampling_step: 5\n", "unknown setting 'sampling_step'. Did you mean 'sampling_steps'?"),
        ("- data\n", "should hold 'flag: value' lines, got list"),
        ("data: [x\n", "is not YAML"),
    ):
        path.write_text(content)
        assert message in error(["train", "--config", str(path)], 2, capsys)


def test_what_fails_exits_with_one(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = ["--default_root_dir", str(tmp_path / "runs")]
    assert "nothing at" in error(
        ["train", "--data", str(tmp_path / "none.json"), "--preset", "light", *runs], 1, capsys
    )
    for flags, message in (
        (["--scene_encoder", "ligth"], "Did you mean 'light'?"),
        (["--sampler", "dim"], "Did you mean 'ddim'?"),
        (["--pretrained"], "'light' has no pretrained weights"),
        (["--ckpt_path", str(tmp_path)], "expected a checkpoint, found nothing at"),
    ):
        assert message in error(["train", *quick(data=people), *runs, *flags], 1, capsys)
    assert not (tmp_path / "runs").exists()


def test_the_configuration_can_be_printed_and_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    argv = ["gaze", "train", "--data", "x", "--gaze_frame", "false", "--freeze", "scene", "head"]
    argv += ["--learning_rates", "denoiser=2", "conditioner=0.5", "--zero_terminal_snr"]
    assert main([*argv, "--print_config"]) == 0
    text = capsys.readouterr().out
    values = yaml.safe_load(text)
    assert values["gaze_frame"] is False
    assert values["freeze"] == ["scene", "head"]
    assert values["learning_rates"] == {"denoiser": 2, "conditioner": 0.5}
    assert values["zero_terminal_snr"] is True
    (tmp_path / "config.yaml").write_text(text)
    argv = ["gaze", "train", "--config", str(tmp_path / "config.yaml"), "--seed", "5", "--print_config"]
    assert main(argv) == 0
    assert capsys.readouterr().out == text.replace("seed: 2022", "seed: 5")
