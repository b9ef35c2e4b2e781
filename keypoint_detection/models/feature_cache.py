"""Take the features of a frozen encoder out of a backbone once, and put them in its place afterwards."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import (
    backbone_class,
    create_backbone,
    list_backbones,
)
from keypoint_detection.models.backbones.base_backbone import Backbone

LARGEST_HALF = torch.finfo(torch.float16).max


class FrozenEncoder:
    """Stand between the encoder of a backbone and what is trained after it.

    Where the backbone calls its encoder as a module, what that returns is kept: the maps of all scales. Else
    the input of the decoder is kept, and without a decoder the features of the backbone.

    Attributes:
        features: What the next pass uses in place of the encoder's output, `[n, c, h, w]` each; None runs the
            encoder.

    Args:
        backbone: Its `pretrained_part` must not change as long as features are kept.

    Raises:
        ValueError: The backbone has no encoder apart from the rest; the message lists those that have one.
    """

    def __init__(self, backbone: Backbone) -> None:
        if backbone.pretrained_part is backbone:
            raise ValueError(
                f"--frozen_features: expected a backbone with an encoder apart from its decoder, got "
                f"{type(backbone).__name__}; those with one: {', '.join(backbones_with_encoder())}"
            )
        self.backbone, self.encoder = backbone, backbone.pretrained_part
        self.features: Sequence[Tensor] | None = None
        side = backbone.size_multiple
        probe = torch.zeros(1, backbone.in_channels, side, side, device=_device_of(backbone))
        with _eval_mode(backbone):
            self._place = next(place for place in self._places() if self._caught(place, probe) is not None)

    @torch.inference_mode()
    def record(self, image: Tensor) -> list[Tensor]:
        """Return what is to be kept of images of one size.

        Args:
            image: Float `[n, c_in, h, w]`, normalised, on the device of the backbone.

        Returns:
            float16 `[n, c, h', w']` each; values beyond float16 are cut off.
        """
        with _eval_mode(self.backbone):
            caught = self._caught(self._place, image)
        assert caught is not None
        return [kept.float().clamp(-LARGEST_HALF, LARGEST_HALF).half() for kept in caught]

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Let the backbone use `features` wherever they are set, within the block."""
        place = self._place
        target, name = (
            (self.encoder, "forward") if place is self.encoder else (self.backbone, "stage_outputs")
        )
        live: Callable[[Tensor], Any] = getattr(target, name)

        def kept_or_live(image: Tensor) -> Any:
            if self.features is None:
                return live(image)
            layout = torch.channels_last if image.device.type == "cpu" else torch.preserve_format
            kept = [level.to(image, memory_format=layout) for level in self.features]
            if place is self.encoder:
                return kept
            return (kept[0] if place is None else place(*kept)), []

        vars(target)[name] = kept_or_live
        try:
            yield
        finally:
            del vars(target)[name]

    def _places(self) -> Iterator[nn.Module | None]:
        yield self.encoder
        decoder = getattr(self.backbone, "decoder", None)
        if isinstance(decoder, nn.Module):
            yield decoder
        yield None

    def _caught(self, place: nn.Module | None, image: Tensor) -> list[Tensor] | None:
        """Run the backbone and return the encoder's output, the decoder's input, or its own features."""
        caught: list[list[Tensor]] = []
        hook = None
        if place is not None and place is self.encoder:
            hook = place.register_forward_hook(
                lambda _module, _inputs, output: caught.append(_listed(output))
            )
        elif place is not None:
            hook = place.register_forward_pre_hook(lambda _module, inputs: caught.append(list(inputs)))
        try:
            with torch.inference_mode():
                features, _ = self.backbone.forward_stages(image)
        finally:
            if hook is not None:
                hook.remove()
        if place is None:
            return [features]
        return caught[0] if len(caught) == 1 else None


def _listed(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode and every part of it back into the mode that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def backbones_with_encoder() -> list[str]:
    """Return the names of the backbones whose encoder can be frozen apart; builds them without memory."""
    split: dict[type[Backbone], bool] = {}
    for name in list_backbones():
        kind = backbone_class(name)
        if kind not in split:
            with torch.device("meta"):
                made = create_backbone(name)
            split[kind] = made.pretrained_part is not made
    return [name for name in list_backbones() if split[backbone_class(name)]]
