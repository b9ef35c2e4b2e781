"""Pictures of a training: grids of predicted and target heatmaps and of detected keypoints."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.trainer.states import TrainerFn

from keypoint_detection.models.inference import decode_batch
from keypoint_detection.records import Keypoint, Prediction
from keypoint_detection.utils.heatmap import generate_heatmaps
from keypoint_detection.utils.visualization import draw_heatmap, draw_heatmaps, draw_prediction
from keypoint_detection.utils.visualization_grid import image_grid
from keypoint_detection.utils.visualization_marks import enlarged

_CELL_PX = 256  # pictures of half this size and less are enlarged: names need room


class ImageLogger(Callback):
    """Send grids of the first validation batch to wandb and TensorBoard, one column per image.

    The rows are predicted keypoints, predicted heatmaps and target heatmaps. One grid shows all channels,
    each in its colour and with its name; further ones show one channel each, for the first channels. In
    several processes the first one draws its own batch.

    Args:
        every_n_epochs: Least number of epochs from one grid to the next; the first validation has one.
        max_images: Most images of a grid.
        max_channels: Most channels that have a grid of their own.
    """

    def __init__(self, every_n_epochs: int, max_images: int = 6, max_channels: int = 22) -> None:
        self.every_n_epochs, self.max_images, self.max_channels = every_n_epochs, max_images, max_channels
        self.latest_epoch: int | None = None

    def on_validation_batch_end(  # noqa: D102, PLR0917  the signature is Lightning's
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or not trainer.is_global_zero:
            return
        loggers = [one for one in trainer.loggers if isinstance(one, WandbLogger | TensorBoardLogger)]
        if batch_idx or not loggers or not self._is_due(pl_module.current_epoch):
            return
        self.latest_epoch = pl_module.current_epoch
        for name, grid in self.grids(pl_module, batch).items():
            for one in loggers:
                _send(one, f"validation/{name}", grid, trainer.global_step)

    def _is_due(self, epoch: int) -> bool:
        # Validations may be any number of epochs apart: a remainder of the epoch could miss them all.
        return self.latest_epoch is None or epoch - self.latest_epoch >= self.every_n_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must remember."""
        return {"latest_epoch": self.latest_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore when the interrupted run sent its last pictures."""
        self.latest_epoch = state_dict["latest_epoch"]

    def grids(self, pl_module: Any, batch: Any) -> dict[str, np.ndarray]:
        """Return uint8 RGB pictures by name: `all_channels`, and one per channel up to `max_channels`."""
        output = pl_module(batch["image"])
        inputs = {**batch, "to_image": _identity_like(batch["to_image"]), "image_hw": batch["input_hw"]}
        found_points = decode_batch(pl_module, output, inputs, signed=True)
        points, scores = (value.float().cpu().numpy() for value in found_points)
        images = batch["image"].permute(0, 2, 3, 1).cpu().numpy()[: self.max_images, ..., :3]
        predicted, targets = _maps(pl_module, batch, output)
        names = tuple(pl_module.channel_names)
        found = [
            _prediction(xy, score, names, image)
            for xy, score, image in zip(points, scores, images, strict=False)
        ]
        grids = {"all_channels": _grid(images, found, predicted, targets, pl_module.channel_skeleton)}
        for channel, name in enumerate(names[: self.max_channels]):
            one = [Prediction((record.keypoints[channel],), (name,), record.image_hw) for record in found]
            part = slice(channel, channel + 1)
            grids[name] = _grid(images, one, predicted[:, part], targets[:, part])
        return grids


def _send(logger: Logger, name: str, picture: np.ndarray, step: int) -> None:
    """Send a uint8 RGB picture `[h, w, 3]` to a logger that takes pictures."""
    if isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step=step, file_type=["jpg"])  # a tenth of the size of PNG
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")


def _grid(
    images: np.ndarray,
    found: Sequence[Prediction],
    predicted: np.ndarray,
    targets: np.ndarray,
    skeleton: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """Return three rows of pictures: predicted keypoints, predicted heatmaps, target heatmaps."""
    enlarge = max(1, _CELL_PX // max(images.shape[1:3]))

    def overlay(image: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
        large = enlarged(image, enlarge)
        return draw_heatmap(large, heatmaps[0]) if len(heatmaps) == 1 else draw_heatmaps(large, heatmaps)

    above = [
        draw_prediction(image, record, enlarge=enlarge, skeleton=skeleton)
        for image, record in zip(images, found, strict=True)
    ]
    rows = [[overlay(*pair) for pair in zip(images, maps, strict=False)] for maps in (predicted, targets)]
    titles = ["predicted keypoints", "predicted heatmaps", "target heatmaps"]
    return image_grid([*above, *rows[0], *rows[1]], len(images), row_titles=titles)


def _prediction(
    points: np.ndarray, scores: np.ndarray, names: tuple[str, ...], image: np.ndarray
) -> Prediction:
    """Return the record of one image: points `[c, k, 2]` and scores `[c, k]`; NaN is left out.

    A score with a minus makes an occluded point.
    """
    channels = tuple(
        tuple(
            Keypoint(float(x), float(y), abs(float(s)), visibility=1 if s < 0 else 2)
            for (x, y), s in zip(*pair, strict=True)
            if np.isfinite(x)
        )
        for pair in zip(points, scores, strict=True)
    )
    return Prediction(channels, names, (image.shape[0], image.shape[1]))


def _maps(pl_module: Any, batch: Any, output: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted and target heatmaps, `[n, c, h, w]` in [0, 1].

    Of signed ones it is the magnitude. A direct regression predicts none, and its targets are drawn.
    """
    if output.ndim == 4:
        targets, _ = pl_module.targets(batch, output)
        predicted = pl_module.head.maps(output)
        return predicted.abs().cpu().numpy(), targets.float().abs().cpu().numpy()
    hw = (batch["image"].shape[-2], batch["image"].shape[-1])
    targets = generate_heatmaps(batch["keypoints"], batch["visibility"], hw, sigma_px=4.0).cpu().numpy()
    return np.zeros_like(targets), targets


def _identity_like(affine: Any) -> Any:
    identity = affine.new_zeros(affine.shape)
    identity[:, 0, 0] = identity[:, 1, 1] = 1.0
    return identity
