"""Time a training epoch with a live frozen encoder against one on features that were kept, without a GPU."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.frozen_features import frozen_features
from keypoint_detection.train.utils import (
    build_data_module,
    build_detector,
    build_trainer,
    expected_warnings_ignored,
)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ViT-S_16", {}),
    ("ConvNeXtUnet", {"output_stride": 4}),
    ("ConvNeXtUnet", {}),
]


class EpochTimes(pl.Callback):
    """Collect the seconds of the training epochs, without the validations between them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop it after the last batch."""
        if batch_idx + 1 == trainer.num_training_batches:
            self.seconds.append(time.perf_counter() - self.start)


def epoch_seconds(config: TrainConfig, folder: Path) -> tuple[float, float]:
    """Return the median epoch after the first, and the time that it took to compute the features."""
    torch.manual_seed(0)
    data = build_data_module(config)
    detector, times = build_detector(config, data.channels), EpochTimes()
    trainer = build_trainer(config, folder)
    trainer.callbacks.append(times)  # pyright: ignore[reportAttributeAccessIssue]
    start = time.perf_counter()
    with expected_warnings_ignored(), frozen_features(config, trainer, detector, data):
        filled = time.perf_counter() - start
        trainer.fit(detector, data)
    return statistics.median(times.seconds[1:]), filled


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for flag, default in (("--threads", 2), ("--images", 32), ("--size", 128), ("--epochs", 4)):
        parser.add_argument(flag, type=int, default=default, help=f"default: {default}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name, options in CASES:
        with tempfile.TemporaryDirectory() as folder:
            path = make_dataset("boxes", Path(folder), args.images, (args.size, args.size), seed=0)
            values = {"json_dataset_path": str(path), "backbone_type": name, "max_epochs": args.epochs}
            values |= {"accelerator": "cpu", "num_workers": 0, "augment_train": True, **options}
            values["trainer"] = {"enable_progress_bar": False, "limit_val_batches": 0}
            live, _ = epoch_seconds(TrainConfig(**values, freeze_backbone=True), Path(folder, "live"))
            kept, filled = epoch_seconds(TrainConfig(**values, frozen_features=2), Path(folder, "kept"))
        ratio = f"live {live:6.2f} s, kept {kept:6.2f} s an epoch: {live / kept:5.1f}x"
        print(f"{name} {options or ''}: {ratio}; 2 views {filled:.1f} s")
