import json
import subprocess
import sys
from pathlib import Path

import pytest
from point_data import make_points

from keypoint_detection.__main__ import main
from keypoint_detection.commands_visibility import COMMANDS
from keypoint_detection.visibility.synthetic_occluders import make_occluded

QUICK = ["--patch_px", "8", "--size_hidden", "4", "--batch_size", "32", "--max_epochs", "1"]
QUICK += ["--num_workers", "0", "--accelerator", "cpu"]
FEW = ["--n_resamples", "50"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    make_points(folder)
    return folder


def error(argv: list[str], code: int, capsys: pytest.CaptureFixture) -> str:
    """Run a command that must fail and return its one line."""
    capsys.readouterr()
    assert main(["visibility", *argv]) == code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0]


def test_usage_and_unknown_commands(capsys: pytest.CaptureFixture) -> None:
    assert main(["visibility"]) == 2
    with pytest.raises(SystemExit):
        main(["visibility", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "Did you mean 'train'?" in error(["trian"], 2, capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_defaults(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["visibility", name, "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"keypoint-detection visibility {name}" in text
    assert "default:" in text


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom keypoint_detection.__main__ import main\n"
        "for name in {names}:\n"
        "    try:\n        main(['visibility', name, '--help'])\n    except SystemExit:\n        pass\n"
        "assert not {{'torch', 'cv2', 'pytorch_lightning', 'scipy'}} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code.format(names=list(COMMANDS))], check=True, capture_output=True)


def test_the_whole_path(folder: Path, capsys: pytest.CaptureFixture) -> None:
    points, runs = folder / "points", folder / "runs"
    make = ["visibility", "make-dataset", str(folder / "scenes"), "--output", str(points)]
    assert main([*make, "--factors", "1", "2", "--border_px", "4", "--points_per_image", "60"]) == 0
    assert "480 points" in capsys.readouterr().out
    train = ["visibility", "train", "--data", str(points), "--default_root_dir", str(runs), *QUICK]
    train += ["--validation_views", "view02", "view03"]
    assert main([*train, "--run_name", "a"]) == 0
    assert main([*train, "--run_name", "b", "--eval_group", "linear", "--use_mlp", "false"]) == 0
    text = capsys.readouterr().out
    assert "last weights on the views held out, view02, view03:" in text
    assert "within 15 %" in text
    checkpoint = str(runs / "a" / "checkpoints" / "last.ckpt")
    evaluate = ["visibility", "eval", "--checkpoint", checkpoint, "--data", str(points), *FEW]
    assert main([*evaluate, "--views", "view00", "--output", str(folder / "eval")]) == 0
    assert list(json.loads((folder / "eval" / "metrics.json").read_text())["views"]) == ["view00"]
    source = str(folder / "scenes" / "images" / "view01")
    depth = str(folder / "scenes" / "depth" / "view01.npy")
    predict = ["visibility", "predict", "--checkpoint", checkpoint, "--source", source, "--depth", depth]
    assert main([*predict, "--output", str(folder / "out"), "--stride_px", "32", "--points", "30"]) == 0
    assert (folder / "out" / "maps" / "000.png").is_file()
    folds = ["visibility", "cross-validate", "--data", str(points), "--folds", "2", *QUICK, *FEW]
    assert main([*folds, "--output", str(folder / "folds")]) == 0
    capsys.readouterr()
    compare = ["visibility", "compare", str(runs / "a"), str(runs / "b"), *FEW]
    assert main([*compare, "--output", str(folder / "comparison")]) == 0
    text = capsys.readouterr().out
    assert "linear" in text
    assert "auroc" in text
    assert (folder / "comparison" / "comparison.png").is_file()


def test_keypoints_of_a_coco_file(tmp_path: Path) -> None:
    json_path = str(make_occluded(tmp_path / "coco", 5, (64, 64), seed=1))
    train = ["visibility", "train", "--json_dataset_path", json_path, "--factors", "1", "2", *QUICK]
    assert main([*train, "--default_root_dir", str(tmp_path), "--run_name", "k"]) == 0
    checkpoint = str(tmp_path / "k" / "checkpoints" / "last.ckpt")
    output = ["--output", str(tmp_path / "eval"), *FEW]
    evaluate = ["visibility", "eval", "--checkpoint", checkpoint, "--json_dataset_path", json_path]
    assert main([*evaluate, *output]) == 0
    assert len(json.loads((tmp_path / "eval" / "metrics.json").read_text())["views"]) == 5


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train"], "expected --data"),
        (["train", "--data", "x", "--patch_px", "7"], "power of two"),
        (["train", "--data", "x", "--siz_hidden", "7"], "Did you mean '--size_hidden'?"),
        (["train", "--data", "x", "--accelerator", "tpu"], "--accelerator"),
        (["train", "--config", "none.yaml"], "no such file"),
        (["eval", "--checkpoint", "x"], "expected --data or --json_dataset_path"),
        (["eval", "--checkpoint", "x", "--data", "y", "--n_resamples", "3"], "at least 20"),
        (["predict", "--checkpoint", "x"], "required: --source, --output"),
        (["cross-validate", "--data", "x", "--folds", "1"], "whole number from 2"),
        (["cross-validate", "--data", "x", "--run_name", "a"], "--run_name"),
        (["make-dataset", ".", "--output", "x", "--group_by", "video"], "goes with a COCO file"),
        (["compare"], "required: folders"),
        (["demo", "--seed", "-1"], "whole number from 0"),
    ],
)
def test_wrong_calls_exit_with_two(argv: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert message in error(argv, 2, capsys)


def test_what_fails_exits_with_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    none = str(tmp_path / "none")
    assert "make-dataset" in error(["train", "--data", none], 1, capsys)
    assert "none" in error(["eval", "--checkpoint", none, "--data", none], 1, capsys)
    assert "none" in error(["compare", none], 1, capsys)
    assert "none" in error(["make-dataset", none, "--output", str(tmp_path / "x")], 1, capsys)


def test_the_configuration_can_be_printed_and_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    argv = ["visibility", "train", "--data", "x", "--use_mlp", "false", "--validation_views", "a", "b"]
    assert main([*argv, "--print_config"]) == 0
    text = capsys.readouterr().out
    assert "use_mlp: false" in text
    assert "- a\n- b" in text
    (tmp_path / "config.yaml").write_text(text)
    argv = ["visibility", "train", "--config", str(tmp_path / "config.yaml"), "--seed", "5", "--print_config"]
    assert main(argv) == 0
    assert capsys.readouterr().out == text.replace("seed: 2022", "seed: 5")


def test_the_scores_of_a_copied_checkpoint_lie_beside_it(tmp_path: Path) -> None:
    json_path = str(make_occluded(tmp_path / "coco", 4, (64, 64), seed=1))
    train = ["visibility", "train", "--json_dataset_path", json_path, "--factors", "1", *QUICK]
    assert main([*train, "--default_root_dir", str(tmp_path), "--run_name", "k"]) == 0
    copy = tmp_path / "models" / "last.ckpt"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "k" / "checkpoints" / "last.ckpt").read_bytes())
    evaluate = ["visibility", "eval", "--checkpoint", str(copy), "--json_dataset_path", json_path, *FEW]
    assert main(evaluate) == 0
    assert (tmp_path / "models" / "eval-annotations" / "metrics.json").is_file()
    assert not (tmp_path / "eval-annotations").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["eval", "--checkpoint", "a.ckpt", "--data", "points"],
        ["predict", "--checkpoint", "a.ckpt", "--source", "images"],
        ["compare", "a", "b"],
        ["cross-validate", "--data", "points"],
        ["demo"],
    ],
)
def test_a_file_is_no_folder_to_write_to(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    line = error([*argv, "--output", str(path)], 2, capsys)
    assert line.endswith(f"argument --output: expected a folder, got the file {path}")
    assert path.read_text() == "mine"


def test_a_configuration_that_is_no_text_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "config.yaml is not YAML" in error(["train", "--config", str(path)], 2, capsys)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--format", "csv"], "--format"),
        (["--seed", "7", "--border_px", "64"], "--border_px, --seed"),
        (["--points_per_image", "500"], "--points_per_image"),
        (["--no-depth_channel"], "--no-depth_channel"),
    ],
)
def test_flags_of_scenes_are_refused_with_a_coco_file(
    flags: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    json_path = str(make_occluded(tmp_path / "coco", 2, (48, 48), seed=1))
    make = ["make-dataset", json_path, "--output", str(tmp_path / "points"), *flags]
    assert f"argument {named}: goes with a folder of scenes" in error(make, 2, capsys)
    assert not (tmp_path / "points").exists()
