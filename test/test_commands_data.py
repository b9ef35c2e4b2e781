"""The commands about data sets, as a user meets them."""

import json
from pathlib import Path

import pytest

from keypoint_detection.__main__ import main
from keypoint_detection.convert import FORMATS
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import make_dataset


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Return the COCO file of eight drawn images."""
    return make_dataset("boxes", tmp_path / "drawn", 8, (64, 80), seed=4)


def broken(drawn: Path) -> Path:
    """Return a copy of the file with two faults: a point outside its image, and a reference to none."""
    content = json.loads(drawn.read_text())
    content["annotations"][0]["keypoints"][:3] = [500, 10, 2]
    content["annotations"][1]["image_id"] = 999
    path = drawn.with_name("broken.json")
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", ["cvat", "yolo", "label-studio", "deeplabcut", "coco"])
def test_there_and_back(name: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    away, back = tmp_path / "away", tmp_path / "back"
    assert main(["convert", "coco", str(drawn), "--to", name, "--output", str(away)]) == 0
    files = {"label-studio": "*.json", "named-json": "*.json"}
    source = (
        next(away.glob(files[name]))
        if name in files
        else away / "annotations.json"
        if name == "coco"
        else away
    )
    assert main(["convert", name, str(source), "--output", str(back)]) == 0
    assert "written: " in capsys.readouterr().out
    original, returned = read_coco(drawn), read_coco(back / "annotations.json")
    assert len(returned.images) == len(original.images) == 8
    labelled = [
        sum(v > 0 for a in coco.annotations for v in a.keypoints[2::3]) for coco in (original, returned)
    ]
    assert labelled[0] == labelled[1] > 20


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.writer])
def test_from_one_tool_to_another_no_image_is_lost(name: str, drawn: Path, tmp_path: Path) -> None:
    """What is written points to images that are still there when the command has ended."""
    first, away, back = tmp_path / "yolo", tmp_path / "away", tmp_path / "back"
    assert main(["convert", "coco", str(drawn), "--to", "yolo", "--output", str(first)]) == 0
    assert main(["convert", "yolo", str(first), "--to", name, "--output", str(away)]) == 0
    files = {
        "label-studio": "tasks.json",
        "named-json": "keypoints_annotations.json",
        "sleap": "labels.slp",
        "coco": "annotations.json",
    }
    assert main(["convert", name, str(away / files.get(name, "")), "--output", str(back)]) == 0
    images = read_coco(back / "annotations.json").images
    assert len(images) == 8
    assert all((back / image.file_name).is_file() for image in images)


def test_flags_of_convert_that_mean_nothing_are_refused(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    away = ["--to", "yolo", "--output", str(tmp_path / "x")]
    assert main(["convert", "coco", str(drawn), *away, "--link"]) == 2
    assert main(["convert", "coco", str(drawn), *away, "--categories", str(drawn)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 2
    assert not (tmp_path / "x").exists()


def test_wrong_conversions_are_one_line(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert", "cwat", str(drawn), "--output", str(tmp_path / "x")]) == 2
    assert main(["convert", "cvat", str(tmp_path / "none"), "--output", str(tmp_path / "x")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 2
    assert not (tmp_path / "x").exists()


def test_the_doctor_finds_nothing_in_clean_data(drawn: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", str(drawn)]) == 0
    out = capsys.readouterr().out
    assert "nothing found" in out
    assert "a perfect network" in out


def test_the_doctor_names_faults_writes_them_and_mends_a_copy(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, found, fixed = broken(drawn), tmp_path / "found.json", drawn.with_name("fixed.json")
    assert main(["doctor", str(path), "--json", str(found), "--fix", str(fixed)]) == 1
    out = capsys.readouterr().out
    assert "point-outside" in out
    assert "image-reference" in out
    codes = {finding["code"] for finding in json.loads(found.read_text())["findings"]}
    assert {"point-outside", "image-reference"} <= codes
    assert main(["doctor", str(fixed)]) == 0
    assert main(["doctor", str(drawn), str(path), "--fix", str(fixed)]) == 1


def test_the_doctor_judges_the_settings_of_a_training(drawn: Path, capsys: pytest.CaptureFixture) -> None:
    against = ["--against", "--image_size", "32x40", "--backbone_type", "MobileNetV3", "--output_stride", "4"]
    channels = ["--keypoint_channel_configuration", "corner0 = corner1 = corner2 = corner3; flap_left"]
    assert main(["doctor", str(drawn), *against, *channels]) == 0
    out = capsys.readouterr().out
    assert "corner0=corner1=corner2=corner3" in out
    assert "ceiling-low" in out or "points-merge" in out
    assert main(["doctor", str(drawn), "--against", "--image_sice", "32x40"]) == 2
    assert "Did you mean 'image_size'" in capsys.readouterr().err
    assert main(["doctor", str(drawn), "--against", "--keypoint_channel_configuration", "corner9"]) == 1


def test_the_doctor_examines_files_without_labels(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Nothing can be measured there, which is no error unless it was asked for, and stops nothing else."""
    content = json.loads(drawn.read_text())
    path = drawn.with_name("unlabelled.json")
    path.write_text(json.dumps({**content, "annotations": []}))
    written = [tmp_path / "found.json", drawn.with_name("copy.json")]
    flags = ["--json", str(written[0]), "--fix", str(written[1])]
    assert main(["doctor", str(path), *flags]) == 0
    out = capsys.readouterr().out
    assert "what the settings cost was not measured: " in out
    assert all(file.is_file() for file in written)
    assert main(["doctor", str(path), "--against", "--image_size", "64x64"]) == 1
    assert "expected labelled keypoints" in capsys.readouterr().err


def test_settings_are_measured_on_the_first_file_and_that_is_said(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["split", str(drawn), "--ratios", "0.5", "0.5", "--output", str(tmp_path)]) == 0
    parts = [str(tmp_path / "train.json"), str(tmp_path / "validation.json")]
    found = tmp_path / "found.json"
    against = ["--against", "--image_size", "256x320"]
    assert main(["doctor", *parts, "--json", str(found), *against]) == 0
    assert f"what the settings cost on {parts[0]}" in capsys.readouterr().out
    settings = [f for f in json.loads(found.read_text())["findings"] if f["code"] == "upscale"]
    assert settings
    assert {finding["file"] for finding in settings} == {parts[0]}


def test_folds_and_ratios_exclude_each_other(drawn: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["split", str(drawn), "--folds", "2", "--ratios", "0.5", "0.5"]) == 2
    assert "--folds" in capsys.readouterr().err
    assert not drawn.with_name("fold0_train.json").exists()


def test_browse_writes_a_page(drawn: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["browse", str(broken(drawn)), "--output", str(page), "--no-doctor"]) == 1
    assert not page.exists()
    assert main(["browse", str(drawn), "--output", str(page)]) == 0
    assert "flap_left" in page.read_text()


def test_resize_and_crop(drawn: Path, tmp_path: Path) -> None:
    assert main(["resize", str(drawn), "--size", "32x40"]) == 0
    resized = read_coco(tmp_path / "drawn_32x40" / drawn.name)
    assert {(image.height, image.width) for image in resized.images} == {(32, 40)}
    assert main(["crop", str(drawn), "--output", str(tmp_path / "crops"), "--size", "24x24"]) == 0
    crops = read_coco(tmp_path / "crops" / drawn.name)
    assert len(crops.images) == len(crops.annotations) == len(read_coco(drawn).annotations)


def test_split_subset_and_merge(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        main(["split", str(drawn), "--ratios", "0.5", "0.25", "0.25", "--output", str(tmp_path / "parts")])
        == 0
    )
    assert "validation.json" in capsys.readouterr().out
    parts = [str(tmp_path / "parts" / f"{name}.json") for name in ("train", "validation", "test")]
    assert [len(read_coco(part).images) for part in parts] == [4, 2, 2]
    merged, few = tmp_path / "merged.json", tmp_path / "few.json"
    assert main(["merge", *parts, "--output", str(merged)]) == 0
    assert len(read_coco(merged).annotations) == len(read_coco(drawn).annotations)
    assert main(["subset", str(merged), "--output", str(few), "--n", "3", "--keypoints", "flap_left"]) == 0
    assert read_coco(few).keypoint_names() == ["flap_left"]
    assert main(["subset", str(merged), "--output", str(few), "--n", "3"]) == 1
    assert main(["split", str(drawn), "--group_by", "video", "--output", str(tmp_path / "parts")]) == 1
