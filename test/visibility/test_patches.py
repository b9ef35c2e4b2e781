import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from keypoint_detection.data.batch_buffers import BatchBuffers
from keypoint_detection.visibility.patches import PatchData, channel_statistics, make_patch_loader
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.pyramid import Pyramid, build_pyramid, crop_patches

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SIZES = [(60, 80), (50, 40), (60, 80)]
NAMES = ["a.png", "b.png", "c.png"]
N_POINTS, PATCH_PX = 41, 16


class Drawn:
    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        paths = [folder / name for name in NAMES]
        for path, size in zip(paths, SIZES, strict=True):
            cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        self.pyramid = build_pyramid(folder / "pyramid", paths, SIZES, None, (1, 2), image_names=NAMES)
        # The table has its images in another order, and one that no point lies in.
        image = rng.integers(0, 2, N_POINTS)
        self.table = PointTable(
            image_names=("c.png", "b.png", "elsewhere.png"),
            views=("v", "w", "v"),
            image_hw=np.array([SIZES[2], SIZES[1], (9, 9)]),
            image=image,
            xy=rng.uniform(0, [39, 49], (N_POINTS, 2)),
            depth_m=np.full(N_POINTS, np.nan),
            label=(np.arange(N_POINTS) < 30).astype(np.uint8),
        )

    def expected(self, index: Tensor) -> np.ndarray:
        image = np.array([2, 1])[self.table.image[index.numpy()]]
        return crop_patches(self.pyramid, image, self.table.xy[index.numpy()], PATCH_PX)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(tmp_path_factory.mktemp("drawn"))


def epochs_of(drawn: Drawn, workers: int, count: int = 3) -> list[list[list[int]]]:
    loader = make_patch_loader(
        drawn.table, drawn.pyramid, 6, balance=True, shuffle_seed=1, num_workers=workers, patch_px=PATCH_PX
    )
    epochs = []
    for _ in range(count):
        batches = []
        for batch in loader:
            assert np.array_equal(batch["patch"].numpy(), drawn.expected(batch["index"]))
            assert batch["label"].tolist() == drawn.table.label[batch["index"].numpy()].tolist()
            batches.append(batch["index"].tolist())
        assert len(batches) == len(loader) == 4
        epochs.append(batches)
    return epochs


def test_batches_hold_the_patches_of_their_points(drawn: Drawn) -> None:
    loader = make_patch_loader(drawn.table, drawn.pyramid, 16, num_workers=0, patch_px=PATCH_PX)
    batches = list(loader)
    assert [len(batch["index"]) for batch in batches] == [16, 16, 9]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(N_POINTS))
    for batch in batches:
        assert batch["patch"].shape[1:] == (6, PATCH_PX, PATCH_PX)
        assert [batch[name].dtype for name in ("patch", "label", "index")] == [
            torch.uint8,
            torch.float32,
            torch.int64,
        ]
        assert np.array_equal(batch["patch"].numpy(), drawn.expected(batch["index"]))


def test_order_balance_and_content_are_the_same_for_any_number_of_workers(drawn: Drawn) -> None:
    epochs = epochs_of(drawn, 0)
    assert epochs[0] != epochs[1] != epochs[2]
    for order in ([index for batch in batches for index in batch] for batches in epochs):
        assert drawn.table.label[order].tolist().count(1) == len(order) / 2 == 11
    assert epochs == epochs_of(drawn, 1) == epochs_of(drawn, 2)


def test_batches_that_are_held_are_never_written_to(drawn: Drawn) -> None:
    loader = make_patch_loader(
        drawn.table, drawn.pyramid, 2, shuffle_seed=0, num_workers=2, patch_px=PATCH_PX
    )
    held = [batch for _ in range(3) for batch in loader]  # far more than there are buffers
    assert len(held) == 63
    for batch in held:
        assert np.array_equal(batch["patch"].numpy(), drawn.expected(batch["index"]))


def test_an_epoch_that_is_left_early_leaves_no_trace(drawn: Drawn) -> None:
    loader = make_patch_loader(
        drawn.table, drawn.pyramid, 2, shuffle_seed=0, num_workers=2, patch_px=PATCH_PX
    )
    for _ in range(6):
        kept = next(iter(loader))
        assert np.array_equal(kept["patch"].numpy(), drawn.expected(kept["index"]))
    order = [index for batch in loader for index in batch["index"].tolist()]
    assert np.array_equal(kept["patch"].numpy(), drawn.expected(kept["index"]))
    loader = make_patch_loader(
        drawn.table, drawn.pyramid, 2, shuffle_seed=0, num_workers=0, patch_px=PATCH_PX
    )
    loader.sampler.set_epoch(6)  # pyright: ignore[reportAttributeAccessIssue]
    assert order == [index for batch in loader for index in batch["index"].tolist()]


def lent_buffers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the buffers that are lent from now on."""
    numbers, lend = [], BatchBuffers.lend

    def counted(self: BatchBuffers, number: int, shape: tuple[int, ...]) -> Tensor:
        numbers.append(number)
        return lend(self, number, shape)

    monkeypatch.setattr(BatchBuffers, "lend", counted)
    return numbers


def test_buffers_are_used_again(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = lent_buffers(monkeypatch)
    loader = make_patch_loader(drawn.table, drawn.pyramid, 2, num_workers=2, patch_px=PATCH_PX)
    for _ in range(3):
        for batch in loader:
            assert np.array_equal(batch["patch"].numpy(), drawn.expected(batch["index"]))
    assert len(numbers) == 63, "a batch came in memory of its own"
    assert set(numbers) <= set(range(7))  # two batches ahead of each worker, and three


@pytest.mark.slow
def test_processes_that_share_no_memory_send_it(drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, before = lent_buffers(monkeypatch), multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert epochs_of(drawn, 1, 2) == epochs_of(drawn, 0, 2)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert not numbers


class Seen(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.epochs: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        self.epochs[-1] += batch["index"].tolist()
        return (self.weight * batch["patch"].float().mean() - batch["label"]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-9)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_sets_the_epoch(drawn: Drawn, workers: int, tmp_path: Path) -> None:
    loader = make_patch_loader(
        drawn.table, drawn.pyramid, 6, balance=True, shuffle_seed=1, num_workers=workers, patch_px=PATCH_PX
    )
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    seen = Seen()
    trainer.fit(seen, loader)
    sampler = loader.sampler
    expected = [sampler.order(epoch).tolist() for epoch in range(3)]  # pyright: ignore
    assert seen.epochs == expected


def test_errors_of_a_worker_arrive(drawn: Drawn) -> None:
    table = drawn.table.select(np.arange(20))
    table.xy[7] = np.nan
    loader = make_patch_loader(table, drawn.pyramid, 4, num_workers=1, patch_px=PATCH_PX)
    with pytest.raises(ValueError, match="expected finite points"):
        list(loader)


def test_points_of_unknown_images_are_refused(drawn: Drawn) -> None:
    table = drawn.table.select(np.arange(3))
    table.image[0] = 2
    with pytest.raises(
        ValueError, match=r"expected image 'elsewhere.png' of the points among the 3 pre-scaled"
    ):
        PatchData(table, drawn.pyramid)
    table = drawn.table.select(np.arange(3))
    table.image_hw[table.image[0]] += 1
    with pytest.raises(
        ValueError, match=r"pixels as in the table of points, got \d+x\d+ in .*; build the pre-scaled"
    ):
        PatchData(table, drawn.pyramid)
    table.image_hw[table.image[0]] -= 1  # the sizes are shared by what was selected
    with pytest.raises(ValueError, match="expected a batch size of 1 or more, got 0"):
        make_patch_loader(table, drawn.pyramid, 0)


def test_one_point_is_a_batch_of_one(drawn: Drawn) -> None:
    points = PatchData(drawn.table, drawn.pyramid, PATCH_PX)
    assert len(points) == N_POINTS
    batch = points[5]
    assert batch["patch"].shape == (1, 6, PATCH_PX, PATCH_PX)
    assert batch["index"].tolist() == [5]


@pytest.mark.parametrize("max_points", [7, 1000])
def test_statistics_are_those_of_the_patches(drawn: Drawn, max_points: int) -> None:
    mean, std = channel_statistics(drawn.table, drawn.pyramid, max_points, PATCH_PX)
    chosen = range(N_POINTS) if max_points > N_POINTS else [0, 7, 13, 20, 27, 33, 40]
    patches = drawn.expected(torch.tensor(list(chosen))).astype(float)
    assert mean == pytest.approx(patches.mean((0, 2, 3)))
    assert std == pytest.approx(patches.std((0, 2, 3)))
    assert mean.dtype == np.float64


def test_statistics_know_nothing_of_other_points(drawn: Drawn, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((40, 40, 3), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((40, 40, 3), 16, np.uint8))
    paths = [tmp_path / "bright.png", tmp_path / "dark.png"]
    pyramid: Pyramid = build_pyramid(
        tmp_path / "p", paths, [(40, 40)] * 2, None, (1,), image_names=["b", "d"]
    )
    xy, image = np.full((4, 2), 20.0), np.array([0, 1, 1, 0])
    table = PointTable(
        ("b", "d"), ("v", "w"), np.full((2, 2), 40), image, xy, xy[:, 0], image.astype(np.uint8)
    )
    mean, std = channel_statistics(table.select(image == 1), pyramid, 10, 8)
    assert (mean.tolist(), std.tolist()) == ([16] * 3, [0] * 3)
    with pytest.raises(ValueError, match="expected points to compute means of, got 0"):
        channel_statistics(table.select([]), pyramid)
