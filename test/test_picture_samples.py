from pathlib import Path

import numpy as np

from keypoint_detection.data.synthetic import draw_image
from keypoint_detection.picture_samples import labelled_sample, prediction_grid, score_strips


def test_a_sample_shows_its_labels_pooled_or_with_a_skeleton() -> None:
    image, objects = draw_image("flowers", (96, 96), np.random.default_rng(5))
    large = np.kron(image, np.ones((2, 2, 1), np.uint8))
    single = labelled_sample("flowers", (96, 96), 5)
    pooled = labelled_sample("flowers", (96, 96), 5, pooled=True)
    for picture in (single, pooled):
        assert picture.shape == (192, 192, 3)
        for point in (p for thing in objects for p in thing.keypoints.values()):
            x, y = round(2 * point.x + 0.5), round(2 * point.y + 0.5)
            around = np.s_[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7]
            assert np.abs(picture[around].astype(int) - large[around]).max() > 60
    lines = (single.min(-1) > 225).sum() - (pooled.min(-1) > 225).sum()
    assert lines > 30  # the white lines of the skeleton


def test_predictions_and_scores_of_a_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    grid = prediction_grid(tiny_checkpoint, tmp_path / "unseen", (64, 64), n_images=2)
    assert grid.shape[1] == 2 * 256 + 2
    assert grid.shape[0] > 3 * 256
    panels = score_strips(tiny_checkpoint, tmp_path, sides=(64,), seeds=(101, 102), n_images=2)
    assert set(panels) == {"AP at 2 px", "mean error in px"}
    for (strip,) in panels.values():
        assert strip.label == "64x64 images"
        assert len(strip.values) == len(strip.names) == 2
        assert strip.centre == np.mean(strip.values)
