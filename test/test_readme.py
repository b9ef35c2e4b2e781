"""Every command and every piece of code in the README runs, in order, as it stands there."""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.__main__ import main
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.gaze.synthetic import make_gaze_scenes
from keypoint_detection.models.backbones.backbone_factory import BACKBONES, backbone_options
from keypoint_detection.registry import nearest_name
from keypoint_detection.train.backbone_flags import backbone_flags
from keypoint_detection.train.cli import parse_arguments
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.visibility.synthetic import make_terrain
from keypoint_detection.visibility.synthetic_occluders import make_occluded

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What keeps a command of the README short here; the two of its ```bash blocks are what .ci/run does.
QUICK = ["--max_epochs", "1", "--accelerator", "cpu", "--num_workers", "0"]
SMALL = [*QUICK, "--size_hidden", "4", "--patch_px", "8"]
SHORT = {
    "train": QUICK,
    "cross-validate": QUICK,
    "sweep": [*QUICK[2:], "--count", "1"],
    "visibility make-dataset": ["--points_per_image", "40", "--border_px", "8"],
    "visibility train": SMALL,
    "visibility cross-validate": SMALL,
    "visibility predict": ["--accelerator", "cpu"],
    "gaze train": [*QUICK, "--sampling_steps", "2"],
    "gaze predict": ["--accelerator", "cpu", "--samples", "2"],
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the files that the README's commands name."""
    for name in ("train", "test", "people"):
        made = make_dataset("boxes", tmp_path / "data", 4, (64, 64), seed=3)
        made.rename(tmp_path / "data" / f"{name}.json")
    shutil.copytree(tmp_path / "data" / "images", tmp_path / "photos")
    for index, path in enumerate(sorted((tmp_path / "photos").glob("*.png"))):
        cv2.imwrite(str(path.with_name(f"{index}.jpg")), cv2.imread(str(path)))
    shutil.copy(path, tmp_path / "photo.png")
    make_occluded(tmp_path / "data" / "occluded", 12, seed=3)
    make_terrain(tmp_path / "scenes", n_views=4, images_per_view=1, image_hw=(96, 128), seed=3)
    make_gaze_scenes(tmp_path / "gaze", 12, image_hw=(96, 128), seed=3)
    (tmp_path / "scripts").mkdir()
    sweep = (ROOT / "scripts" / "sweep.yaml").read_text(encoding="utf-8")
    (tmp_path / "scripts" / "sweep.yaml").write_text(sweep.replace("value: 60", "value: 1"), encoding="utf-8")
    writer = cv2.VideoWriter(str(tmp_path / "recording.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 64))
    for _ in range(3):
        writer.write(np.full((64, 64, 3), 90, np.uint8))
    writer.release()
    video = tmp_path / "my_project" / "labeled-data" / "video"
    video.mkdir(parents=True)
    cv2.imwrite(str(video / "img0.png"), np.zeros((20, 30, 3), np.uint8))
    rows = ["scorer,me,me", "bodyparts,nose,nose", "coords,x,y", "labeled-data/video/img0.png,3.5,4.5"]
    (video / "CollectedData_me.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning")
def test_commands_run_in_order(workplace: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        program, command, *flags = shlex.split(line)
        assert program == "keypoint-detection"
        named = ["--run_name", "my_run"] if command == "train" and "--run_name" not in flags else []
        full = f"{command} {flags[0]}" if command in ("visibility", "gaze") else command
        assert main([command, *flags, *SHORT.get(full, []), *named]) == 0, line
    assert (workplace / "runs/my_run/eval/metrics.json").is_file()
    assert "oks_ap" in (workplace / "runs/people/eval/metrics.json").read_text()
    assert (workplace / "predictions/predictions.csv").is_file()
    assert (workplace / "data/mouse/annotations.json").is_file()
    assert (workplace / "runs/my_run/eval/report.html").stat().st_size > 10_000
    assert (workplace / "runs/folds/scores.png").is_file()
    assert len(json.loads((workplace / "recording/predictions.json").read_text())["predictions"]) == 3
    assert (workplace / "recording/overlay.mp4").is_file()
    assert (workplace / "explanations/explanations.json").is_file()
    assert (workplace / "sweeps/first/sweep.html").is_file()
    assert (workplace / "runs/my_run-reproduced/run.json").is_file()
    assert "p_visible" in (workplace / "seen/predictions.csv").read_text()
    assert (workplace / "runs/views/comparison.png").is_file()
    assert (workplace / "horizon/distances.json").is_file()
    assert len([path for path in (workplace / "looks/overlays").rglob("*") if path.is_file()]) == 12


@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning")
def test_the_labelling_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "labeling" / "Readme.md").read_text(encoding="utf-8")
    (configuration,) = blocks("json", guide)
    assert json.loads(configuration)["categories"][0]["semantic_types"][1]["n_keypoints"] == 2
    (block,) = blocks("sh", guide)
    for line in block.splitlines():
        program, command, *flags = shlex.split(line)
        if program == "python":
            exec(flags[0], {})
            continue
        assert main([command, *flags, *SHORT.get(command, [])]) == 0, line
    assert (tmp_path / "runs/boxes/eval/metrics.json").is_file()
    assert (tmp_path / "browse.html").stat().st_size > 10_000


def test_the_worked_example_is_understood() -> None:
    """Parse it only: it takes 16 minutes and data that is not part of the project."""
    command = blocks("text")[0]
    program, name, *flags = shlex.split(command)
    config, _ = parse_arguments(flags)
    assert (program, name, config.image_hw) == ("keypoint-detection", "train", (288, 384))


def test_code_runs(workplace: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone_options("Unet")  # every backbone is registered now
    monkeypatch.setattr(BACKBONES, "_builders", dict(BACKBONES._builders))
    first, second = blocks("python")
    exec(compile(first, "README.md", "exec"), {})
    assert "corner0 [" in capsys.readouterr().out
    exec(compile(second, "README.md", "exec"), {})
    from keypoint_detection import create_backbone

    assert create_backbone("Plain", n_channels=4).out_channels == 4


def test_both_bash_blocks_are_the_two_commands() -> None:
    install_and_demo, install_and_test = (block.strip() for block in blocks("bash"))
    assert install_and_demo == "pip install . && keypoint-detection demo"
    assert install_and_test == 'pip install ".[dev]" && pytest'


def test_flags_of_the_table_exist_with_these_defaults() -> None:
    rows = re.findall(r"^\| (`--.+?) \| (.+?) \| ", README, flags=re.MULTILINE)
    assert len(rows) >= 10
    known = [*TrainConfig.model_fields, *backbone_flags()]
    for names, default in rows:
        for name in re.findall(r"--(\w+)", names):
            assert name in known, nearest_name(name, known)
        if re.fullmatch(r"`?[\w.-]+`?", default) and default not in ("off", "none"):
            name = re.findall(r"--(\w+)", names)[0]
            field = TrainConfig.model_fields.get(name)
            expected = field.default if field else backbone_options("Unet")[name]
            assert str(expected).removesuffix(".0") == default.strip("`"), names


def test_picture_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.+?)\)", README):
        assert (ROOT / path).is_file()
