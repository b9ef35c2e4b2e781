import json
import math
from pathlib import Path

import pytest
import torch

from keypoint_detection.compare import compare_runs, compare_with_first, read_evaluation
from keypoint_detection.compare_table import verdict
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.metric_contract import with_hash
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.score_sheet import ReindexedStatistic, ScoreSheet, save_score_sheet

CONTRACT = {"thresholds": [2.0], "oks": {"area": "box"}, "images": 40}
N = 40


def mean(name, per_image):
    """Return the mean over the images, over all channels and for the only one."""
    numbers = torch.as_tensor(per_image, dtype=torch.float64)[:, None].repeat(1, 2)
    return RatioStatistic((name, f"stem/{name}"), numbers, torch.ones_like(numbers))


def noise(seed, n=N):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_sheet(shift=0.0, seed=0, n=N, groups=None):
    """Return errors of about 10 px and a PCK of about 0.5, better by the shift, with seeded noise."""
    images = 10 + noise(1, n)
    errors = mean("mean_error_px", images + 0.1 * noise(10 + seed, n) - shift)
    return ScoreSheet(torch.arange(n) + 100, groups, (errors, mean("pck@0.1", (images + shift) / 20)))


def permuted(sheet, seed=7):
    """Return the same sheet as if the file had listed the images in another order."""
    order = torch.randperm(len(sheet.image_ids), generator=torch.Generator().manual_seed(seed))
    groups = None if sheet.groups is None else tuple(sheet.groups[row] for row in order.tolist())
    statistics = tuple(
        RatioStatistic(one.columns, one.numerator[order], one.denominator[order], one.root)
        for one in sheet.statistics
    )
    return ScoreSheet(sheet.image_ids[order], groups, statistics)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a run with an evaluation and returns its folder."""

    def written(name, sheet, contract=CONTRACT, **values):
        folder = tmp_path / name / "eval"
        save_score_sheet(sheet, folder / "matches.npz")
        numbers = {
            k: None if math.isnan(v) else v for k, v in (sheet.values() | values).items() if "/" not in k
        }
        report = {
            "contract": with_hash(contract),
            "metrics": {metric: {"value": number} for metric, number in numbers.items()},
        }
        (folder / "metrics.json").write_text(json.dumps(report))
        return tmp_path / name

    return written


def failure(kind, *args):
    with pytest.raises(kind) as caught:
        compare_runs(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_clear_shift_is_found_and_has_its_direction(write):
    a, b = write("a", make_sheet()), write("b", make_sheet(shift=0.5, seed=1))
    comparison = compare_runs(a, b, n_resamples=300)
    found = comparison.differences
    assert list(found) == ["mean_error_px", "stem/mean_error_px", "pck@0.1", "stem/pck@0.1"]
    assert found["mean_error_px"].value_a == pytest.approx(10, abs=1)
    assert found["mean_error_px"].difference == pytest.approx(-0.5, abs=0.1)
    assert found["mean_error_px"].high < 0
    assert found["mean_error_px"].p_value < 0.05
    assert found["pck@0.1"].difference == pytest.approx(0.025)
    assert {name: verdict(name, one) for name, one in found.items()} == dict.fromkeys(found, "better")
    back = compare_runs(b, a, n_resamples=300).differences
    assert back["mean_error_px"].difference == -found["mean_error_px"].difference
    assert {verdict(name, one) for name, one in back.items()} == {"worse"}


def test_noise_alone_shows_no_difference(write):
    a, b = write("a", make_sheet(seed=0)), write("b", make_sheet(seed=2))
    difference = compare_runs(a, b).differences["mean_error_px"]
    assert difference.difference != 0
    assert difference.low < 0 < difference.high
    assert verdict("mean_error_px", difference) == "no difference shown"
    # The noise of the difference is 0.1 * sqrt(2) px per image; 2.80 standard errors can be resolved.
    assert difference.resolvable == pytest.approx(2.80 * 0.1 * math.sqrt(2 / N), rel=0.4)


@pytest.mark.parametrize("order", [lambda sheet: sheet, permuted])
def test_a_run_does_not_differ_from_itself(write, order):
    sheet = make_sheet(groups=tuple(f"video {row % 9}" for row in range(N)))
    comparison = compare_runs(write("a", sheet), write("b", order(sheet)), n_resamples=200)
    for name, difference in comparison.differences.items():
        assert difference.value_a == difference.value_b
        assert difference[2:] == (0.0, 0.0, 0.0, 1.0, 0.0)
        assert verdict(name, difference) == "no difference shown"


@pytest.mark.parametrize("groups", [None, tuple(f"video {row % 9}" for row in range(N))])
def test_the_order_of_the_images_changes_nothing(write, groups):
    one, other = make_sheet(groups=groups), make_sheet(shift=0.02, seed=3, groups=groups)
    straight = compare_runs(write("a", one), write("b", other), n_resamples=200)
    mixed = compare_runs(write("c", permuted(one)), write("d", permuted(other, seed=8)), n_resamples=200)
    assert mixed.differences == straight.differences
    assert mixed.n_groups == straight.n_groups == (None if groups is None else 9)
    assert mixed.n_images == N


def test_samples_follow_their_image(write):
    # Two crops in image 3, one in image 5, none in image 4.
    crops = mean("mean_error_px", [4.0, 8.0, 6.0])
    one = ScoreSheet(torch.tensor([5, 4, 3]), None, (ReindexedStatistic(crops, torch.tensor([2, 2, 0])),))
    moved = ReindexedStatistic(mean("mean_error_px", [6.0, 4.0, 8.0]), torch.tensor([1, 0, 0]))
    other = ScoreSheet(torch.tensor([3, 5, 4]), None, (moved,))
    comparison = compare_runs(write("a", one), write("b", other))
    assert comparison.differences["mean_error_px"][:3] == (6.0, 6.0, 0.0)
    assert comparison.differences["mean_error_px"].p_value == 1.0


def test_every_way_to_name_an_evaluation_is_the_same(write):
    run = write("a", make_sheet())
    other = write("b", make_sheet(seed=1))
    expected = compare_runs(run, other, n_resamples=50)
    for path in (run / "eval", run / "eval" / "metrics.json", str(run)):
        found = compare_runs(path, other, n_resamples=50)
        assert found.differences == expected.differences
        assert found.names == (str(path), str(other))


def test_the_seed_and_the_level_are_used(write):
    a, b = write("a", make_sheet()), write("b", make_sheet(seed=1))
    found = [
        compare_runs(a, b, n_resamples=100, level=level, seed=seed).differences["mean_error_px"]
        for level, seed in ((0.95, 0), (0.95, 1), (0.5, 0))
    ]
    assert found[0].low != found[1].low
    assert found[2].high - found[2].low < 0.7 * (found[0].high - found[0].low)


def test_other_definitions_are_refused_with_their_fields(write):
    a = write("a", make_sheet())
    b = write("b", make_sheet(), contract={**CONTRACT, "thresholds": [4.0], "oks": {"area": "given"}})
    assert failure(ValueError, a, b) == (
        f'{a} and {b} are scored by different definitions: oks.area "box" / "given", thresholds [2.0]'
        " / [4.0]; score both with the same flags of keypoint-detection eval"
    )


def test_other_images_are_refused_with_their_number(write):
    a, b = write("a", make_sheet(n=5)), write("b", make_sheet(n=8))
    assert failure(ValueError, a, b) == (
        f"0 images are only in {a} and 3 only in {b}; compare needs two runs that are scored on the"
        " same images"
    )


def test_other_groups_are_refused(write):
    one = make_sheet(n=4, groups=("u", "u", "v", "w"))
    a, b = write("a", one), write("b", make_sheet(n=4))
    c = write("c", make_sheet(n=4, groups=("u", "v", "v", "w")))
    assert failure(ValueError, a, b) == (
        f"{a} has 3 groups such as 'u' and {b} has no groups of images; score both with the same --group_by"
        " of keypoint-detection eval"
    )
    assert "score both with the same --group_by" in failure(ValueError, a, c)


def test_a_metric_of_one_run_alone_is_refused(write):
    sheet = make_sheet()
    a, b = write("a", sheet), write("b", ScoreSheet(sheet.image_ids, None, sheet.statistics[:1]))
    message = failure(ValueError, b, a)
    assert message.startswith(f"2 metrics are in one run only, such as pck@0.1 in {a}; score both")


def test_a_run_that_tells_occluded_keypoints_is_compared_in_all_other_numbers(write, caplog):
    caplog.set_level("INFO", "keypoint_detection")
    sheet, better = make_sheet(), make_sheet(shift=0.5, seed=1)
    told = (*better.statistics, mean("visibility_accuracy", noise(3)))
    contract = {**CONTRACT, "visibility_scores": "by the sign"}
    a = write("a", sheet)
    b = write("b", ScoreSheet(better.image_ids, None, told), contract)
    plain = compare_runs(a, write("c", better), n_resamples=50)
    assert "not compared" not in caplog.text
    for pair in ((a, b), (b, a)):
        found = compare_runs(*pair, n_resamples=50)
        assert found.contract_hash == plain.contract_hash
        assert found.differences.keys() == plain.differences.keys()
    assert compare_runs(a, b, n_resamples=50).differences == plain.differences
    assert f"only {b} tells occluded keypoints: visibility_accuracy and visibility_auroc are" in caplog.text
    assert "visibility_accuracy" in compare_runs(b, b, n_resamples=50).differences
    other = write("d", ScoreSheet(better.image_ids, None, told), contract | {"thresholds": [4.0]})
    assert "thresholds [2.0] / [4.0]; score" in failure(ValueError, a, other)


def test_what_is_no_evaluation_is_refused(write, tmp_path):
    a = write("a", make_sheet())
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty", a / "eval" / "matches.npz"):
        message = failure(FileNotFoundError, path, a)
        assert message.startswith(
            f"{path}: expected a folder with metrics.json and matches.npz, or a run folder"
        )
        assert message.endswith("make it with keypoint-detection eval")


def test_an_evaluation_without_matches_is_to_be_scored_again(write):
    a, b = write("a", make_sheet()), write("b", make_sheet())
    (b / "eval" / "matches.npz").unlink()
    message = failure(FileNotFoundError, a, b)
    assert str(b / "eval" / "matches.npz") in message
    assert "score the run again with keypoint-detection eval" in message


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"contract": {}, "metrics": {}}', '{"contract": {"hash": "a"}, "metrics": 1}'],
)
def test_broken_metrics_are_refused(write, content):
    a, b = write("a", make_sheet()), write("b", make_sheet())
    (b / "eval" / "metrics.json").write_text(content)
    message = failure(ValueError, a, b)
    assert message.startswith(f"{b / 'eval' / 'metrics.json'}: expected metrics and the contract")


def test_metrics_of_another_evaluation_than_the_matches_are_refused(write):
    a, b = write("a", make_sheet()), write("b", make_sheet(), **{"pck@0.1": 0.25})
    message = failure(ValueError, a, b)
    assert "metrics.json and matches.npz are of two evaluations: pck@0.1 is 0.25 in one" in message
    assert read_evaluation(a).sheet.values() == make_sheet().values()


@pytest.mark.parametrize(("level", "least"), [(0.95, 20), (0.5, 2), (0.99, 100)])
def test_too_few_resamples_for_the_level_are_refused(level: float, least: int, tmp_path: Path) -> None:
    # The least p-value is 1 / (n + 1): with fewer, an interval could leave out 0 while p says nothing.
    with pytest.raises(ValueError, match=f"at least {least} for level {level:g}, got {least - 1}"):
        compare_runs(tmp_path, tmp_path, n_resamples=least - 1, level=level)
    with pytest.raises(FileNotFoundError):
        compare_runs(tmp_path, tmp_path, n_resamples=least, level=level)


def test_further_runs_are_each_compared_with_the_first(write) -> None:
    paths = [
        write(name, make_sheet(shift, seed))
        for name, shift, seed in (("a", 0, 0), ("b", 0.5, 1), ("c", 0, 2))
    ]
    resampling = Resampling(100, 0.9, seed=3)
    found = compare_with_first(paths, resampling)
    assert [one.names for one in found] == [(str(paths[0]), str(path)) for path in paths[1:]]
    alone = compare_runs(paths[0], paths[2], n_resamples=100, level=0.9, seed=3)
    assert found[1] == alone
    assert found[0].differences["pck@0.1"].difference == pytest.approx(0.025)
    with pytest.raises(ValueError, match="at least two runs to compare, got 1"):
        compare_with_first(paths[:1])
