"""The flags of `cross-validate`; what it does is tested in test/train."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from keypoint_detection.commands_cross_validate import run_cross_validate
from keypoint_detection.fold_scores import FoldScores, Resampling
from keypoint_detection.train import cross_validation
from keypoint_detection.train.cli import UsageError
from keypoint_detection.train.cross_validation_plan import FoldSplit

DATA = ["--json_dataset_path", "data/birds.json"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the arguments of the calls that would have trained."""
    calls: list[tuple[Any, ...]] = []

    def stand_in(*arguments: Any) -> FoldScores:
        calls.append(arguments)
        return FoldScores("image", 4, arguments[3], {})

    monkeypatch.setattr(cross_validation, "cross_validate", stand_in)
    return calls


def test_flags_of_both_kinds_arrive(asked: list, capsys: pytest.CaptureFixture) -> None:
    argv = ["--folds", "5", *DATA, "--max_epochs", "3", "--group_by", "video", "--limit_train_batches", "2"]
    more = ["--seed_of_folds", "4", "--n_resamples", "50", "--level", "0.9", "--interval", "percentile"]
    assert run_cross_validate([*argv, *more, "--seed", "9"]) == 0
    ((config, output, split, resampling),) = asked
    assert (config.max_epochs, config.seed, config.trainer) == (3, 9, {"limit_train_batches": 2})
    assert split == FoldSplit(5, False, "video", 4)
    assert resampling == Resampling(50, 0.9, "percentile", 4)
    assert output == Path("runs/cross-validation-birds")
    assert "written: runs/cross-validation-birds/cross_validation.json" in capsys.readouterr().out


def test_the_folder_can_be_given(asked: list, tmp_path: Path) -> None:
    group = ["--leave_one_group_out", "--group_by", "folder"]
    assert run_cross_validate([*DATA, *group, "--output", str(tmp_path / "x")]) == 0
    assert run_cross_validate([*DATA, *group, "--default_root_dir", str(tmp_path)]) == 0
    assert [call[1] for call in asked] == [tmp_path / "x", tmp_path / "cross-validation-birds"]
    assert asked[0][2] == FoldSplit(None, True, "folder", 0)


def test_the_configuration_can_be_a_file_and_be_printed(
    asked: list, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "a.yaml").write_text("json_dataset_path: x.json\nmax_epochs: 7\n")
    assert run_cross_validate(["--folds", "2", "--config", str(tmp_path / "a.yaml"), "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["max_epochs"] == 7
    assert not asked


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (DATA, "one of the arguments --folds --leave_one_group_out is required"),
        ([*DATA, "--folds", "1"], "--folds: expected a whole number from 2; got '1'"),
        ([*DATA, "--folds", "2", "--leave_one_group_out"], "not allowed with argument"),
        ([*DATA, "--leave_one_group_out"], "--leave_one_group_out needs --group_by"),
        (["--folds", "3"], "--json_dataset_path is required"),
        ([*DATA, "--folds", "3", "--groupby", "x"], "unknown argument --groupby. Did you mean '--group_by'?"),
        ([*DATA, "--folds", "3", "--max_epoch", "3"], "Did you mean 'max_epochs'?"),
        ([*DATA, "--folds", "3", "--max_epochs", "x"], "--max_epochs"),
        ([*DATA, "--folds", "3", "--level", "2"], "--level"),
        ([*DATA, "--folds", "3", "--n_resamples", "0"], "--n_resamples"),
        (
            [*DATA, "--folds", "3", "--n_resamples", "19"],
            "--n_resamples: expected at least 20 for level 0.95",
        ),
        ([*DATA, "--fold", "3"], "unknown argument --fold. Did you mean '--folds'?"),
    ],
)
def test_wrong_flags_are_one_line(argv: list[str], message: str, asked: list) -> None:
    with pytest.raises(UsageError) as caught:
        run_cross_validate(argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not asked


def test_a_validation_file_is_refused_before_anything_is_read() -> None:
    argv = [*DATA, "--folds", "2", "--json_validation_dataset_path", "v.json"]
    with pytest.raises(UsageError, match="every image of the training file is in the validation part of one"):
        run_cross_validate(argv)


def test_the_help_names_the_flags_of_the_training(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        run_cross_validate(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "keypoint-detection train --help" in out
    assert "--leave_one_group_out" in out
