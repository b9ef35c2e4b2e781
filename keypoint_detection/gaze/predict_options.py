"""What a run of gaze predictions is asked for, beside model, source, boxes and output folder."""

from dataclasses import dataclass

from keypoint_detection.gaze.gaze_prediction import SAMPLES


@dataclass(frozen=True)
class GazePredictOptions:
    """Hold the choices of a run.

    Attributes:
        samples: Maps of each person; a direct decoder has one.
        seed: Of the noise.
        batch_size: People at once.
        depth: Folder of depth maps: of the names of the images, or ending in .png; for a video one per frame,
            in the natural order of their names. For a model that was trained with them.
        max_frames: Frames of a video; None takes all of them.
        overlays: Draw `overlays/*.png`, or `overlay.mp4`.
        restart: Take no notice of what an interrupted run has left.
    """

    samples: int = SAMPLES
    seed: int = 0
    batch_size: int = 16
    depth: str | None = None
    max_frames: int | None = None
    overlays: bool = True
    restart: bool = False

    def __post_init__(self) -> None:
        """Raise a ValueError for a value that is out of its range."""
        for name, least in (("samples", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"expected {name} >= {least}, got {getattr(self, name)}")
