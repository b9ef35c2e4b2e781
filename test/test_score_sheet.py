import contextlib
import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
import torch

from keypoint_detection.metrics.average_precision_statistic import AveragePrecisionStatistic
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.metrics.oks_average_precision import OKSAveragePrecision
from keypoint_detection.metrics.visibility_statistics import VisibilityStatistic
from keypoint_detection.score_sheet import (
    STATISTICS,
    ReindexedStatistic,
    ScoreSheet,
    load_score_sheet,
    reindexed,
    save_score_sheet,
)

DOUBLE = {"dtype": torch.float64}


def ratio_statistic(n=4, *, name="error", seed=0, root=False):
    numbers = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), **DOUBLE)
    bottom = torch.arange(2 * n, **DOUBLE).reshape(n, 2)
    return RatioStatistic((name, f"stem/{name}"), numbers, bottom, root)


def precision_statistic():
    """Return two images of one channel: a hit at 0.8 and a false one at 0.9, one target each."""
    return AveragePrecisionStatistic(
        scores=torch.tensor([0.8, 0.9], **DOUBLE),
        matched=torch.tensor([[True], [False]]),
        ignored=torch.tensor([[False], [False]]),
        num_detections=torch.tensor([[1], [1]]),
        num_targets=torch.tensor([[1], [1]]),
        interpolation="101",
        channel_names=("stem = leaf é",),
        threshold_names=("ap@2px",),
    )


def oks_statistic():
    """Return two images of one instance each: one found within a pixel, one far away."""
    metric = OKSAveragePrecision([0.05, 0.1])
    labels = {"keypoints": torch.tensor([[[10.0, 10.0], [20.0, 20.0]]]), "visibility": torch.tensor([[2, 1]])}
    target = {**labels, "area": torch.tensor([2500.0])}
    found = [
        {"keypoints": labels["keypoints"] + shift, "scores": torch.tensor([0.5 + shift / 100])}
        for shift in (1.0, 40.0)
    ]
    metric.update(found, [{**target, "image_id": 7}, {**target, "image_id": 5}])
    statistic, image_ids = metric.statistic()
    assert image_ids.tolist() == [5, 7]
    return statistic


def make_sheet(n=4, groups=None):
    total = RatioStatistic(("missed",), torch.arange(n, **DOUBLE)[:, None])
    return ScoreSheet(torch.arange(n) + 10, groups, (ratio_statistic(n), total))


def assert_same(one, other):
    """Compare two frozen dataclasses field by field, tensors bit by bit."""
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for part, other_part in zip(one, other, strict=True):
            assert_same(part, other_part)
    else:
        assert one == other


def saved(sheet, tmp_path):
    save_score_sheet(sheet, tmp_path / "eval" / "matches.npz")
    return load_score_sheet(tmp_path / "eval" / "matches.npz")


def test_values_are_those_of_the_statistics_by_name():
    numbers = torch.tensor([[3.0], [5.0]], **DOUBLE)
    mean = RatioStatistic(("mean_error_px",), numbers, torch.ones(2, 1, **DOUBLE))
    undefined = RatioStatistic(("rmse_px",), numbers, torch.zeros(2, 1, **DOUBLE))
    values = ScoreSheet(torch.tensor([4, 2]), None, (mean, undefined, precision_statistic())).values()
    assert list(values) == [
        "mean_error_px",
        "rmse_px",
        *("map", "ap@2px", "stem = leaf é/map", "stem = leaf é/ap@2px"),
    ]
    assert values["mean_error_px"] == 4.0
    assert np.isnan(values["rmse_px"])
    # Recall 0.5 at precision 0.5: 51 of the 101 recalls.
    assert values["map"] == pytest.approx(0.5 * 51 / 101)


def test_intervals_hold_the_values_and_resample_groups():
    one, grouped = make_sheet(6), make_sheet(6, ("a", "a", "a", "b", "b", "b"))
    intervals = one.intervals(n_resamples=200, level=0.9, method="percentile", seed=3)
    assert {name: interval.value for name, interval in intervals.items()} == one.values()
    assert all(interval.low < interval.value < interval.high for interval in intervals.values())
    # Of two groups with 0 + 1 + 2 and 3 + 4 + 5 missed, a resample has 6, 15 or 24.
    missed = grouped.intervals(n_resamples=200, method="percentile")["missed"]
    assert tuple(missed) == (15.0, 6.0, 24.0)


@pytest.mark.parametrize("n_resamples", [50, 60])
def test_intervals_take_the_order_of_their_arguments_from_the_command(n_resamples):
    one = make_sheet(6)
    assert one.intervals(n_resamples, 0.8, "percentile", 1) == one.intervals(
        seed=1, method="percentile", level=0.8, n_resamples=n_resamples
    )


def test_an_image_id_comes_once_and_every_image_has_a_group():
    with pytest.raises(ValueError, match="expected every image id once, got 1 again"):
        ScoreSheet(torch.tensor([1, 2, 1]), None, ())
    with pytest.raises(ValueError, match="expected a group for each of 2 images, got 1"):
        ScoreSheet(torch.tensor([1, 2]), ("a",), ())


def test_samples_count_as_often_as_their_image():
    errors = torch.tensor([[1.0], [2.0], [4.0]], **DOUBLE)
    samples = RatioStatistic(("error",), errors, torch.ones(3, 1, **DOUBLE))
    images = ReindexedStatistic(samples, torch.tensor([2, 0, 0]))
    assert images.columns == ("error",)
    assert images.value().tolist() == [7 / 3]
    # Image 0 has the errors 2 and 4, image 1 none, image 2 has 1.
    found = images(torch.tensor([[1, 1, 1], [2, 5, 1], [0, 1, 3], [0, 1, 0]]))
    assert found.flatten()[:3].tolist() == [7 / 3, 13 / 5, 1.0]
    assert found[3].isnan()


@pytest.mark.parametrize("statistic", [ratio_statistic(2), precision_statistic(), oks_statistic()])
def test_reindexing_again_follows_the_images(statistic):
    twice = reindexed(ReindexedStatistic(statistic, torch.tensor([1, 0])), torch.tensor([2, 0]))
    weights = torch.tensor([[3, 9, 1], [1, 9, 0]])
    expected = statistic(torch.tensor([[3, 1], [1, 0]]))
    assert_same(twice(weights), expected)
    assert_same(twice.value(), statistic.value())


def test_the_order_of_images_changes_no_bit():
    statistic, n = ratio_statistic(50), 50
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    shuffled = RatioStatistic(statistic.columns, statistic.numerator[order], None, root=True)
    straight = dataclasses.replace(statistic, denominator=None, root=True)
    groups = tuple(f"video {row % 7}" for row in range(n))
    one = ScoreSheet(torch.arange(n), groups, (straight,)).in_order_of_ids()
    other = ScoreSheet(order, tuple(groups[row] for row in order.tolist()), (shuffled,)).in_order_of_ids()
    assert one.groups == other.groups == groups
    assert torch.equal(one.image_ids, other.image_ids)
    weights = torch.randint(0, 4, (20, n), generator=torch.Generator().manual_seed(2))
    assert torch.equal(one.statistics[0](weights), straight(weights))
    assert torch.equal(other.statistics[0](weights), straight(weights))
    assert one.intervals(100) == other.intervals(100)


SAVED = {
    "ratio": ratio_statistic(),
    "root": ratio_statistic(root=True),
    "sum": RatioStatistic(("missed",), torch.tensor([[-0.0], [1e-310], [0.1], [3.0]], **DOUBLE)),
    "single": RatioStatistic(("half",), torch.tensor([[0.1]], dtype=torch.float32)),
    "not contiguous": RatioStatistic(("a", "b"), torch.rand(2, 4, **DOUBLE).T),
    "no columns": RatioStatistic((), torch.zeros(4, 0, **DOUBLE)),
    "no images": ReindexedStatistic(ratio_statistic(0), torch.zeros(0, dtype=torch.int64)),
    "precision": precision_statistic(),
    "oks": oks_statistic(),
    "oks of images": ReindexedStatistic(oks_statistic(), torch.tensor([1, 3])),
    "visibility": VisibilityStatistic(
        torch.tensor([0.1, -0.5, 0.3], **DOUBLE),
        torch.tensor([True, False, True]),
        torch.ones(3, 1).long(),
        ("a",),
    ),
    "samples": ReindexedStatistic(precision_statistic(), torch.tensor([3, 0])),
    "nested": ReindexedStatistic(
        ReindexedStatistic(ratio_statistic(), torch.tensor([3, 2, 1, 0])), torch.arange(4)
    ),
}


def test_every_class_of_the_table_is_among_them():
    assert {type(statistic) for statistic in SAVED.values()} == set(STATISTICS.values())


@pytest.mark.parametrize("groups", [None, ("a", "b", "", "ü / 1")])
def test_every_statistic_survives_a_file_bit_for_bit(tmp_path, groups):
    sheet = ScoreSheet(torch.tensor([2**62, -1, 7, 0]), groups, tuple(SAVED.values()))
    assert_same(saved(sheet, tmp_path), sheet)


@pytest.mark.parametrize("name", SAVED)
def test_a_sheet_of_one_statistic_survives_a_file(tmp_path, name):
    sheet = ScoreSheet(torch.arange(4), None, (SAVED[name],))
    found = saved(sheet, tmp_path)
    assert_same(found, sheet)
    np.testing.assert_equal(found.values(), sheet.values())


def test_an_empty_sheet_survives_a_file(tmp_path):
    sheet = ScoreSheet(torch.zeros(0, dtype=torch.int64), (), ())
    assert_same(saved(sheet, tmp_path), sheet)


def test_a_file_needs_no_pickle_and_is_the_only_one(tmp_path):
    save_score_sheet(make_sheet(), tmp_path / "matches.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["matches.npz"]
    with np.load(tmp_path / "matches.npz", allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)
        assert json.loads(stored["header"].tobytes())["version"] == 1


def test_what_no_file_holds_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "matches.npz"
    save_score_sheet(make_sheet(), path)
    before = path.read_bytes()
    odd = RatioStatistic({"a": 1}, torch.ones(4, 1))
    with pytest.raises(TypeError, match=r"as statistic0.columns, got dict"):
        save_score_sheet(ScoreSheet(torch.arange(4), None, (odd,)), path)
    assert path.read_bytes() == before


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="score the run again with keypoint-detection eval") as caught:
        load_score_sheet(tmp_path / "matches.npz")
    assert "\n" not in str(caught.value)


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def header(**changes):
    content = {"format": "keypoint_detection score sheet", "version": 1, "groups": None, "statistics": []}
    return np.frombuffer(json.dumps({**content, **changes}).encode(), np.uint8)


IDS = np.arange(2)
FOREIGN = {
    "empty": b"",
    "text": b"image_id,score\n1,0.5\n",
    "zip": b"PK\x05\x06" + bytes(18),
    "npz of another": npz(image_ids=IDS),
    "pickle": npz(header=header(), image_ids=np.array([{}], dtype=object)),
    "no json": npz(header=np.zeros(3, np.uint8), image_ids=IDS),
    "json of another": npz(header=np.frombuffer(b"[1]", np.uint8), image_ids=IDS),
    "other format": npz(header=header(format="other"), image_ids=IDS),
    "no ids": npz(header=header()),
    "groups too few": npz(header=header(groups=["a"]), image_ids=IDS),
    "unknown class": npz(header=header(statistics=[{"class": "os.system", "fields": {}}]), image_ids=IDS),
    "missing fields": npz(
        header=header(statistics=[{"class": "RatioStatistic", "fields": {}}]), image_ids=IDS
    ),
    "missing array": npz(header=header(statistics=[{"array": "numbers"}]), image_ids=IDS),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / "matches.npz"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(
        ValueError, match=r"matches.npz: got no file of scores, .* score the run again"
    ) as caught:
        load_score_sheet(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "matches.npz"
    path.write_bytes(npz(header=header(version=2), image_ids=IDS))
    with pytest.raises(ValueError, match="got version 2 of the file, expected 1; score the run again"):
        load_score_sheet(path)


def test_a_truncated_or_damaged_file_is_refused_or_whole(tmp_path):
    path = tmp_path / "matches.npz"
    sheet = make_sheet(3, ("a", "b", "c"))
    save_score_sheet(sheet, path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 29):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="no file of scores"):
            load_score_sheet(path)
    for at in range(0, len(whole), 17):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(ValueError):
            # Some bytes, such as dates, carry nothing.
            assert_same(load_score_sheet(path), sheet)


def test_a_zip_whose_arrays_lie_is_refused(tmp_path):
    path = tmp_path / "matches.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", b"\x93NUMPY\x01\x00\xff\xff")
        archive.writestr("image_ids.npy", b"nothing")
    with pytest.raises(ValueError, match="no file of scores"):
        load_score_sheet(path)
