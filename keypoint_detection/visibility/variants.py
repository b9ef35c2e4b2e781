"""The eight variants of the network, cross-validated on the same folds and compared in one figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.compare import GroupComparison
from keypoint_detection.visibility.compare_runs import fold_folders, write_group_comparison
from keypoint_detection.visibility.cross_validation import cross_validate
from keypoint_detection.visibility.train_config import VisibilityTrainConfig
from keypoint_detection.visibility.train_data import PointDataset

VARIANTS: Mapping[str, Mapping[str, bool]] = {
    "+".join(
        [
            *(["aligned"] if align else []),
            *(["shared"] if share else [] if align else ["concat"]),
            *(["MLP"] if mlp else []),
        ]
    ): {"align_features": align, "share_weights": share, "use_mlp": mlp}
    for align in (False, True)
    for share in (False, True)
    for mlp in (False, True)
}
"""Options of the network by the name of each variant of the published table."""


def compare_variants(
    config: VisibilityTrainConfig,
    data: PointDataset,
    output: str | Path,
    *,
    folds: int | None = None,
    resampling: Resampling | None = None,
    variants: Mapping[str, Mapping[str, Any]] = VARIANTS,
) -> GroupComparison:
    """Cross-validate every variant and write the comparison of all; call it again to go on.

    Args:
        config: Of every training but for the options of the variant.
        data: Whose views are the folds.
        output: A folder per variant, `comparison.csv`, `.md` and `.png`, and `confusions.png`.
        folds: Number of folds, at least 2; None leaves out one view after the other.
        resampling: How the intervals are made.
        variants: Settings of the training by name.

    Raises:
        ValueError: A setting is wrong, or the folder holds something else; one line.
        TrainingInterrupted: The user stopped the run.
    """
    output = Path(output)
    folders = []
    for number, (name, options) in enumerate(variants.items(), start=1):
        print(f"variant {name} ({number} of {len(variants)})", flush=True)
        folder = output / name.replace("+", "-")
        own = config.model_copy(update={**options, "eval_group": name})
        cross_validate(
            own, folder, folds=folds, resampling=resampling, data=data, is_quiet=True, has_pages=False
        )
        folders += fold_folders([folder], [name])
    return write_group_comparison(folders, output, resampling)
