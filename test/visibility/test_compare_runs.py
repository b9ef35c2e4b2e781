from pathlib import Path

import numpy as np
import pytest

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.compare_runs import fold_folders, write_group_comparison
from keypoint_detection.visibility.evaluate_files import write_evaluation
from keypoint_detection.visibility.folds_file import FoldsRecord
from keypoint_detection.visibility.points import PointTable

QUICK = Resampling(n_resamples=100)


def evaluation(folder: Path, views: tuple[str, ...], skill: float, group: str | None = None) -> Path:
    """Write an evaluation of three images of each view; the points depend on the views alone."""
    rng = np.random.default_rng([*"".join(views).encode()])
    image = np.repeat(np.arange(3 * len(views)), 30)
    label = rng.integers(0, 2, len(image)).astype(np.uint8)
    table = PointTable(
        tuple(f"{view}/{index}.png" for view in views for index in range(3)),
        tuple(view for view in views for _ in range(3)),
        np.full((3 * len(views), 2), 50),
        image,
        rng.uniform(0, 49, (len(image), 2)),
        np.full(len(image), np.nan),
        label,
    )
    logits = skill * (2.0 * label - 1) + rng.normal(0, 1, len(image))
    write_evaluation(folder, table, logits, resampling=QUICK, about={"eval_group": group} if group else None)
    return folder


def test_group_and_fold_come_from_what_was_written(tmp_path: Path) -> None:
    run = evaluation(tmp_path / "run" / "eval", ("b", "a"), 1.0).parent
    named = evaluation(tmp_path / "elsewhere", ("a", "b", "c", "d"), 1.0, "wide")
    found = fold_folders([run, named])
    assert [(one.group, one.fold) for one in found] == [("run", "a, b"), ("wide", "4 views")]
    assert found[0].folder == run / "eval"
    renamed = fold_folders([run, named], ["x", "y"])
    assert [one.group for one in renamed] == ["x", "y"]


def test_a_cross_validation_gives_all_its_folds(tmp_path: Path) -> None:
    for view in ("a", "b"):
        evaluation(tmp_path / view / "eval", (view,), 1.0)
    FoldsRecord("mine", {}, {"a": ["a"], "b": ["b"]}, {"a": "1", "b": "2"}).write(tmp_path)
    assert [(one.group, one.fold) for one in fold_folders([tmp_path])] == [("mine", "a"), ("mine", "b")]


def test_groups_are_compared_in_one_table_and_figure(tmp_path: Path) -> None:
    folders = [
        evaluation(tmp_path / group / view, (view,), skill, group)
        for group, skill in (("good", 2.0), ("bad", 0.2))
        for view in ("a", "b", "c", "d", "e")
    ]
    comparison = write_group_comparison(fold_folders(folders), tmp_path / "out", QUICK)
    assert comparison.groups == ("good", "bad")
    assert comparison.folds == ("a", "b", "c", "d", "e")
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "auroc: good is highest" in text
    assert "beyond the interval differ: bad" in text
    for name in ("comparison.png", "confusions.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 1 + 9 * 2 * 6


def test_wrong_folders_and_names_are_one_line(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "one", ("a",), 1.0)
    with pytest.raises(ValueError, match="a name for each of 1 folders, got 2"):
        fold_folders([folder], ["x", "y"])
    with pytest.raises(FileNotFoundError, match="expected a run, an evaluation or a cross-validation"):
        fold_folders([tmp_path])
    (folder / "metrics.json").write_text("[]")
    with pytest.raises(ValueError, match=r"metrics\.json: expected the numbers of an evaluation"):
        fold_folders([folder])
