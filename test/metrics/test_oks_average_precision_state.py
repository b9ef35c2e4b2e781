import pickle
import warnings
from pathlib import Path

import pytest
import torch
from reference.oks_cases import NAMES, OKSCase, make_oks_case
from torchmetrics import MetricCollection

from keypoint_detection.metrics.oks_average_precision import OKSAveragePrecision, oks_average_precision

pytestmark = pytest.mark.filterwarnings("ignore:.*labelled instances have area 0:UserWarning")
CASE = make_oks_case(3, 9, 5)


def numbers_of(case, batch=2, metric=None):
    metric = metric or OKSAveragePrecision(case.sigmas)
    for start in range(0, len(case.preds), batch):
        metric.update(case.preds[start : start + batch], case.target[start : start + batch])
    return {name: float(value) for name, value in metric.compute().items()}


def test_reset_pickle_forward_and_half_precision() -> None:
    expected = numbers_of(CASE)
    metric = OKSAveragePrecision(CASE.sigmas)
    torch.nn.ModuleDict({"metric": metric}).half().to(torch.bfloat16)
    metric.update(CASE.preds[3:5], CASE.target[3:5])
    metric.compute()
    metric.reset()
    with torch.inference_mode():
        metric.update(CASE.preds[:4], CASE.target[:4])
        metric.compute()
    metric = pickle.loads(pickle.dumps(metric))
    alone = oks_average_precision(CASE.preds[4:], CASE.target[4:], CASE.sigmas)
    assert metric(CASE.preds[4:], CASE.target[4:]) == alone
    assert {name: float(value) for name, value in metric.compute().items()} == expected


def test_collection_shares_no_state_between_sigmas() -> None:
    sigmas = {"strict": [0.03] * 5, "loose": [0.3] * 5}
    collection = MetricCollection({name: OKSAveragePrecision(values) for name, values in sigmas.items()})
    collection.update([], [])
    collection.update(CASE.preds, CASE.target)
    values = collection.compute()
    for name, chosen in sigmas.items():
        expected = oks_average_precision(CASE.preds, CASE.target, chosen)
        assert values[f"{name}_ap"] == expected["ap"]
    assert values["strict_ap"] < values["loose_ap"]


def test_statistic_gives_the_numbers_and_the_ids() -> None:
    metric = OKSAveragePrecision(CASE.sigmas)
    case = CASE.with_ids([8, 2, 5, 1, 9, 4, 3, 6, 7])
    expected = numbers_of(case, metric=metric)
    statistic, image_ids = metric.statistic()
    assert image_ids.tolist() == list(range(1, 10))
    assert statistic.columns == tuple(f"oks_{name}" for name in NAMES)
    assert statistic.value().nan_to_num(-1).tolist() == list(expected.values())
    plain = OKSAveragePrecision(CASE.sigmas)
    plain.update(CASE.preds, CASE.target)
    assert plain.statistic()[1].tolist() == list(range(9))


def gather_in_process(rank: int, folder: str) -> None:
    """Score a share of the images in this one of two processes; store what it computes in `<rank>.pt`."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    stored = {}
    padded = CASE.with_ids(range(9))
    padded = OKSCase([*padded.preds, padded.preds[0]], [*padded.target, padded.target[0]], CASE.sigmas)
    shares = {"interleaved": (CASE, slice(rank, None, 2)), "padded": (padded, slice(rank, None, 2))}
    shares["one-sided"] = (CASE, slice(0, 0) if rank else slice(None))
    for name, (case, rows) in shares.items():
        metric = OKSAveragePrecision(case.sigmas)
        share = case._replace(preds=case.preds[rows], target=case.target[rows])
        first = numbers_of(share, metric=metric)
        again = {key: float(value) for key, value in metric.compute().items()}
        statistic, image_ids = metric.statistic()
        stored[name] = (first, again, statistic.value(), image_ids)
    torch.save(stored, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_bits_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(gather_in_process, (str(tmp_path),), nprocs=2)
    expected = numbers_of(CASE)
    for rank in range(2):
        stored = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert list(stored) == ["interleaved", "padded", "one-sided"]
        for name, (first, again, value, image_ids) in stored.items():
            assert first == again == expected, (rank, name)
            assert value.nan_to_num(-1).tolist() == list(expected.values())
            assert image_ids.tolist() == list(range(9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_update_never_waits_for_the_device() -> None:
    case = make_oks_case(7, 6, 4)
    metric = OKSAveragePrecision(case.sigmas).to("cuda")
    preds, target = (
        [{key: torch.from_numpy(rows).cuda() for key, rows in record.items()} for record in side]
        for side in (case.preds, case.target)
    )
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(preds, target)
        metric.update(case.preds[:0], case.target[:0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metric.compute()["ap"].device.type == "cuda"
    assert {name: float(value) for name, value in metric.compute().items()} == numbers_of(case)
