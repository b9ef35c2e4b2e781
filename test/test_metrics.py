"""What every metric of the package promises: it gathers, pickles, resets, collects, and its examples run."""

import doctest
import importlib
import pickle
import pkgutil
from pathlib import Path

import pytest
import torch
from reference.keypoint_cases import make_case
from torchmetrics import MetricCollection

import keypoint_detection.metrics as package
from keypoint_detection.metrics import (
    KeypointAveragePrecision,
    KeypointErrorTable,
    KeypointMeanError,
    KeypointRMSE,
    NormalizedMeanError,
    PercentageOfCorrectKeypoints,
)
from keypoint_detection.metrics.error_statistics import error_statistics
from keypoint_detection.metrics.keypoint_errors import KeypointErrors

MODULES = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
CASE = make_case(11, (7, 2, 6, 5), grid=8)


def build(name: str):
    return {
        "pixels": lambda: KeypointAveragePrecision(2, [1, 2, 4]),
        "oks": lambda: KeypointAveragePrecision(2, [0.3, 0.9], "oks", sigmas=[0.3, 0.4], interpolation="101"),
        "mean": lambda: KeypointMeanError(2),
        "rmse": lambda: KeypointRMSE(2),
        "nme": lambda: NormalizedMeanError(2),
        "pck": lambda: PercentageOfCorrectKeypoints([0.2, 0.5], "box_side"),
        "pck-pixels": lambda: PercentageOfCorrectKeypoints(2, "pixels", visible_only=True),
        "table": lambda: KeypointErrorTable(2),
    }[name]()


NO_IMAGES = slice(0, 0)
NAMES = ["pixels", "oks", "mean", "rmse", "nme", "pck", "pck-pixels", "table"]


def keywords(metric) -> dict[str, torch.Tensor]:
    """Return what the metric takes beside points; the areas of the case serve as lengths too."""
    areas = torch.from_numpy(CASE.areas)
    if isinstance(metric, NormalizedMeanError | PercentageOfCorrectKeypoints):
        return {"scale": areas, "ignored": CASE.ignoring()["ignored"]}
    if isinstance(metric, KeypointErrorTable):
        return {"length": areas}
    if isinstance(metric, KeypointAveragePrecision) and metric.rule.similarity == "oks":
        return {"scale": areas, "sigmas": torch.from_numpy(CASE.sigmas), **CASE.ignoring()}
    return {}


def add(metric, rows: slice) -> None:
    """Update with some images of the case, one batch of up to three at a time."""
    tensors = [tensor[rows].split(3) for tensor in CASE.tensors()]
    named = {name: value[rows].split(3) for name, value in keywords(metric).items()}
    for index, part in enumerate(zip(*tensors, strict=True)):
        metric.update(*part, **{name: parts[index] for name, parts in named.items()})


def computed(metric) -> dict[str, list]:
    """Return what the metric computes as plain numbers, NaN as -1, to be compared bit for bit."""
    return plain(metric.compute())


def plain(values) -> dict[str, list]:
    """Return a dictionary of tensors, or the numbers that a table of errors gives, as plain numbers."""
    if isinstance(values, KeypointErrors):
        statistics = error_statistics(values, ("a", "b"), [0.2, 0.5])
        values = {statistic.columns: statistic.value() for statistic in statistics}
    return {key: torch.as_tensor(value).nan_to_num(-1).tolist() for key, value in values.items()}


def expected(name: str) -> dict[str, list]:
    metric = build(name)
    add(metric, slice(None))
    return computed(metric)


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module), extraglobs={"torch": torch})
    assert results.failed == 0


def test_average_precision_leaves_detections_out() -> None:
    metric = build("oks")
    add(metric, slice(None))
    left_out = metric.matches().ignored
    assert left_out.any(0).all()
    assert not left_out.all(0).any()


def test_every_public_number_has_an_example() -> None:
    finder = doctest.DocTestFinder()
    for name in package.__all__:
        assert any(test.examples for test in finder.find(getattr(package, name), name)), name


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets(name: str) -> None:
    metric = build(name)
    add(metric, slice(0, 4))
    metric.compute()
    metric.reset()
    add(metric, slice(None))
    assert computed(metric) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_pickle_in_the_middle(name: str) -> None:
    metric = build(name)
    add(metric, slice(0, 4))
    copy = pickle.loads(pickle.dumps(metric))
    add(copy, slice(4, None))
    assert computed(copy) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_module_keeps_exact_state(name: str) -> None:
    metric = build(name)
    torch.nn.ModuleDict({"metric": metric}).half().to(torch.bfloat16)
    add(metric, slice(None))
    assert computed(metric) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_inference_mode_and_forward(name: str) -> None:
    metric = build(name)
    with torch.inference_mode():
        add(metric, slice(0, 4))
    parts = {name: value[4:] for name, value in keywords(metric).items()}
    batch_value = metric(*(tensor[4:] for tensor in CASE.tensors()), **parts)
    alone = build(name)
    add(alone, slice(4, None))
    assert plain(batch_value) == computed(alone)
    assert computed(metric) == expected(name)


def test_collection_shares_no_state_between_different_numbers() -> None:
    # After an empty first batch every state looks alike, and torchmetrics merges metrics of equal states.
    metrics = {"near": [1.0], "far": [4.0]}
    collection = MetricCollection(
        {name: KeypointAveragePrecision(2, thresholds) for name, thresholds in metrics.items()}
        | {"mean": KeypointMeanError(2), "rmse": KeypointRMSE(2)}
    )
    collection.update(*(tensor[:0] for tensor in CASE.tensors()))
    collection.update(*CASE.tensors())
    values = collection.compute()
    for name, thresholds in metrics.items():
        metric = KeypointAveragePrecision(2, thresholds)
        add(metric, slice(None))
        assert values[f"{name}_map"] == metric.compute()["map"]
    assert values["near_map"] < values["far_map"]
    assert values["rmse_value"].tolist() == expected("rmse")["value"]
    assert values["mean_value"].tolist() == expected("mean")["value"]


def gather_in_process(rank: int, folder: str) -> None:
    """Score a share of the images in this one of two processes; store what it computes in `<rank>.pt`."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    results = {}
    shares = {"interleaved": slice(rank, None, 2), "one-sided": NO_IMAGES if rank else slice(None)}
    for share, rows in shares.items():
        for name in NAMES:
            metric = build(name)
            if rows != NO_IMAGES:
                add(metric, rows)
            results[share, name] = computed(metric)
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(gather_in_process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(results) == 2 * len(NAMES)
        for (share, name), values in results.items():
            assert values == expected(name), (rank, share, name)
