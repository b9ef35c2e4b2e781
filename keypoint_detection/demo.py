"""The demo: draw boxes, train, score on unseen images, write overlays, say where everything is."""

import json
import time
from pathlib import Path

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.evaluate import evaluate
from keypoint_detection.evaluation_report import scores_table
from keypoint_detection.predict import predict_to_files
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"
IMAGE_HW = (96, 96)
N_TRAIN, N_UNSEEN = 400, 80
MAX_EPOCHS = 14


def run(output: Path, seed: int) -> dict[str, float]:
    """Run the whole path in a few minutes on two cores.

    Args:
        output: Folder for data set, run, scores and pictures.
        seed: Seed of the data set and of the training.

    Returns:
        The scores of the last weights on images that the training has not seen.
    """
    start = time.monotonic()
    train_json = make_dataset("boxes", output / "dataset" / "train", N_TRAIN, IMAGE_HW, seed)
    unseen_json = make_dataset("boxes", output / "dataset" / "validation", N_UNSEEN, IMAGE_HW, seed + 1)
    print(f"drawn: {train_json} and {unseen_json}")
    result = train(demo_config(train_json, unseen_json, output, seed))
    assert result.last_checkpoint is not None
    folder = result.run_dir / "eval"
    values = evaluate(result.last_checkpoint, unseen_json, folder)
    predicted = predict_to_files(
        result.last_checkpoint, unseen_json.parent / "images", output / "predictions"
    )
    print(scores_table(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))))
    print(f"scores: {folder / 'metrics.json'}")
    print(f"points: {predicted.output / 'predictions.json'} and predictions.csv")
    print(f"pictures: {predicted.output / 'overlays'}")
    print(f"model: {result.last_checkpoint}")
    seconds = time.monotonic() - start
    print(f"AP@2px {values['ap@2px']:.3f} on {predicted.n_images} unseen images, {seconds:.0f} s")
    return values


def demo_config(train_json: Path, unseen_json: Path, output: Path, seed: int) -> TrainConfig:
    """Return the settings of the demo: the defaults, but for data, size and length."""
    return TrainConfig(
        json_dataset_path=str(train_json),
        json_validation_dataset_path=str(unseen_json),
        keypoint_channel_configuration=CHANNELS,
        augment_train=True,
        max_epochs=MAX_EPOCHS,
        seed=seed,
        default_root_dir=str(output / "runs"),
    )
