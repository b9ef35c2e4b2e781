"""The page of an evaluation: that it is a function of the files, and refuses files that do not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from keypoint_detection import report, report_page
from keypoint_detection.commands_report import run_report
from keypoint_detection.commands_scores import run_eval
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.report_heatmaps import coloured_png, heatmap_picture, picture_size
from keypoint_detection.report_samples import read_evaluated
from keypoint_detection.utils.load_checkpoints import load_model


class Page:
    """Stand in for the writer of the page, and keep what it is given."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}
        self.pictures: list[bytes] = []
        self.heatmaps: list[bytes] = []

    def __call__(self, content: Any, pictures: Any, heatmaps: Any, output: Path) -> None:
        self.content = json.loads(json.dumps(content, allow_nan=False))
        self.pictures, self.heatmaps = list(pictures), list(heatmaps)
        output.write_text("page")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    stand_in = Page()
    monkeypatch.setattr(report_page, "write_page", stand_in)
    return stand_in


@pytest.fixture(scope="module")
def scored(tiny_checkpoint: Path, boxes_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with `eval/` in it, and `data/` with the images that were scored."""
    run = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(tiny_checkpoint.parents[1], run)
    shutil.copytree(boxes_json.parent, run / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "write_page", Page())
        evaluate(
            run / "checkpoints" / "last.ckpt",
            run / "data" / boxes_json.name,
            run / "eval",
            EvalOptions(n_resamples=60),
        )
    return run


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may break."""
    return Path(shutil.copytree(scored, tmp_path / "run"))


def labels_of(run: Path) -> Path:
    return run / "data" / "annotations.json"


def test_the_page_itself_is_written_and_can_be_left_out(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "a", EvalOptions(n_resamples=0))
    assert "Evaluation of" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "b", EvalOptions(n_resamples=0, report=False))
    assert not (tmp_path / "b" / "report.html").exists()
    assert (tmp_path / "b" / "per_image.csv").is_file()


def test_the_command_gives_the_page_that_the_evaluation_gave(
    run: Path, page: Page, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    evaluate(checkpoint, labels_of(run), run / "eval", EvalOptions(n_resamples=60))
    before = (page.content, page.pictures, page.heatmaps)
    flags = [str(run), "--json_dataset_path", str(labels_of(run)), "--accelerator", "cpu"]
    assert run_report([*flags, "--checkpoint", str(checkpoint)]) == 0
    assert (page.content, page.pictures, page.heatmaps) == before
    assert str(run / "eval" / "report.html") in capsys.readouterr().out
    assert run_report(flags) == 0
    assert page.heatmaps == []
    assert all(image["heatmap"] is None for image in page.content["images"])
    for image in before[0]["images"]:
        image["heatmap"] = None
    assert page.content == before[0]


@pytest.mark.parametrize("flag", ["--report", "--no-report"])
def test_the_flag_of_eval_says_whether_there_is_a_page(
    flag: str, run: Path, capsys: pytest.CaptureFixture
) -> None:
    (run / "eval" / "report.html").unlink()
    flags = ["--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--accelerator", "cpu"]
    assert run_eval([*flags, "--json_dataset_path", str(labels_of(run)), "--n_resamples", "0", flag]) == 0
    assert (run / "eval" / "report.html").is_file() == (flag == "--report")
    assert ("report.html" in capsys.readouterr().out) == (flag == "--report")


def test_every_image_has_a_picture_and_few_are_picked(run: Path, page: Page) -> None:
    detector = load_model(run / "checkpoints" / "last.ckpt")
    path = report.write_report(run / "eval", labels_of(run), detector=detector)
    assert path == run / "eval" / "report.html"
    images = page.content["images"]
    assert [image["picture"] for image in images] == list(range(6))
    picks = [image["pick"] for image in images]
    assert [picks.count(kind) for kind in ("worst", "median", "best", None)] == [3, 2, 1, 0]
    errors = {kind: [i["error"] for i in images if i["pick"] == kind] for kind in ("worst", "median", "best")}
    if not any(image["missed"] for image in images):
        assert min(errors["worst"]) >= max(errors["median"]) >= max(errors["best"])
    for image in images:
        picture = cv2.imdecode(np.frombuffer(page.pictures[image["picture"]], np.uint8), cv2.IMREAD_COLOR)
        heatmap = cv2.imdecode(np.frombuffer(page.heatmaps[image["heatmap"]], np.uint8), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert heatmap is not None
        assert heatmap.shape == (*picture.shape[:2], 4)


def test_without_a_run_its_sections_are_left_out(run: Path, page: Page) -> None:
    report.write_report(run / "eval", labels_of(run))
    assert page.content["config"] is None
    assert page.content["charts"]["training"] == []
    report.write_report(run / "eval", labels_of(run), run_folder=run)
    assert "max_epochs: 2" in page.content["config"]
    assert page.content["charts"]["training"][0]["title"] == "loss"


def test_a_missing_or_broken_image_costs_its_picture_only(run: Path, page: Page) -> None:
    names = [image["file_name"] for image in json.loads(labels_of(run).read_text())["images"]]
    (run / "data" / names[1]).unlink()
    (run / "data" / names[4]).write_bytes(b"no image")
    detector = load_model(run / "checkpoints" / "last.ckpt")
    report.write_report(run / "eval", labels_of(run), detector=detector)
    pictures = [image["picture"] for image in page.content["images"]]
    assert pictures == [0, None, 1, 2, None, 3]
    assert [image["name"] for image in page.content["images"]] == names
    assert len(page.pictures) == 4
    assert page.content["images"][1]["heatmap"] is None


def change_metrics(run: Path) -> None:
    (run / "eval" / "metrics.json").write_text('{"metrics": 1}')


def cut_predictions(run: Path) -> None:
    path = run / "eval" / "predictions.json"
    path.write_text(path.read_text()[:-40])


def change_id(run: Path) -> None:
    path = run / "eval" / "predictions.json"
    entries = json.loads(path.read_text())
    entries[2]["image_id"] = 987654
    path.write_text(json.dumps(entries))


def drop_entry(run: Path) -> None:
    path = run / "eval" / "predictions.json"
    path.write_text(json.dumps(json.loads(path.read_text())[1:]))


def rename_channel(run: Path) -> None:
    path = run / "eval" / "predictions.json"
    path.write_text(path.read_text().replace('"flap_left"', '"flap"'))


def move_labels(run: Path) -> None:
    content = json.loads(labels_of(run).read_text())
    content["annotations"][0]["keypoints"][0] += 3
    labels_of(run).write_text(json.dumps(content))


def lose_keypoint(run: Path) -> None:
    labels_of(run).write_text(labels_of(run).read_text().replace('"flap_left"', '"wing_left"'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_metrics, "metrics.json: expected the metrics of an evaluation.*'contract'"),
        (cut_predictions, "predictions.json: expected JSON"),
        (change_id, "predictions.json: entry 2, field 'image_id'.*987654"),
        (drop_entry, "predictions.json: expected one entry for each of the 6 images"),
        (rename_channel, "predictions.json: entry 0, field 'channels'"),
        (move_labels, "give other errors than those that were scored"),
        (lose_keypoint, "flap_left"),
        (lambda run: (run / "eval" / "matches.npz").write_bytes(b"PK"), "matches.npz: got no file of scores"),
    ],
)
def test_files_that_do_not_fit_are_one_line(run: Path, damage: Any, message: str) -> None:
    damage(run)
    before = (run / "eval" / "report.html").read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        report.write_report(run / "eval", labels_of(run))
    assert "\n" not in str(caught.value)
    assert (run / "eval" / "report.html").read_bytes() == before


@pytest.mark.parametrize("name", ["metrics.json", "predictions.json", "matches.npz"])
def test_missing_files_are_named(run: Path, name: str) -> None:
    (run / "eval" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"found no {name}; score the run again"):
        report.write_report(run / "eval", labels_of(run))


def test_a_model_of_other_channels_is_refused(run: Path) -> None:
    detector = load_model(run / "checkpoints" / "last.ckpt")
    detector.channel_names[1] = "nose"
    with pytest.raises(ValueError, match=r"got one with .*nose"):
        report.write_report(run / "eval", labels_of(run), detector=detector)


def test_a_heatmap_lies_where_its_peak_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = load_model(run / "checkpoints" / "last.ckpt")
    table = read_evaluated(run / "eval", read_table(labels_of(run)))
    table.files.report["inference"]["image_size"] = [32, 48]  # the 64x64 image is 32x32 in it, from x = 8 on
    frames = []

    def forward(image: torch.Tensor) -> torch.Tensor:
        frames.append(image.shape)
        logits = torch.full((1, 3, 32, 48), -20.0)
        logits[0, 1, 10, 20] = 20.0  # (20 - 8 + 0.5) * 2 - 0.5 = 24.5 and (10 + 0.5) * 2 - 0.5 = 20.5
        return logits

    monkeypatch.setattr(detector, "forward", forward)
    assert detector.backbone.stride == 1
    png = heatmap_picture(detector, table, 0)
    assert png is not None
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert frames == [(1, 3, 32, 48)]
    weight = picture[..., 3].astype(float) ** 2  # opacity is the root of the probability
    assert picture.shape == (64, 64, 4)
    rows, columns = np.indices(weight.shape)
    assert np.sum(columns * weight) / weight.sum() == pytest.approx(24.5, abs=0.05)
    assert np.sum(rows * weight) / weight.sum() == pytest.approx(20.5, abs=0.05)
    assert picture[0, 0, 3] == 0


def test_an_occluded_keypoint_of_signed_heatmaps_is_seen_in_the_picture(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_evaluated(run / "eval", read_table(labels_of(run)))
    channels = [["corner0", "corner1", "corner2", "corner3"], ["flap_left"], ["flap_right"]]
    detector = KeypointDetector(channels, "Unet", {"n_channels": 4}, occlusion="signed").eval()
    logits = torch.zeros(1, 3, 64, 64)
    logits[0, 1, 10, 20] = -20.0
    monkeypatch.setattr(detector, "forward", lambda image: logits)
    png = heatmap_picture(detector, table, 0)
    assert png is not None
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert np.argwhere(picture[..., 3]).tolist() == [[10, 20]]


def test_pictures_are_not_larger_than_1024_and_probabilities_become_opaque() -> None:
    assert picture_size((64, 40)) == (64, 40)
    assert picture_size((3000, 2048)) == (1024, 699)
    decoded = cv2.imdecode(
        np.frombuffer(coloured_png(np.array([[0.0, 0.25, 1.0]], np.float32)), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert decoded is not None
    assert decoded[0, :, 3].tolist() == [0, 108, 217]
