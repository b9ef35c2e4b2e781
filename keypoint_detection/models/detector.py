"""KeypointDetector: backbone, head, loss, optimiser and scores, wired together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from keypoint_detection.data.channels import channel_name, channel_skeleton
from keypoint_detection.data.coco_dataset import Batch
from keypoint_detection.models import optimization
from keypoint_detection.models.backbones.backbone_factory import backbone_options as known_options
from keypoint_detection.models.backbones.backbone_factory import create_backbone
from keypoint_detection.models.heads_signed import check_same_occlusion, create_occlusion_head
from keypoint_detection.models.inference import decode_batch, predict_images
from keypoint_detection.models.losses import entropy_floor
from keypoint_detection.models.losses_mining import mined
from keypoint_detection.models.scores import DetectionScores, counted_samples, scores_of
from keypoint_detection.models.transfer import freeze, hold_still, unfreeze
from keypoint_detection.records import Prediction
from keypoint_detection.utils.heatmap import sigma_at_epoch


class KeypointDetector(pl.LightningModule):
    """Predict one heatmap per channel; a channel may hold any number of keypoints.

    Args:
        keypoint_channel_configuration: Keypoint names per channel.
        backbone_type: Name in the backbone registry.
        backbone_options: Options of that backbone.
        head: `heatmap`, or `regression`: one point per channel from pooled or class-token features.
        occlusion: `ignore`, or `signed`: heatmaps are negative at occluded keypoints.
        loss_function: Name in the losses of the head; None takes its default (BCE, SmoothL1).
        ohkm: Channels per image, those with the largest loss, that are trained on; 0: all.
        heatmap_sigma: Standard deviation of the targets in heatmap pixels.
        variable_heatmap_sigma: Sigma of the last epoch, reached linearly from epoch 10; None keeps the first.
        maximal_gt_keypoint_pixel_distances: AP thresholds in original pixels; all below 1: OKS thresholds.
        minimal_keypoint_extraction_pixel_distance: Radius of non-maximum suppression in heatmap pixels.
        max_keypoints: Most detections per channel and image.
        ap_epoch_start: First epoch with scores.
        ap_epoch_freq: Epochs between two scores; the last epoch always has them.
        detect_only_visible_keypoints: Leave occluded keypoints (visibility 1) out of targets and scores.
        mask_excluded_keypoints: Also leave their surroundings out of the loss.
        image_size: Height and width that predictions letterbox images to; None keeps their size.
        input_mode: `image`, or `instance`: trained on one crop per annotation.
        box_padding: Enlargement of the boxes of instances, as a factor.
        scoring: What the scores depend on: the fields of `ScoreConfig` by name; None takes the defaults.
        skeleton: Pairs of keypoint names that a line joins in drawings.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decay of the weights of convolutions and linear layers.
        warmup: Share of the run in which the learning rate rises; None: see `lr_factor`.
        warmup_steps: The same in steps.
        decay_type: A name in the decays, for what it does after that.
        final_lr_share: Share of the peak learning rate at the end.
        plateau_factor: What `plateau` multiplies the learning rate by.
        plateau_patience: Validations without a gain that it does so after.
        plateau_metric: `loss` or `map`: what is to gain.
        layer_decay: Factor on the learning rate per layer of the encoder, from the features to the image.
        freeze_backbone: Hold the encoder still (the whole backbone if it has none).
        unfreeze_epoch: Hold it still until this epoch.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(  # noqa: PLR0913  plain values are what a checkpoint can restore
        self,
        keypoint_channel_configuration: list[list[str]],
        backbone_type: str = "Unet",
        backbone_options: dict[str, Any] | None = None,
        *,
        head: str = "heatmap",
        occlusion: str = "ignore",
        loss_function: str | None = None,
        ohkm: int = 0,
        heatmap_sigma: float = 2.0,
        variable_heatmap_sigma: float | None = None,
        maximal_gt_keypoint_pixel_distances: Sequence[float] = (2.0, 4.0),
        minimal_keypoint_extraction_pixel_distance: int = 1,
        max_keypoints: int = 20,
        ap_epoch_start: int = 1,
        ap_epoch_freq: int = 2,
        detect_only_visible_keypoints: bool = False,
        mask_excluded_keypoints: bool = False,
        image_size: Sequence[int] | None = None,
        input_mode: str = "image",
        box_padding: float = 1.25,
        scoring: dict[str, Any] | None = None,
        skeleton: Sequence[Sequence[str]] = (),
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float | None = None,
        warmup_steps: int | None = None,
        decay_type: str = "cosine",
        final_lr_share: float = 0.0,
        plateau_factor: float = 0.5,
        plateau_patience: int = 5,
        plateau_metric: str = "loss",
        layer_decay: float = 1.0,
        freeze_backbone: bool = False,
        unfreeze_epoch: int | None = None,
    ) -> None:
        super().__init__()
        maximal_gt_keypoint_pixel_distances = [float(value) for value in maximal_gt_keypoint_pixel_distances]
        image_size = [int(side) for side in image_size] if image_size else None
        skeleton = [list(ends) for ends in skeleton]
        self.save_hyperparameters()
        self.channel_names = [channel_name(channel) for channel in keypoint_channel_configuration]
        set_here = {"n_heatmaps": len(self.channel_names), "class_token": head == "regression"}
        taken = {name: value for name, value in set_here.items() if name in known_options(backbone_type)}
        self.backbone = create_backbone(backbone_type, **{**(backbone_options or {}), **taken})
        self.head = create_occlusion_head(head, occlusion, self.backbone, len(self.channel_names))
        self.register_buffer("image_mean", torch.tensor(self.backbone.image_mean).view(-1, 1, 1) * 255, False)
        self.register_buffer("image_std", torch.tensor(self.backbone.image_std).view(-1, 1, 1) * 255, False)
        self.loss_name = loss_function or self.head.default_loss
        self.loss_function = self.head.losses[self.loss_name]
        self.training_loss = mined(self.loss_function, ohkm, len(self.channel_names))
        self.learning_rate = learning_rate
        self.is_frozen = freeze_backbone or unfreeze_epoch is not None
        if self.is_frozen:
            freeze(self.backbone)
        self.validation_scores, self.test_scores = scores_of(self), scores_of(self)
        self.latest_map = -1.0
        self.latest_score_epoch: int | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Predict, as the head does: logits or normalised points.

        Args:
            image: uint8 `[n, c_in, h, w]`.

        Returns:
            Heatmap logits `[n, c, ceil(h / stride), ceil(w / stride)]`, or for direct regression points
            `[n, c, 2]`, where the image spans [0, 1].
        """
        return self.forward_stages(image)[-1]

    def forward_stages(self, image: Tensor) -> list[Tensor]:
        """Return what every stage predicts, the last one's at the end; most backbones have one stage."""
        if image.dtype != torch.uint8 or image.ndim != 4:
            raise ValueError(
                "KeypointDetector expects uint8 images [n, channels, height, width] with values 0..255; got "
                f"{image.dtype} {list(image.shape)}; normalisation happens inside."
            )
        features, earlier = self.backbone.forward_stages((image - self.image_mean) / self.image_std)
        return [*(earlier if self.head.uses_stages else []), self.head(features)]

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for a backbone that is held still."""
        super().train(mode)
        if self.is_frozen:
            hold_still(self.backbone)
        return self

    def predict(
        self,
        images: "str | Path | Sequence[str | Path] | NDArray | Sequence[NDArray] | Tensor",
        batch_size: int = 8,
    ) -> list[Prediction]:
        """Find the keypoints of images, in original pixels.

        Args:
            images: Path(s), uint8 HWC array(s), or a uint8 NCHW tensor.
            batch_size: Images per forward pass.

        Returns:
            One prediction per image, in order.
        """
        return predict_images(self, images, batch_size)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self._shared_step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of a batch and collect its scores in the epochs that have them."""
        self._shared_step(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of a batch and collect its scores."""
        self._shared_step(batch, "test")

    def _shared_step(self, batch: Batch, stage: str) -> Tensor:
        stages = self.forward_stages(batch["image"])
        target, weight = self.targets(batch, stages[-1])
        loss_function = self.training_loss if stage == "train" else self.loss_function
        per_channel = torch.stack([loss_function(output, target, weight) for output in stages]).mean(0)
        loss = per_channel.sum()
        self._log_losses(stage, batch, loss, per_channel)
        if self.loss_name == "BCE" and stage != "train":
            floor = entropy_floor(self.head.probabilities(target), weight).sum()
            self.log(f"{stage}/gt_loss", floor, batch_size=counted_samples(batch), sync_dist=True)
        if stage == "test" or (stage == "validation" and self.is_score_epoch()):
            collected = self.test_scores if stage == "test" else self.validation_scores
            found = decode_batch(self, stages[-1], batch, signed=True)
            collected.update(*found, batch, self.required_visibility)
        return loss

    def _log_losses(self, stage: str, batch: Batch, loss: Tensor, per_channel: Tensor) -> None:
        size = counted_samples(batch)
        trains, name = stage == "train", f"{stage}/loss"
        self.log(name, loss, True, batch_size=size, on_step=trains, on_epoch=True, sync_dist=not trains)
        named = {
            f"{stage}/loss/{name}": value for name, value in zip(self.channel_names, per_channel, strict=True)
        }
        self.log_dict(named, batch_size=size, on_step=False, on_epoch=True, sync_dist=True)

    @property
    def required_visibility(self) -> int:
        """Return the lowest visibility flag that counts as a keypoint."""
        return 2 if self.hparams["detect_only_visible_keypoints"] else 1

    @property
    def channel_skeleton(self) -> list[tuple[int, int]]:
        """Return the lines of the skeleton as pairs of channels."""
        return channel_skeleton(self.hparams["keypoint_channel_configuration"], self.hparams["skeleton"])

    def targets(self, batch: Batch, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what a prediction of the shape of `output` should be, and the loss weights or None."""
        return self.head.targets(
            batch,
            output,
            required_visibility=self.required_visibility,
            sigma_px=self.sigma_px(),
            mask_excluded=self.hparams["mask_excluded_keypoints"],
        )

    def sigma_px(self) -> float:
        """Return the standard deviation of this epoch's targets in heatmap pixels."""
        first, last = self.hparams["heatmap_sigma"], self.hparams["variable_heatmap_sigma"]
        if last is None or self._trainer is None or not self.trainer.max_epochs:
            return first
        last_epoch = self.trainer.max_epochs - 1
        if self.trainer.max_epochs < 0:  # a time limit: the last epoch at the pace so far
            last_epoch = round(self.current_epoch / max(optimization.training_progress(self.trainer), 1e-3))
        return sigma_at_epoch(first, last, self.current_epoch, last_epoch)

    def is_score_epoch(self) -> bool:
        """Tell whether this validation has scores: the last, or `ap_epoch_freq` epochs after those before."""
        trainer = self.trainer
        is_at_the_end = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if trainer.state.fn != TrainerFn.FITTING or is_at_the_end:
            return True
        epoch, freq = self.current_epoch, self.hparams["ap_epoch_freq"]
        is_due = self.latest_score_epoch is None or epoch - self.latest_score_epoch >= freq
        return epoch + 1 == trainer.max_epochs or (is_due and epoch >= self.hparams["ap_epoch_start"])

    def on_fit_start(self) -> None:
        """Refuse what several devices cannot do."""
        if self.hparams["unfreeze_epoch"] is not None and self.trainer.world_size > 1:
            raise ValueError(
                "--unfreeze_epoch expects one device, as gradients that appear later are not exchanged; got "
                f"{self.trainer.world_size}; train with --freeze_backbone, then again with --init_weights."
            )

    def on_train_start(self) -> None:
        """Forget the scores of validations that were not part of this training, such as those of lr_find."""
        self.latest_map, self.latest_score_epoch = -1.0, None

    def on_train_epoch_start(self) -> None:
        """Let the backbone go in its epoch, also in a run that was resumed after it."""
        epoch = self.hparams["unfreeze_epoch"]
        if self.is_frozen and epoch is not None and self.current_epoch >= epoch:
            self.is_frozen = False
            unfreeze(self.backbone)

    def on_validation_epoch_end(self) -> None:
        """Log the scores where they are due, and the number that picks the best checkpoint."""
        if self.is_score_epoch():
            values = self._log_scores("validation", self.validation_scores)
            self.latest_map, self.latest_score_epoch = values["map"], self.current_epoch
            self.log("map", values["map"], prog_bar=True, logger=False)
        self.log("checkpoint/validation_map", self.latest_map)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test set."""
        self._log_scores("test", self.test_scores)

    def _log_scores(self, stage: str, scores: DetectionScores) -> dict[str, float]:
        values = scores.compute()
        scores.reset()
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
        return values

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume from averaged weights without averaging, and from maps of another meaning."""
        optimization.check_averages_go_on(self._trainer, checkpoint)
        check_same_occlusion(checkpoint, self.hparams["occlusion"])

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return what tells the schedule about validations, where it listens."""
        return optimization.plateau_callbacks(self.hparams)

    def configure_optimizers(self) -> Any:
        """Return AdamW under the schedule of the whole run."""
        return optimization.optimizer_and_schedule(self, self.learning_rate)
