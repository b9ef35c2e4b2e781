"""The demo of gaze following: draw scenes, train both decoders, and look at people they have not seen."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.files import write_text
from keypoint_detection.gaze.evaluate_run import evaluate_to_folder
from keypoint_detection.gaze.evaluate_table import scores_text
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.gaze.people import read_table
from keypoint_detection.gaze.people_data import GazePart
from keypoint_detection.gaze.samples import GazeDataset
from keypoint_detection.gaze.synthetic import make_gaze_scenes
from keypoint_detection.gaze.target_shares import TargetShares, target_shares
from keypoint_detection.gaze.train import EVAL_FOLDER, train
from keypoint_detection.gaze.train_config import GazeTrainConfig

MARK_FILE = "demo.txt"
"""Names a folder that a demo has made, and may make anew."""

DECODERS = ("direct", "diffusion")

LEAST_SHARE = 0.25
"""Share of its samples that a target needs, to count as found."""


@dataclass(frozen=True)
class DemoSize:
    """Hold how much the demo draws and how long it trains.

    Attributes:
        n_train: Scenes to train on.
        n_unseen: Scenes to look at afterwards.
        side_px: Height and width of the scenes.
        direct_epochs: Passes over the people in the training of the direct decoder.
        diffusion_epochs: Likewise of the diffusion.
        sampling_steps: Steps of the sampling.
        samples: Maps of each person in the scores.
        target_samples: Maps of each person in scenes with two targets.
    """

    n_train: int = 2400
    n_unseen: int = 200
    side_px: int = 128
    direct_epochs: int = 2
    diffusion_epochs: int = 4
    sampling_steps: int = 10
    samples: int = 8
    target_samples: int = 16


@dataclass(frozen=True)
class DemoResult:
    """Hold what the demo found out.

    Attributes:
        metrics: The content of `metrics.json` of each decoder, by its name.
        page: The report of the diffusion.
        shares: Where samples went in scenes with two targets that are equally right, by decoder; else None.
    """

    metrics: dict[str, dict[str, Any]]
    page: Path
    shares: dict[str, TargetShares] | None = None


def run(
    output: str | Path, seed: int = 9, *, ambiguous: bool = False, size: DemoSize | None = None
) -> DemoResult:
    """Run the demo in a folder; what an earlier one has left there is replaced.

    Args:
        output: Folder for scenes, runs and pages.
        seed: Of scenes and trainings.
        ambiguous: Draw scenes in which two targets are equally right, and say how often each is found.
        size: How much to draw and train.

    Raises:
        ValueError: The folder holds something that no demo has made.
    """
    start, output, size = time.monotonic(), Path(output), size or DemoSize()
    prepare_folder(output)
    scenes = draw_scenes(output, seed, size, ambiguous=ambiguous)
    print(f"{size.n_train} scenes to train on, {size.n_unseen} others: {output / 'scenes'}", flush=True)
    metrics, shares = {}, {}
    for decoder in DECODERS:
        began = time.monotonic()
        result = train(demo_config(scenes, output, seed, size, decoder=decoder), is_quiet=True)
        follower = load_follower(result.last_checkpoint, "cpu")
        folder = result.run_dir / EVAL_FOLDER
        metrics[decoder] = evaluate(follower, scenes, folder, seed, size, others=metrics)
        if ambiguous:
            shares[decoder] = shares_of(follower, scenes[1], size, seed)
        print(f"{decoder}: {result.last_checkpoint}, {time.monotonic() - began:.0f} s", flush=True)
    print(scores_text(metrics["diffusion"], others={"direct": metrics["direct"]}))
    for decoder, found in shares.items():
        print(f"{decoder}: {shares_text(found)}")
    page = output / "diffusion" / EVAL_FOLDER / "report.html"
    print(f"page: {page}\n{time.monotonic() - start:.0f} s")
    return DemoResult(metrics, page, shares or None)


def evaluate(
    follower: GazeFollower,
    scenes: tuple[Path, Path],
    folder: Path,
    seed: int,
    size: DemoSize,
    *,
    others: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Score a follower on scenes that it has not seen, and write its page with the others in the table."""
    return evaluate_to_folder(
        follower,
        GazePart(read_table(scenes[1]), scenes[1].parent),
        folder,
        samples=size.samples,
        seed=seed,
        num_workers=0,
        training=read_table(scenes[0]),
        others=dict(others),
    )


def prepare_folder(output: Path) -> None:
    """Make the folder of the demo, or empty one that a demo has made.

    Raises:
        ValueError: It holds something else.
    """
    if output.exists() and any(output.iterdir()):
        if not (output / MARK_FILE).is_file():
            raise ValueError(f"{output} is not empty and no demo has made it; choose another --output")
        for name in ("scenes", "direct", "diffusion"):
            shutil.rmtree(output / name, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / MARK_FILE, "made by keypoint-detection gaze demo, which replaces what is here\n")


def draw_scenes(output: Path, seed: int, size: DemoSize, *, ambiguous: bool) -> tuple[Path, Path]:
    """Draw the scenes; return the tables of those to train on and of the others."""
    common: dict[str, Any] = {"image_hw": (size.side_px, size.side_px), "ambiguous": ambiguous}
    if ambiguous:  # two annotators name both targets: a training draws one of them anew in every step
        common |= {"share_outside": 0.0, "share_two": 0.0, "annotators": 2}
    folders = output / "scenes" / "train", output / "scenes" / "unseen"
    train_table = make_gaze_scenes(folders[0], size.n_train, seed=2 * seed, **common)
    unseen = make_gaze_scenes(folders[1], size.n_unseen, seed=2 * seed + 1, **common)
    return train_table, unseen


def demo_config(
    scenes: tuple[Path, Path], output: Path, seed: int, size: DemoSize, *, decoder: str
) -> GazeTrainConfig:
    """Return the settings of a training: a light network on small scenes."""
    epochs = size.direct_epochs if decoder == "direct" else size.diffusion_epochs
    return GazeTrainConfig(
        data=str(scenes[0]),
        validation_data=str(scenes[1]),
        preset="light",
        decoder=decoder,  # pyright: ignore[reportArgumentType]
        decoder_width=16 if decoder == "direct" else 8,
        map_scale=0.5,
        sampling_steps=size.sampling_steps,
        sigma_px=1.5,
        direction_weight=1.0,
        learning_rate=2e-3,
        weight_decay=0.01,
        batch_size=32,
        augment_color=0.0,
        augment_crop=0.0,
        evaluate=False,
        max_epochs=epochs,
        check_val_every_n_epoch=epochs,
        seed=seed,
        num_workers=0,
        accelerator="cpu",
        default_root_dir=str(output),
        run_name=decoder,
    )


def shares_of(follower: GazeFollower, unseen: Path, size: DemoSize, seed: int) -> TargetShares:
    """Return where samples go in scenes with two targets."""
    hparams = follower.hparams
    dataset = GazeDataset(
        read_table(unseen), unseen.parent, scene_hw=hparams["scene_hw"], head_hw=hparams["head_hw"]
    )
    return target_shares(follower, dataset, size.target_samples, seed=seed)


def shares_text(shares: TargetShares) -> str:
    """Return one line about scenes with two targets."""
    n = len(shares.samples)
    both = int((shares.samples >= LEAST_SHARE).all(1).sum())
    one = int((shares.mean_map_hits.sum(1) == 1).sum())
    mean = " and ".join(f"{value:.0%}" for value in shares.samples.mean(0))
    return (
        f"both targets get {LEAST_SHARE:.0%} of the samples or more in {both} of {n} scenes (on average "
        f"{mean}); the peak of the mean map hits one of them in {one}"
    )
