"""What goes with `--occlusion signed`: the checks of a configuration and of the labels, without torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keypoint_detection.train.loss_names import loss_names

if TYPE_CHECKING:
    from keypoint_detection.data.coco_dataset_table import KeypointTable

OCCLUSION_HELP = (
    "occluded keypoints (visibility 1): ignore that they are, or signed: with negative heatmaps, so that "
    "detections are told to be visible or occluded"
)


def check_occlusion(occlusion: str, *, head: str, loss_function: str | None, visible_only: bool) -> None:
    """Raise a ValueError, in one line, for settings that signed heatmaps cannot be trained with.

    Args:
        occlusion: `ignore`, which goes with everything, or `signed`.
        head: `heatmap` or `regression`.
        loss_function: Its loss, or None for the default.
        visible_only: Whether occluded keypoints are left out.
    """
    if occlusion == "ignore":
        return
    if head != "heatmap":
        raise ValueError(f"--occlusion signed: expected --head heatmap, got {head}; a point has no sign")
    known = loss_names("signed")
    if loss_function is not None and loss_function not in known:
        raise ValueError(
            f"--occlusion signed: expected --loss_function {', '.join(known)}, got "
            f"{loss_function}, which takes heatmaps for probabilities; give one of these or none"
        )
    if visible_only:
        raise ValueError(
            "--occlusion signed: expected occluded keypoints in training, got "
            "--detect_only_visible_keypoints, which leaves them out; leave one of the two out"
        )


def one_sided_labels(table: "KeypointTable", names: Sequence[str]) -> str | None:
    """Return one line where the labels cannot teach signed heatmaps both signs, else None.

    Args:
        table: The training file.
        names: The keypoints that are trained on.
    """
    import numpy as np  # not for the flags of the command

    known = np.isin(np.array(table.names, str), list(names))
    flags = table.visibility[known[table.name_index]]
    n_occluded = int((flags == 1).sum())
    if 0 < n_occluded < len(flags):
        return None
    lacking = "visible (visibility 2)" if n_occluded else "occluded (visibility 1)"
    return (
        f"--occlusion signed: expected visible and occluded keypoints in {table.json_path}, got {len(flags)} "
        f"of which none is {lacking}: the model will tell none to be"
    )
