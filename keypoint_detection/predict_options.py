"""What a prediction run is asked for, beside model, source and output folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PredictOptions:
    """Hold the choices of a prediction run.

    Attributes:
        confidence_threshold: Least score of a point that is written, in [0, 1].
        batch_size: Images per forward pass, when they are of one size.
        flip_test: Average with the prediction for the mirrored image.
        symmetric_keypoints: `(left, right)` names that change places in a mirror; None finds them.
        tile_px: Side of the tiles that large images are cut into; None takes images as a whole.
        overlap_px: How far tiles reach into each other.
        max_keypoints: Most points per channel; None takes the model's.
        visibility: `.ckpt` file of a visibility classifier, which adds `p_visible` to every point.
        max_frames: Frames of a video or a camera; None takes all of them.
        restart: Take no notice of what an interrupted run has left.
        coco: Also write `predictions_coco.json`.
        json_dataset_path: COCO file that gives ids and category for that, and sides for the flip test.
        deeplabcut: Also write `deeplabcut/`.
        overlays: Draw `overlays/*.png`, or `overlay.mp4` for a video.
        trail_frames: Length of the trails in the overlay of a video.
        names: Write the names of the channels into the overlays.
    """

    confidence_threshold: float = 0.1
    batch_size: int = 8
    flip_test: bool = False
    symmetric_keypoints: Sequence[Sequence[str]] | None = None
    tile_px: int | None = None
    overlap_px: int = 128
    max_keypoints: int | None = None
    visibility: str | Path | None = None
    max_frames: int | None = None
    restart: bool = False
    coco: bool = False
    json_dataset_path: str | Path | None = None
    deeplabcut: bool = False
    overlays: bool = True
    trail_frames: int = 0
    names: bool = True

    def __post_init__(self) -> None:
        """Raise a ValueError for values that do not go together."""
        if self.batch_size < 1:
            raise ValueError(f"expected a batch size of 1 or more, got {self.batch_size}")
        if self.tile_px is not None and not 0 <= self.overlap_px < self.tile_px:
            raise ValueError(
                f"expected tiles that overlap by less than their side of {self.tile_px} px, got "
                f"{self.overlap_px} px; give a smaller --overlap or a larger --tile"
            )
        if self.trail_frames and not self.overlays:
            raise ValueError("--trail changes nothing with --no-overlays; leave one of them out")
        if self.symmetric_keypoints is not None and not self.flip_test:
            raise ValueError("--symmetric_keypoints changes nothing without --flip_test; give both")
        if self.json_dataset_path is not None and not (self.coco or self.flip_test):
            raise ValueError(
                "--json_dataset_path changes nothing by itself; give it with --coco or --flip_test"
            )
