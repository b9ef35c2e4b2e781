"""Make the pictures of the README from drawn data sets and a model that has not seen them."""

import argparse
import tempfile
from pathlib import Path

import cv2

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.demo import IMAGE_HW, N_TRAIN, N_UNSEEN, demo_config
from keypoint_detection.figures import strip_plot
from keypoint_detection.files import atomic_write
from keypoint_detection.picture_samples import labelled_sample, prediction_grid, score_strips
from keypoint_detection.train.train import train
from keypoint_detection.utils.visualization_grid import image_grid


def trained(folder: Path) -> Path:
    """Train the demo's model, a few minutes on two cores, and return its checkpoint."""
    train_json = make_dataset("boxes", folder / "train", N_TRAIN, IMAGE_HW, seed=0)
    unseen_json = make_dataset("boxes", folder / "validation", N_UNSEEN, IMAGE_HW, seed=1)
    checkpoint = train(demo_config(train_json, unseen_json, folder, seed=0)).last_checkpoint
    assert checkpoint is not None
    return checkpoint


def main() -> None:
    """Write samples.png, predictions.png and scores.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a model of the demo; trained when left out")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder for the pictures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = args.checkpoint or trained(folder)
        samples = [
            labelled_sample("boxes", (128, 128), seed=3),
            labelled_sample("flowers", (128, 128), seed=4),
            labelled_sample("flowers", (128, 128), seed=5, pooled=True),
        ]
        titles = ["boxes", "flowers", "three names in one channel"]
        pictures = {
            "samples": image_grid(samples, len(samples), titles),
            "predictions": prediction_grid(checkpoint, folder / "unseen", IMAGE_HW),
        }
        for stem, picture in pictures.items():
            with atomic_write(args.output / f"{stem}.png") as temporary:
                small = (
                    picture[..., ::-1] & 0xFC
                )  # six bits a colour: the noise takes half the file otherwise
                cv2.imwrite(str(temporary), small, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        strips = score_strips(checkpoint, folder, sides=(64, 96, 128), seeds=range(101, 106))
        strip_plot(strips, args.output / "scores.png", title="The demo's model on unseen boxes")


if __name__ == "__main__":
    main()
