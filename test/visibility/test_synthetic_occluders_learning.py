"""`visibility train` on drawn keypoints with occluders tells on other images which ones can be seen."""

from pathlib import Path

import pytest

from keypoint_detection.data.synthetic import KINDS
from keypoint_detection.metrics.binary_classification import binary_scores
from keypoint_detection.visibility.occlusion_scores import classifier_logits, labelled_points
from keypoint_detection.visibility.predict_visibility import load_point_visibility
from keypoint_detection.visibility.synthetic_occluders import make_occluded
from keypoint_detection.visibility.train import train
from keypoint_detection.visibility.train_config import VisibilityTrainConfig

N_TRAIN, N_UNSEEN = 300, 100


@pytest.mark.slow
def test_p_visible_of_keypoints_on_unseen_images(tmp_path: Path) -> None:
    config = VisibilityTrainConfig(
        json_dataset_path=str(make_occluded(tmp_path / "train", N_TRAIN, seed=1)),
        factors=[1, 2, 4],
        patch_px=32,
        size_hidden=32,
        max_epochs=6,
        learning_rate=3e-3,
        validation_split_ratio=0.05,
        check_val_every_n_epoch=6,
        num_workers=0,
        accelerator="cpu",
        seed=0,
        default_root_dir=str(tmp_path),
        run_name="run",
    )
    tell = load_point_visibility(train(config, is_quiet=True, has_page=False).last_checkpoint)
    unseen = labelled_points(make_occluded(tmp_path / "unseen", N_UNSEEN, seed=2), KINDS["flowers"].channels)
    assert 0.3 <= (unseen.label == 0).mean() <= 0.5
    logits = classifier_logits(tell, unseen)
    scores = binary_scores(logits, unseen.label)
    print({name: round(float(value), 4) for name, value in scores.items()}, len(unseen.label))
    assert scores["auroc"] >= 0.95
    assert scores["balanced_accuracy"] >= 0.88
    # The rank statistic itself, counted pair by pair: the share of pairs that are in the right order.
    seen, hidden = logits[unseen.label == 1], logits[unseen.label == 0]
    pairs = (seen[:, None] > hidden).mean() + 0.5 * (seen[:, None] == hidden).mean()
    assert scores["auroc"] == pytest.approx(pairs, abs=1e-4)
