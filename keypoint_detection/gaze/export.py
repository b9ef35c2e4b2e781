"""Export of what runs once per person: scene and head to tokens, features, in/out logit, and a direct map.

The sampling of a diffusion decoder stays in Python: it is a loop over the denoiser, whose tokens these are.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from keypoint_detection.files import atomic_write
from keypoint_detection.gaze.decoders import MapDecoder
from keypoint_detection.gaze.follower import GazeFollower

KINDS = {"onnx": ".onnx", "torch": ".pt2"}
"""Kinds of files, and how their names end."""

TOLERANCE = 1e-4
"""Of the largest value of an output, or of 1 where that is less."""

METADATA_FILE = "metadata.json"
"""Under this name `torch.export.load(path, extra_files=...)` gives the metadata of a `.pt2` file."""

_BATCHES = (1, 3)  # that a file is checked with
_Run = Callable[[list[Tensor]], list[NDArray[Any]]]


class ExportedFollower(nn.Module):
    """Hold the part of a follower that is exported; inputs and outputs are tensors.

    Args:
        follower: In eval mode.
    """

    def __init__(self, follower: GazeFollower) -> None:
        super().__init__()
        self.conditioner, self.in_out_head = follower.conditioner, follower.in_out_head
        decoder = follower.decoder
        self.direct_decoder = decoder.direct_decoder if isinstance(decoder, MapDecoder) else None

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return the inputs: uint8 images `[n, c, h, w]`."""
        depth = ("depth",) if self.conditioner.depth_branch is not None else ()
        return ("scene", "head", "head_mask", *depth)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the outputs; only a direct decoder has a `map`, `[n, 1, h, w]`."""
        return ("tokens", "features", "in_out_logit", *(("map",) if self.direct_decoder is not None else ()))

    def forward(
        self, scene: Tensor, head: Tensor, head_mask: Tensor, depth: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the outputs in the order of their names; the map is in [0, 1]."""
        conditioning = self.conditioner(scene, head, head_mask, depth)
        outputs = (conditioning.tokens, conditioning.features, self.in_out_head(conditioning.features))
        if self.direct_decoder is None:
            return outputs
        return (*outputs, self.direct_decoder(conditioning.tokens).sigmoid())


def kind_of(path: str | Path) -> str:
    """Return the kind of a file by the end of its name."""
    for kind, ending in KINDS.items():
        if Path(path).suffix.lower() == ending:
            return kind
    raise ValueError(f"expected a file that ends in {' or '.join(KINDS.values())}, got {path}")


def export_conditioner(follower: GazeFollower, path: str | Path, kind: str = "onnx") -> float:
    """Write a file, and compare it with the follower for one and for several people before it is in place.

    Inputs are uint8 at the sizes that the follower was trained with, for any number of people: `scene`,
    `head`, `head_mask`, and `depth` where it takes that. The file holds `scene_hw`, `head_hw`, `map_hw`,
    `decoder`, inputs and outputs as metadata.

    Args:
        follower: On any device; it stays as it is.
        path: The file, atomically written.
        kind: `onnx`, or `torch` for `torch.export.load`.

    Returns:
        The largest difference of an output, in shares of its largest value (of 1 where that is less).

    Raises:
        ValueError: The kind is not known, the extra `onnx` is not installed, or outputs differ by more than
            1e-4; nothing is written then.
    """
    path = Path(path)
    if kind not in KINDS:
        raise ValueError(f"expected {' or '.join(KINDS)}, got {kind!r}")
    if path.suffix.lower() != KINDS[kind]:
        raise ValueError(f"expected a file that ends in {KINDS[kind]}, got {path}")
    _check_installed(kind)
    with _ready(follower) as module, atomic_write(path) as temporary:
        write, opened = (_write_onnx, _open_onnx) if kind == "onnx" else (_write_torch, _open_torch)
        with warnings.catch_warnings(), _quiet_exporter():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            try:
                write(module, follower, temporary)
            except RuntimeError as failed:
                reason = str(failed).strip().splitlines()[0][:200]
                raise ValueError(f"the network cannot be exported as {kind}: {reason}") from failed
        error = _largest_error(module, follower, opened(temporary, module))
        if not error <= TOLERANCE:
            raise ValueError(
                f"expected the exported file to give what the model gives to {TOLERANCE:g}, got a difference "
                f"of {error:.2g}; nothing is written"
            )
    return error


def metadata(follower: GazeFollower) -> dict[str, Any]:
    """Return what whoever runs the file needs to know."""
    module, options = ExportedFollower(follower), follower.hparams
    return {
        "scene_hw": list(options["scene_hw"]),
        "head_hw": list(options["head_hw"]),
        "map_hw": list(follower.map_hw),
        "decoder": options["decoder"],
        "inputs": list(module.input_names),
        "outputs": list(module.output_names),
    }


def example_inputs(follower: GazeFollower, n: int) -> list[Tensor]:
    """Return inputs of `n` people: noise for pictures, a box for the mask."""
    generator = torch.Generator().manual_seed(n)
    scene_hw, head_hw = follower.hparams["scene_hw"], follower.hparams["head_hw"]

    def picture(channels: int, hw: tuple[int, int]) -> Tensor:
        return torch.randint(0, 256, (n, channels, *hw), dtype=torch.uint8, generator=generator)

    mask = torch.zeros(n, 1, *scene_hw, dtype=torch.uint8)
    mask[:, :, : scene_hw[0] // 3, scene_hw[1] // 4 : scene_hw[1] // 2] = 255
    depth = [picture(1, scene_hw)] if follower.conditioner.depth_branch is not None else []
    return [picture(3, scene_hw), picture(3, head_hw), mask, *depth]


@contextmanager
def _ready(follower: GazeFollower) -> Iterator[ExportedFollower]:
    """Give the module on the CPU, in eval mode and float32; the follower is as before in the end."""
    was_training, device = follower.training, follower.device
    kind = next(follower.parameters()).dtype
    if kind != torch.float32:
        raise ValueError(f"expected a model of float32 weights to export, got {kind}; use follower.float()")
    try:
        follower.eval().cpu()
        with torch.no_grad():
            yield ExportedFollower(follower).eval()
    finally:
        follower.to(device).train(was_training)


def _check_installed(kind: str) -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if kind == "onnx" and missing:
        raise ValueError(
            f"expected {', '.join(missing)} to be installed; pip install 'keypoint-detection[onnx]'"
        )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _write_onnx(module: ExportedFollower, follower: GazeFollower, path: Path) -> None:
    import onnx

    names = module.input_names
    torch.onnx.export(
        module,
        tuple(example_inputs(follower, 2)),
        path,
        input_names=list(names),
        output_names=list(module.output_names),
        dynamic_shapes=_dynamic(module),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(
        model, {name: json.dumps(value) for name, value in metadata(follower).items()}
    )
    onnx.save(model, path)


def _write_torch(module: ExportedFollower, follower: GazeFollower, path: Path) -> None:
    given = tuple(example_inputs(follower, 2))
    exported = torch.export.export(module, given, dynamic_shapes=_dynamic(module))
    torch.export.save(exported, path, extra_files={METADATA_FILE: json.dumps(metadata(follower))})


def _dynamic(module: ExportedFollower) -> dict[str, Any]:
    n_people = torch.export.Dim("n", min=1, max=4096)
    shapes: dict[str, Any] = {name: {0: n_people} for name in module.input_names}
    return shapes


def _open_onnx(path: Path, module: ExportedFollower) -> _Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(given: list[Tensor]) -> list[NDArray[Any]]:
        feed = {name: one.numpy() for name, one in zip(module.input_names, given, strict=True)}
        return [np.asarray(one) for one in session.run(list(module.output_names), feed)]

    return run


def _open_torch(path: Path, module: ExportedFollower) -> _Run:
    exported = torch.export.load(path).module()

    def run(given: list[Tensor]) -> list[NDArray[Any]]:
        return [one.numpy() for one in exported(*given)]

    return run


def _largest_error(module: ExportedFollower, follower: GazeFollower, run: _Run) -> float:
    """Return the largest difference, see `export_conditioner`; NaN or another shape is infinite."""
    errors = [0.0]
    for n in _BATCHES:
        given = example_inputs(follower, n)
        for one, expected in zip(run(given), module(*given), strict=True):
            wanted = expected.numpy()
            if one.shape != wanted.shape or not np.isfinite(one).all():
                return float("inf")
            errors.append(float(np.abs(one - wanted).max() / max(1.0, float(np.abs(wanted).max()))))
    return max(errors)
