import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from keypoint_detection.metrics.bootstrap import bootstrap_interval, bootstrap_statistics
from keypoint_detection.metrics.gaze_angle import GazeAngle
from keypoint_detection.metrics.gaze_auc import GazeAUC
from keypoint_detection.metrics.gaze_distance import GazeDistance
from keypoint_detection.metrics.gaze_in_frame import GazeInFrame
from keypoint_detection.metrics.gaze_people import counted_people, mean_annotator

NAN = math.nan
N = 30


def people() -> dict[str, Tensor]:
    """Return predictions and truth of people, some of whom look outside or nowhere known."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([[30, 40], [20, 50]])[torch.randint(0, 2, (N,), generator=generator)]
    gaze = torch.rand(N, 3, 2, generator=generator) * size.flip(1)[:, None]
    in_frame = torch.tensor([1.0, 1.0, 0.0, NAN])[torch.randint(0, 4, (N,), generator=generator)]
    gaze[in_frame != 1] = NAN
    gaze[::5, 1:] = NAN
    return {
        "maps": torch.rand(N, 8, 8, generator=generator),
        "prediction": torch.rand(N, 2, generator=generator) * size.flip(1),
        "eye": torch.rand(N, 2, generator=generator) * size.flip(1),
        "logits": torch.randn(N, generator=generator) + in_frame.nan_to_num(0.5),
        **{"gaze": gaze, "image_hw": size, "in_frame": in_frame, "person": torch.arange(N)},
    }


TAKES = {
    "auc": ("maps", "gaze", "image_hw", "in_frame", "person"),
    "distance": ("prediction", "gaze", "image_hw", "in_frame", "person"),
    "angle": ("prediction", "gaze", "eye", "in_frame", "person"),
    "in_frame": ("logits", "in_frame", "person"),
}


def metrics() -> dict[str, GazeAUC | GazeDistance | GazeAngle | GazeInFrame]:
    return {"auc": GazeAUC(), "distance": GazeDistance(), "angle": GazeAngle(), "in_frame": GazeInFrame()}


def scored(rows: Tensor) -> dict[str, float]:
    """Return all numbers of some people, seen one after another, and of which people they are."""
    parts, found = people(), {}
    for name, metric in metrics().items():
        for row in rows:
            metric.update(*(parts[part][row : row + 1] for part in TAKES[name]))
        found |= {key: float(value) for key, value in metric.compute().items()}
        ids = metric.statistic()[1] if isinstance(metric, GazeInFrame) else metric.scores().person
        found[f"{name}_ids"] = float((ids * torch.arange(1, len(ids) + 1)).sum())
    return found


def test_order_and_repeats_change_no_bit() -> None:
    expected = scored(torch.arange(N))
    assert not any(math.isnan(value) for value in expected.values())
    assert scored(torch.randperm(N, generator=torch.Generator().manual_seed(1))) == expected
    assert scored(torch.cat([torch.arange(N), torch.tensor([0, 3, 3])])) == expected


def gather_in_process(rank: int, folder: str) -> None:
    """Score a share of the people in this one of two processes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    everybody = torch.arange(N)
    shares = {
        "interleaved": everybody[rank::2],
        "padded": torch.cat([everybody, everybody[:2]])[rank::2],
        "one-sided": everybody[:0] if rank else everybody,
    }
    torch.save({name: scored(rows) for name, rows in shares.items()}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(gather_in_process, (str(tmp_path),), nprocs=2)
    expected = scored(torch.arange(N))
    for rank in range(2):
        for name, found in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            assert found == expected, (rank, name)


def test_intervals_of_all_numbers_come_from_the_same_resamples() -> None:
    parts, built = people(), metrics()
    for name, metric in built.items():
        metric.update(*(parts[part] for part in TAKES[name]))
    statistics = [built[name].scores().statistic() for name in ("auc", "distance", "angle")]  # pyright: ignore
    in_frame, ids = built["in_frame"].statistic()  # pyright: ignore
    assert ids.tolist() == list(range(N))
    groups = ids // 2  # two people of each picture
    intervals = bootstrap_statistics([*statistics, in_frame], n_images=N, groups=groups, n_resamples=300)
    assert list(intervals) == [
        *("auc", "min_distance", "average_distance", "min_angle_deg", "average_angle_deg", "in_out_ap")
    ]
    for name, interval in intervals.items():
        assert interval.low < interval.value < interval.high, name
    values = built["auc"].scores().values[:, 0]  # pyright: ignore
    alone = bootstrap_interval(values, groups, n_resamples=300)
    assert intervals["auc"].value == pytest.approx(alone.value)
    assert intervals["auc"].low == pytest.approx(alone.low, abs=0.02)  # it draws among who counts only


def test_metrics_of_a_collection_do_not_share_states() -> None:
    parts = people()
    collection = MetricCollection({"distance": GazeDistance(), "angle": GazeAngle()})
    points = {"prediction": parts["prediction"], "gaze": parts["gaze"], "in_frame": parts["in_frame"]}
    for rows in (slice(0, 0), slice(None)):
        chosen = {name: part[rows] for name, part in points.items()}
        collection.update(
            **chosen, image_hw=parts["image_hw"][rows], eye=parts["eye"][rows], person=parts["person"][rows]
        )
    found, expected = collection.compute(), scored(torch.arange(N))
    for name in ("min_distance", "average_distance", "min_angle_deg", "average_angle_deg"):
        assert float(found[name]) == expected[name]


def test_who_counts_and_their_mean_point() -> None:
    gaze = torch.tensor([[[1.0, 2], [3, 6]], [[1, NAN], [5, 7]], [[NAN, NAN]] * 2, [[1, 1], [2, 2]]])
    assert counted_people(gaze, torch.tensor([1, 1, 1, 0])).tolist() == [True, True, False, False]
    assert counted_people(gaze, torch.tensor([NAN, 1.0, 1, -1])).tolist() == [False, True, False, False]
    assert mean_annotator(gaze)[[0, 1, 3]].tolist() == [[2, 4], [5, 7], [1.5, 1.5]]
    assert mean_annotator(gaze)[2].isnan().all()
