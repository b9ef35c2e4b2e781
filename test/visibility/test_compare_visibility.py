import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keypoint_detection.compare_folds import compare_folds
from keypoint_detection.compare_reading import Evaluation
from keypoint_detection.fold_scores import Resampling, summarise_folds
from keypoint_detection.fold_scores_record import ScoredFolds
from keypoint_detection.metrics.binary_classification import SCORES, binary_scores, confusion_counts
from keypoint_detection.metrics.binary_classification_statistic import binary_intervals, binary_statistic
from keypoint_detection.metrics.paired_bootstrap import compare_statistics
from keypoint_detection.visibility import compare
from keypoint_detection.visibility.compare import FoldFolder, GroupComparison, compare_groups
from keypoint_detection.visibility.compare_difference import best_group
from keypoint_detection.visibility.evaluate_files import read_evaluation, write_evaluation
from keypoint_detection.visibility.points import PointTable

QUICK = Resampling(n_resamples=200)
SKILLS = {"good": 1.5, "same": 1.5, "bad": 0.3}
NOISE = {"same": 100}
"""Added to the seed of a group's noise: as good as another, but with errors of its own."""


def points(views: tuple[str, ...], seed: int, n_images: int = 6, per_image: int = 20) -> PointTable:
    """Return points of some images of each view."""
    rng, total = np.random.default_rng(seed), len(views) * n_images
    image = np.repeat(np.arange(total), per_image)
    return PointTable(
        image_names=tuple(f"{view}/{index}.png" for view in views for index in range(n_images)),
        views=tuple(view for view in views for _ in range(n_images)),
        image_hw=np.tile(np.array([[60, 80]], np.int64), (total, 1)),
        image=image.astype(np.int64),
        xy=rng.uniform(0, 59, (len(image), 2)),
        depth_m=np.full(len(image), np.nan),
        label=(rng.random(len(image)) < 0.5).astype(np.uint8),
    )


def logits_of(table: PointTable, skill: float, seed: int) -> np.ndarray:
    """Return logits that are as right as the skill is high."""
    noise = np.random.default_rng(seed).normal(0, 1, len(table))
    return skill * (2.0 * table.label - 1) + noise


def write_groups(
    folder: Path, folds: dict[str, tuple[str, ...]], skills: dict[str, float] | None = None
) -> list[FoldFolder]:
    found = []
    for group, skill in (skills or SKILLS).items():
        for seed, (fold, views) in enumerate(folds.items()):
            table = points(views, seed)
            write_evaluation(
                folder / group / fold,
                table,
                logits_of(table, skill, seed + NOISE.get(group, 0)),
                resampling=QUICK,
            )
            found.append(FoldFolder(group, fold, folder / group / fold))
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[FoldFolder]:
    """Return three groups with eight folds of one view each."""
    return write_groups(tmp_path_factory.mktemp("groups"), {f"fold{k}": (f"view{k}",) for k in range(8)})


@pytest.fixture(scope="module")
def comparison(folders: list[FoldFolder]) -> GroupComparison:
    return compare_groups(folders, QUICK)


def test_shape(comparison: GroupComparison) -> None:
    assert comparison.groups == tuple(SKILLS)
    assert comparison.folds == tuple(f"fold{k}" for k in range(8))
    assert [(row.metric, row.group) for row in comparison.scores] == [
        (metric, group) for metric in SCORES for group in SKILLS
    ]
    assert (comparison.n_points, comparison.n_images) == (8 * 6 * 20, 48)
    assert (comparison.unit, comparison.n_units) == ("fold", 8)


def test_numbers_of_folds_are_of_their_points(comparison: GroupComparison, folders: list[FoldFolder]) -> None:
    panels = comparison.panels()
    for group, fold, folder in folders:
        one = read_evaluation(folder)
        intervals = binary_intervals(one.logits, one.table.label, one.table.image, n_resamples=200)
        for metric, value in binary_scores(one.logits, one.table.label).items():
            assert panels[metric][group][fold].value == pytest.approx(value)
            assert panels[metric][group][fold] == pytest.approx(intervals[metric])


def test_overall_is_the_mean_over_the_folds(comparison: GroupComparison) -> None:
    for row in comparison.scores:
        mean = np.mean([interval.value for interval in row.folds.values()])
        assert row.overall.value == pytest.approx(mean)
        assert row.overall.low < mean < row.overall.high


def test_confusions_are_summed_over_the_folds(comparison: GroupComparison, folders: list[FoldFolder]) -> None:
    read = [(group, read_evaluation(folder)) for group, _, folder in folders]
    for group in SKILLS:
        logits = np.concatenate([one.logits for name, one in read if name == group])
        labels = np.concatenate([one.table.label for name, one in read if name == group])
        assert comparison.confusions[group].tolist() == confusion_counts(logits, labels).tolist()


def test_only_the_unskilled_group_differs_from_the_best(comparison: GroupComparison) -> None:
    found = {(row.metric, row.group): row for row in comparison.differences}
    for metric in ("accuracy", "balanced_accuracy", "auroc", "loss", "brier", "f1"):
        best = next(row.best for (name, _), row in found.items() if name == metric)
        assert best in ("good", "same")
        assert found[metric, "bad"].is_shown
        sign = 1 if metric in ("loss", "brier") else -1
        assert sign * found[metric, "bad"].difference.difference > 0
        assert (metric, best) not in found
    other = found["accuracy", "same" if ("accuracy", "same") in found else "good"]
    assert not other.is_shown


@pytest.mark.parametrize(
    "folds",
    [{f"fold{k}": (f"view{k}",) for k in range(6)}, {f"fold{k}": (f"a{k}", f"b{k}") for k in range(3)}],
    ids=["one view a fold", "two views a fold"],
)
def test_folds_are_compared_as_cross_validations_are(
    tmp_path: Path, folds: dict[str, tuple[str, ...]]
) -> None:
    """The means and differences over folds are those of the comparison of cross-validations."""
    folders = write_groups(tmp_path, folds, {"good": 1.5, "bad": 0.3})
    found = compare_groups(folders, QUICK)
    groups = compare._read_groups(folders)
    scored = {
        group: ScoredFolds(
            group,
            {
                name: Evaluation(name, one.contract, compare._sheet(one, by_view=True))
                for name, one in parts.items()
            },
        )
        for group, parts in groups.items()
    }
    expected = compare_folds(scored["good"], scored["bad"], QUICK)
    assert (
        (found.unit, found.n_units)
        == (expected.unit, expected.n_units)
        == (("fold", 6) if len(folds) == 6 else ("group", 6))
    )
    for row in found.differences:
        if row.best == "good":
            assert row.difference == pytest.approx(expected.differences[row.metric])
    for row in found.scores:
        summary = summarise_folds(scored[row.group].sheets, QUICK).metrics[row.metric]
        assert row.overall == pytest.approx((summary.mean, summary.low, summary.high))


def test_one_fold_of_one_view_is_drawn_from_its_images(tmp_path: Path) -> None:
    folders = write_groups(tmp_path, {"all": ("view",)}, {"good": 1.5, "bad": 0.3})
    found = compare_groups(folders, QUICK)
    assert (found.unit, found.n_units) == ("image", 6)
    one, other = (read_evaluation(folder.folder) for folder in folders)
    table = one.table
    statistics = [[binary_statistic(side.logits, table.label, table.image, 6)] for side in (one, other)]
    expected = compare_statistics(*statistics, n_images=6, n_resamples=200)
    for row in found.differences:
        if row.best == "good":  # the same draws up to the seed of the fold
            assert row.difference[:3] == pytest.approx(expected[row.metric][:3])
            assert row.difference.low < row.difference.difference < row.difference.high


def test_order_of_points_and_images_does_not_count(tmp_path: Path) -> None:
    """One group lists its points in another order: pairs are made by image all the same."""
    folders = write_groups(tmp_path, {"all": ("a", "b")}, {"good": 1.5, "bad": 0.3})
    expected = compare_groups(folders, QUICK)
    one = read_evaluation(folders[1].folder)
    order = np.random.default_rng(0).permutation(len(one.table))
    write_evaluation(folders[1].folder, one.table.select(order), one.logits[order], resampling=QUICK)
    found = compare_groups(folders, QUICK)
    for left, right in zip(found.differences, expected.differences, strict=True):
        assert left.difference == pytest.approx(right.difference)


def test_a_group_that_says_the_same_does_not_differ(tmp_path: Path) -> None:
    folders = write_groups(tmp_path, {"one": ("a", "b"), "two": ("c", "d")}, {"x": 1.0, "y": 1.0})
    for row in compare_groups(folders, QUICK).differences:
        assert row.best == "x"
        assert row.difference[2:6] == (0.0, 0.0, 0.0, 1.0)
        assert not row.is_shown


def test_a_fold_of_one_class_is_left_out_of_the_mean(tmp_path: Path) -> None:
    folders = write_groups(tmp_path, {"one": ("a", "b"), "two": ("c", "d")}, {"x": 1.0, "y": 0.2})
    for group, fold, folder in folders:
        one = read_evaluation(folder)
        if fold == "two":
            table = replace(one.table, label=np.ones_like(one.table.label))
            write_evaluation(folder, table, one.logits, resampling=QUICK)
        assert group in ("x", "y")
    found = compare_groups(folders, QUICK)
    for row in found.scores:
        if row.metric == "auroc":
            assert math.isnan(row.folds["two"].value)
            assert row.overall.value == row.folds["one"].value
    (difference,) = (row.difference for row in found.differences if row.metric == "auroc")
    assert difference.value_b < difference.value_a


def test_one_group_has_no_differences(folders: list[FoldFolder]) -> None:
    found = compare_groups(folders[:8], QUICK)
    assert found.groups == ("good",)
    assert found.differences == ()


def test_best_group() -> None:
    assert best_group("accuracy", {"a": 0.7, "b": 0.9, "c": 0.9, "d": math.nan}) == "b"
    assert best_group("loss", {"a": 0.7, "b": 0.9}) == "a"
    assert best_group("auroc", {"a": math.nan}) is None


def test_other_points_are_refused(tmp_path: Path) -> None:
    folders = write_groups(tmp_path, {"one": ("a",), "two": ("b",)}, {"x": 1.0, "y": 0.2})
    one = read_evaluation(folders[3].folder)
    moved = replace(one.table, xy=one.table.xy + 0.5)
    write_evaluation(folders[3].folder, moved, one.logits, resampling=QUICK)
    with pytest.raises(
        ValueError, match=r"fold 'two': .*of other points: [0-9a-f]{12} and [0-9a-f]{12}"
    ) as error:
        compare_groups(folders, QUICK)
    assert "\n" not in str(error.value)


def test_other_definitions_are_refused(tmp_path: Path) -> None:
    folders = write_groups(tmp_path, {"one": ("a",)}, {"x": 1.0, "y": 0.2})
    file = Path(folders[1].folder) / "metrics.json"
    file.write_text(re.sub("15 bins", "10 bins", file.read_text()))
    with pytest.raises(ValueError, match=r"of other definitions \(ece\): 15 bins .* and 10 bins"):
        compare_groups(folders, QUICK)


def test_other_folds_are_refused(folders: list[FoldFolder]) -> None:
    with pytest.raises(ValueError, match="got 8 in 'good' and 7 in 'bad': 'bad' lacks 'fold7'"):
        compare_groups(folders[:-1], QUICK)
    with pytest.raises(ValueError, match="got 7 in 'good' and 8 in 'same': 'good' lacks 'fold0'"):
        compare_groups(folders[1:], QUICK)


def test_a_fold_twice_is_refused(folders: list[FoldFolder]) -> None:
    with pytest.raises(ValueError, match=r"'good' has fold 'fold0' already, from .*--eval_group"):
        compare_groups([*folders, folders[0]], QUICK)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one evaluation to compare, got none"):
        compare_groups([])
