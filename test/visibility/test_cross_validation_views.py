import json
import shutil
from pathlib import Path

import pytest
from point_data import make_points, tiny_config

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility import cross_validation
from keypoint_detection.visibility.compare_runs import fold_folders
from keypoint_detection.visibility.cross_validation import cross_validate, planned_folds
from keypoint_detection.visibility.evaluate_files import read_evaluation
from keypoint_detection.visibility.synthetic_occluders import make_occluded
from keypoint_detection.visibility.train_config import VisibilityTrainConfig
from keypoint_detection.visibility.train_data import open_dataset

QUICK = Resampling(n_resamples=100)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_points(tmp_path_factory.mktemp("data"))


def test_folds_share_no_view_and_hold_every_view_once(points: Path) -> None:
    data = open_dataset(points)
    alone = planned_folds(data, None, 0)
    assert alone == {view: [view] for view in data.views}
    for seed in range(4):
        folds = planned_folds(data, 2, seed)
        assert list(folds) == ["fold1", "fold2"]
        assert sorted(view for views in folds.values() for view in views) == data.views
        assert {len(views) for views in folds.values()} == {2}
    with pytest.raises(ValueError, match="at least 5 views for as many folds, got 4"):
        planned_folds(data, 5, 0)


def test_a_cross_validation_goes_on_and_repeats_nothing(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(points, tmp_path, max_epochs=1, eval_group="tiny")
    output, calls = tmp_path / "folds", []
    original = cross_validation.train

    def counted(config: VisibilityTrainConfig, **options: object) -> object:
        calls.append(config.run_name)
        if len(calls) == 2:
            raise RuntimeError("the machine is switched off")
        return original(config, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(cross_validation, "train", counted)
    with pytest.raises(RuntimeError):
        cross_validate(config, output, folds=2, resampling=QUICK, is_quiet=True)
    with pytest.raises(ValueError, match="without scores of 'fold2'"):
        fold_folders([output])
    comparison = cross_validate(config, output, folds=2, resampling=QUICK, is_quiet=True)
    assert calls == ["fold1", "fold2", "fold2"]
    assert comparison.groups == ("tiny",)
    assert comparison.unit == "group"
    assert comparison.n_units == 4
    data = open_dataset(points)
    seen = [read_evaluation(output / name / "eval").table for name in ("fold1", "fold2")]
    assert sum(map(len, seen)) == len(data.table)
    assert not set(seen[0].point_views.tolist()) & set(seen[1].point_views.tolist())
    for name in ("comparison.csv", "comparison.md", "comparison.png", "confusions.png"):
        assert (output / name).is_file()
    cross_validate(config, output, folds=2, resampling=QUICK, is_quiet=True)
    assert len(calls) == 3
    (output / "fold1" / "eval" / "metrics.json").write_text("{}")  # damaged: it is scored again
    cross_validate(config, output, folds=2, resampling=QUICK, is_quiet=True)
    assert calls[3:] == ["fold1"]


def test_other_settings_and_other_folders_are_refused(points: Path, tmp_path: Path) -> None:
    config = tiny_config(points, tmp_path, max_epochs=1)
    output = tmp_path / "folds"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        cross_validate(config, output, is_quiet=True)
    (output / "notes.txt").unlink()
    data = open_dataset(points)
    views = planned_folds(data, 2, config.seed)
    settings = cross_validation._settings(config, data, 2)
    cross_validation._open_record(output, settings, views, "tiny")
    other = config.model_copy(update={"size_hidden": 8})
    with pytest.raises(ValueError, match=r"config\.size_hidden 4, asked for now is 8"):
        cross_validate(other, output, folds=2, is_quiet=True)
    with pytest.raises(ValueError, match=r"split\.folds 2, asked for now is null"):
        cross_validate(config, output, is_quiet=True)
    (output / "folds.json").write_text(json.dumps({"format": "something"}))
    with pytest.raises(ValueError, match="expected the record of a cross-validation over views"):
        cross_validate(config, output, folds=2, is_quiet=True)
    shutil.rmtree(output)
    with pytest.raises(ValueError, match="--run_name does not go together"):
        cross_validate(config.model_copy(update={"run_name": "a"}), output, folds=2)
    assert not output.exists()


def test_nothing_is_written_to_a_folder_of_something_else(tmp_path: Path) -> None:
    json_path = make_occluded(tmp_path / "coco", 4, (64, 64), seed=1)
    values = tiny_config(tmp_path, tmp_path).model_dump()
    config = VisibilityTrainConfig(
        **{**values, "data": None, "json_dataset_path": str(json_path), "factors": [1]}
    )
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        cross_validate(config, output, is_quiet=True)
    assert [path.name for path in output.iterdir()] == ["notes.txt"]
