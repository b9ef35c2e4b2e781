"""Cross-validations with a training and an evaluation that only write files, and one that is real."""

import csv
import json
import types
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from scored_folds import error_sheet, write_evaluation

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.train import cross_validation
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.cross_validation import cross_validate
from keypoint_detection.train.cross_validation_plan import FoldSplit
from keypoint_detection.train.resume import TrainingInterrupted

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"
SPLIT, RESAMPLING = FoldSplit(3), Resampling(40)


@pytest.fixture(scope="module")
def data_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return nine drawn images in two groups; read only."""
    path = make_dataset("boxes", tmp_path_factory.mktemp("data"), 9, (32, 32), seed=2)
    content = json.loads(path.read_text())
    content["images"] = content["images"][::-1]
    for number, image in enumerate(content["images"]):
        image["video"] = number // 5
    path.write_text(json.dumps(content))
    return path


def make_config(path: Path, **options: object) -> TrainConfig:
    settings = {
        "json_dataset_path": str(path),
        "keypoint_channel_configuration": CHANNELS,
        "max_epochs": 1,
        "n_channels": 8,
        "accelerator": "cpu",
        "num_workers": 0,
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**settings, **options})  # pyright: ignore[reportArgumentType]


@dataclass
class Calls:
    """Stand in for the training and the evaluation; count the calls, and break where asked to."""

    trained: list[tuple[str, str | None]] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)
    options: list = field(default_factory=list)
    break_training_of: str = ""
    break_scoring_of: str = ""
    leave_checkpoint: bool = True
    error: BaseException = field(default_factory=lambda: RuntimeError("killed"))
    thresholds: dict[str, float] = field(default_factory=dict)

    def train(self, config: TrainConfig) -> None:
        name, folder = config.run_name or "", Path(config.default_root_dir) / (config.run_name or "")
        self.trained.append((name, config.ckpt_path))
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "metrics.csv").write_text("epoch\n0\n")
        if name != self.break_training_of or self.leave_checkpoint:
            (folder / "checkpoints" / "last.ckpt").write_text(name)
        if name == self.break_training_of:
            raise self.error

    def evaluate(self, checkpoint: Path, path: Path, output: Path, options: object) -> None:
        name = output.parent.name
        assert checkpoint == output.parent / "checkpoints" / "last.ckpt"
        self.scored.append(name)
        self.options.append(options)
        images = read_coco(path).images
        entries = [{"image_id": i.id, "file_name": i.file_name, "channels": {}} for i in images]
        output.mkdir(exist_ok=True)
        (output / "predictions.json").write_text(json.dumps(entries))
        if name == self.break_scoring_of:
            raise self.error
        sheet = error_sheet([i.id for i in images], [float(i.id) for i in images])
        contract = {"thresholds": self.thresholds.get(name, 2.0), "labels": name, "images": len(images)}
        write_evaluation(output.parent, sheet, contract)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    monkeypatch.setattr(cross_validation, "train", found.train)
    monkeypatch.setattr(cross_validation, "evaluate", found.evaluate)
    return found


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and the bytes of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_every_fold_is_trained_and_scored_once(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    scores = cross_validate(make_config(data_json), output, SPLIT, RESAMPLING)
    assert calls.trained == [("fold1", None), ("fold2", None), ("fold3", None)]
    assert calls.scored == ["fold1", "fold2", "fold3"]
    content = json.loads((output / "cross_validation.json").read_text())
    held_out = {fold["name"]: fold["validation"] for fold in content["folds"]}
    means = {name: float(np.mean(ids)) for name, ids in held_out.items()}
    found = scores.metrics["mean_error_px"]
    assert found.values == pytest.approx(means)
    assert found.mean == pytest.approx(5.0)  # folds of three of the ids 1 to 9
    assert found.spread == pytest.approx(float(np.std(list(means.values()), ddof=1)))
    assert content["scores"]["metrics"]["mean_error_px"]["mean"] == found.mean
    rows = list(csv.DictReader((output / "cross_validation.csv").read_text().splitlines()))
    assert [float(rows[0][name]) for name in held_out] == list(found.values.values())
    assert all(state["trained"] and state["scored"] for state in content["progress"].values())
    image = cv2.imread(str(output / "scores.png"))
    assert image is not None
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert {(o.n_resamples, o.level, o.group_by, o.device) for o in calls.options} == {
        (40, 0.95, None, "cpu")
    }


def test_the_predictions_are_in_the_order_and_the_names_of_the_data_set(
    calls: Calls, data_json: Path, tmp_path: Path
) -> None:
    cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    images = read_coco(data_json).images
    assert [e["image_id"] for e in entries] == [image.id for image in images] == list(range(9, 0, -1))
    assert [e["file_name"] for e in entries] == [image.file_name for image in images]


def test_a_finished_cross_validation_is_only_read(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    first = cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)
    before = {name: files_of(tmp_path / "out" / name) for name in ("fold1", "fold2", "fold3")}
    again = cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)
    assert again == first
    assert len(calls.trained) == len(calls.scored) == 3
    assert {name: files_of(tmp_path / "out" / name) for name in before} == before


def test_a_finished_fold_is_not_repeated_and_a_begun_one_goes_on(
    calls: Calls, data_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output, config = tmp_path / "out", make_config(data_json)
    calls.break_training_of = "fold2"
    with pytest.raises(RuntimeError, match="killed"):
        cross_validate(config, output, SPLIT, RESAMPLING)
    before = files_of(output / "fold1")
    assert len(before) == 7  # two COCO files, two of the training, three of the evaluation
    calls.break_training_of = ""
    capsys.readouterr()
    cross_validate(config, output, SPLIT, RESAMPLING)
    assert capsys.readouterr().out.splitlines() == [
        "fold1 (1 of 3): finished before",
        "fold2 (2 of 3): goes on from its last checkpoint, 6 images to train on, 3 to score",
        "fold3 (3 of 3): 6 images to train on, 3 to score",
    ]
    last = output / "fold2" / "checkpoints" / "last.ckpt"
    assert calls.trained == [("fold1", None), ("fold2", None), ("fold2", str(last)), ("fold3", None)]
    assert calls.scored == ["fold1", "fold2", "fold3"]
    assert files_of(output / "fold1") == before


def test_a_fold_that_had_begun_without_a_checkpoint_is_set_aside(
    calls: Calls, data_json: Path, tmp_path: Path
) -> None:
    output, config = tmp_path / "out", make_config(data_json)
    calls.break_training_of, calls.leave_checkpoint = "fold2", False
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            cross_validate(config, output, SPLIT, RESAMPLING)
    calls.break_training_of = ""
    cross_validate(config, output, SPLIT, RESAMPLING)
    assert [name for name, _ in calls.trained].count("fold1") == 1
    assert {checkpoint for _, checkpoint in calls.trained} == {None}
    assert (output / "unfinished-fold2" / "metrics.csv").is_file()
    assert (output / "unfinished-fold2-1" / "metrics.csv").is_file()
    assert read_coco(output / "fold2" / "train.json").images


def test_a_kill_while_scoring_does_not_train_again(
    calls: Calls, data_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output, config = tmp_path / "out", make_config(data_json)
    calls.break_scoring_of = "fold2"
    with pytest.raises(RuntimeError, match="killed"):
        cross_validate(config, output, SPLIT, RESAMPLING)
    calls.break_scoring_of = ""
    capsys.readouterr()
    cross_validate(config, output, SPLIT, RESAMPLING)
    assert "fold2 (2 of 3): trained before, 3 images to score\n" in capsys.readouterr().out
    assert [name for name, _ in calls.trained] == ["fold1", "fold2", "fold3"]
    assert calls.scored == ["fold1", "fold2", "fold2", "fold3"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", '{"contract": {"hash": "by hand"}}'),
        ("matches.npz", "half"),
        ("predictions.json", "["),
    ],
)
def test_a_fold_whose_scores_were_replaced_is_scored_again(
    file: str, content: str, calls: Calls, data_json: Path, tmp_path: Path
) -> None:
    output, config = tmp_path / "out", make_config(data_json)
    first = cross_validate(config, output, SPLIT, RESAMPLING)
    (output / "fold3" / "eval" / file).write_text(content)
    assert cross_validate(config, output, SPLIT, RESAMPLING) == first
    assert len(calls.trained) == 3
    assert calls.scored[3:] == ["fold3"]


def test_a_fold_whose_weights_are_gone_but_whose_scores_are_there_is_kept(
    calls: Calls, data_json: Path, tmp_path: Path
) -> None:
    output, config = tmp_path / "out", make_config(data_json)
    cross_validate(config, output, SPLIT, RESAMPLING)
    for name in ("fold1", "fold2"):
        (output / name / "checkpoints" / "last.ckpt").unlink()
    (output / "fold2" / "eval" / "metrics.json").unlink()  # this one can only be had by training again
    cross_validate(config, output, SPLIT, RESAMPLING)
    assert calls.trained[3:] == [("fold2", None)]


def test_another_configuration_or_data_is_one_line_that_names_it(
    calls: Calls, data_json: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    cross_validate(make_config(data_json), output, SPLIT, RESAMPLING)
    other = make_dataset("boxes", tmp_path / "other", 8, (32, 32), seed=9)
    before = files_of(output)
    for config, split, part in (
        (
            make_config(data_json, learning_rate=0.01),
            SPLIT,
            "config.learning_rate 0.002, asked for now is 0.01",
        ),
        (make_config(data_json), FoldSplit(4), "split.folds 3, asked for now is 4"),
        (make_config(other), SPLIT, "data.annotations"),
    ):
        with pytest.raises(ValueError) as caught:
            cross_validate(config, output, split, RESAMPLING)
        assert part in str(caught.value)
        assert str(caught.value).startswith(f"{output} holds a cross-validation with")
        assert "\n" not in str(caught.value)
    assert files_of(output) == before
    assert len(calls.trained) == 3


def test_one_group_left_out_draws_the_folds(
    calls: Calls, data_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    split = FoldSplit(None, True, "video")
    scores = cross_validate(make_config(data_json), tmp_path / "out", split, RESAMPLING)
    assert (scores.unit, scores.n_units) == ("fold", 2)
    assert list(scores.metrics["mean_error_px"].values) == ["0", "1"]
    assert scores.metrics["mean_error_px"].values == {"0": 7.0, "1": 2.5}  # ids 9 to 5, and 4 to 1
    assert [option.group_by for option in calls.options] == [None, None]  # a fold holds one group
    assert "0 (1 of 2): 4 images of other groups to train on, 5 to score\n" in capsys.readouterr().out


def test_other_definitions_in_a_fold_are_refused(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    calls.thresholds["fold2"] = 4.0
    with pytest.raises(ValueError, match=r"thresholds 2.0 in fold1 and 4.0 in fold2; give it as a flag"):
        cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)


def test_an_interruption_says_how_to_go_on(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    calls.break_training_of, calls.error = "fold2", TrainingInterrupted("resume with --ckpt_path x")
    with pytest.raises(TrainingInterrupted, match=r"^interrupted in fold2; the same command goes on"):
        cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)


def test_the_run_of_wandb_ends_with_its_fold(
    calls: Calls, data_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []
    stand_in = types.SimpleNamespace(finish=lambda: ended.append(len(calls.trained)))
    monkeypatch.setitem(cross_validation.sys.modules, "wandb", stand_in)
    names = []
    monkeypatch.setattr(
        cross_validation, "train", lambda config: (names.append(config.wandb_name), calls.train(config))
    )
    config = make_config(data_json, wandb_project="p")
    cross_validate(config, tmp_path / "out", SPLIT, RESAMPLING)
    assert ended == [1, 2, 3]
    assert names == ["out-fold1", "out-fold2", "out-fold3"]
