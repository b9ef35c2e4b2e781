"""The demo of visibility: draw hazy terrain, train, and look at views that the training has not seen."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keypoint_detection.files import write_text
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.compare import GroupComparison
from keypoint_detection.visibility.compare_runs import STRIPS_FILE
from keypoint_detection.visibility.compare_table import MARKDOWN_FILE, comparison_words
from keypoint_detection.visibility.evaluate_run import close_text, read_distances, scores_text, share_of_close
from keypoint_detection.visibility.folds_file import EVAL_FOLDER
from keypoint_detection.visibility.make_dataset import make_dataset
from keypoint_detection.visibility.report import PAGE_FILE
from keypoint_detection.visibility.synthetic import make_terrain
from keypoint_detection.visibility.train import train
from keypoint_detection.visibility.train_config import VisibilityTrainConfig
from keypoint_detection.visibility.train_data import PointDataset, open_dataset
from keypoint_detection.visibility.variants import compare_variants

FACTORS = (1, 2, 4, 8, 16)
BORDER_PX = 16
MARK_FILE = "demo.txt"
"""Tells a folder of the demo from others: only there something may be removed."""


@dataclass(frozen=True)
class DemoSize:
    """Hold how much the demo draws and how long it trains.

    Attributes:
        n_views: Views that are drawn.
        n_held_out: How many of them, the last ones, are not trained on.
        images_per_view: Images of each.
        image_hw: Their height and width in pixels.
        points_per_image: Points of each image; those of unseen views give the distance.
        training_points: How many of them, of each image, are trained on.
        epochs: Passes over the points of the training.
        folds: Folds of the comparison of the variants.
        variant_epochs: Passes of each of their trainings.
        variant_points: Points of each image for them.
        size_hidden: Channels of the network.
        patch_px: Side of the patches.
    """

    n_views: int = 16
    n_held_out: int = 4
    images_per_view: int = 10
    image_hw: tuple[int, int] = (384, 576)
    points_per_image: int = 800
    training_points: int = 200
    epochs: int = 6
    folds: int = 3
    variant_epochs: int = 2
    variant_points: int = 32
    size_hidden: int = 32
    patch_px: int = 16


@dataclass(frozen=True)
class DemoResult:
    """Hold what the demo found out.

    Attributes:
        accuracy: Share of the points of views that were held out that are judged right.
        share_close: Share of their images whose visibility distance is within 15 % of the truth.
        page: The report.
        comparison: Of the variants, where it was asked for.
    """

    accuracy: float
    share_close: float
    page: Path
    comparison: GroupComparison | None = None


def run(
    output: str | Path, seed: int = 8, *, with_variants: bool = False, size: DemoSize | None = None
) -> DemoResult:
    """Run the demo in a folder; what an earlier one has left there is replaced.

    Args:
        output: Folder for scenes, points, the run, the page and the comparison.
        seed: Of terrain, points and training.
        with_variants: Compare the eight variants of the network as well.
        size: How much to draw and train.
    """
    start, output, size = time.monotonic(), Path(output), size or DemoSize()
    data = draw_data(output, seed, size)
    held_out = data.views[-size.n_held_out :]
    print(f"{len(data.true_m)} images of {len(data.views)} views drawn: {output / 'scenes'}")
    print(f"not trained on: {', '.join(held_out)}", flush=True)
    config = demo_config(output, seed, size).model_copy(
        update={"validation_views": held_out, "run_name": "run"}
    )
    result = train(config, data=fewer_points(data, held_out, size.training_points))
    distances = read_distances(result.run_dir / EVAL_FOLDER)
    accuracy = result.metrics["metrics"]["accuracy"]["value"]
    page = result.run_dir / EVAL_FOLDER / PAGE_FILE
    print(scores_text(result.metrics))
    print(f"held-out view accuracy {accuracy:.3f}\n{close_text(distances)}")
    print(f"model: {result.last_checkpoint}\npage: {page}\n{time.monotonic() - start:.0f} s", flush=True)
    comparison = _compare(output, data, seed, size) if with_variants else None
    return DemoResult(accuracy, share_of_close(distances), page, comparison)


def _compare(output: Path, data: PointDataset, seed: int, size: DemoSize) -> GroupComparison:
    """Compare the eight variants of the network in short trainings on fewer points."""
    start, folder = time.monotonic(), output / "variants"
    length = {"max_epochs": size.variant_epochs, "check_val_every_n_epoch": size.variant_epochs}
    config = demo_config(output, seed, size).model_copy(update=length)
    few = fewer_points(data, [], size.variant_points)
    comparison = compare_variants(config, few, folder, folds=size.folds, resampling=Resampling(seed=seed))
    print("\n".join(comparison_words(comparison)))
    print(f"written: {folder / STRIPS_FILE}, {folder / MARKDOWN_FILE}; {time.monotonic() - start:.0f} s")
    return comparison


def draw_data(output: Path, seed: int, size: DemoSize) -> PointDataset:
    """Draw the terrain and make its points and pre-scaled images."""
    scenes, points = output / "scenes", output / "points"
    _clear(output, (scenes, points, output / "run", output / "variants"))
    make_terrain(
        scenes,
        n_views=size.n_views,
        images_per_view=size.images_per_view,
        image_hw=size.image_hw,
        seed=seed,
    )
    make_dataset(
        scenes,
        points,
        points_per_image=size.points_per_image,
        border_px=BORDER_PX,
        factors=FACTORS,
        seed=seed,
    )
    return open_dataset(points)


def _clear(output: Path, folders: Sequence[Path]) -> None:
    """Remove what an earlier demo has left, and nothing of others.

    Raises:
        ValueError: A folder is there, and no demo has made it.
    """
    mark = output / MARK_FILE
    there = [folder for folder in folders if folder.exists()]
    if there and not mark.is_file():
        raise ValueError(
            f"--output: expected a new folder, or one of an earlier demo, got one with {there[0]}; give "
            "another"
        )
    write_text(mark, "Made by keypoint-detection visibility demo, which replaces what it finds here.\n")
    for folder in there:
        shutil.rmtree(folder, ignore_errors=True)


def demo_config(output: Path, seed: int, size: DemoSize) -> VisibilityTrainConfig:
    """Return the settings of the demo's trainings: a small network, on small patches."""
    return VisibilityTrainConfig(
        data=str(output / "points"),
        patch_px=size.patch_px,
        size_hidden=size.size_hidden,
        dropout=0.05,
        batch_size=64,
        learning_rate=2e-3,
        max_epochs=size.epochs,
        check_val_every_n_epoch=size.epochs,
        seed=seed,
        num_workers=0,
        accelerator="cpu",
        default_root_dir=str(output),
    )


def fewer_points(data: PointDataset, held_out: Sequence[str], count: int) -> PointDataset:
    """Return a data set with the first points of each image only, but all of those of some views."""
    table = data.table
    order = np.argsort(table.image, kind="stable")
    first = np.searchsorted(table.image[order], table.image[order])
    rank = np.empty(len(table), np.int64)
    rank[order] = np.arange(len(table)) - first
    return replace(data, table=table.select((rank < count) | np.isin(table.point_views, held_out)))
