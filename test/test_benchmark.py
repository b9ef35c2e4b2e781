from pathlib import Path

import pytest
import torch
from reference.average_precision import average_precision

from keypoint_detection import benchmark
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps


def test_the_dense_reference_is_the_same_formula() -> None:
    points = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)) * 30
    ours = generate_heatmaps(points, torch.full((2, 3, 4), 2), (24, 32), 1.5)
    assert torch.allclose(benchmark.dense_heatmaps(points, (24, 32), 1.5), ours, atol=1e-6)


def test_the_max_pool_reference_finds_the_same_pixels() -> None:
    points = torch.tensor([[[[5.0, 6.0], [20.0, 9.0]]]])
    maps = generate_heatmaps(points, torch.full((1, 1, 2), 2), (16, 32), 1.5) * 0.9
    ours, _ = extract_keypoints(maps, 2, 3, refine="none")
    pooled, _ = benchmark.max_pool_peaks(maps, 2, 3)
    assert sorted(ours[0, 0].tolist()) == sorted(pooled[0, 0].tolist())


def test_a_row_shows_the_ratio_to_its_reference() -> None:
    assert "2.5x" in str(benchmark.Row("a | b", 0.2, 0.5, ">= 2x"))
    assert "x" not in str(benchmark.Row("alone", 0.2, note="7 images/s")).replace("alone", "")


def test_the_median_leaves_the_first_call_out() -> None:
    calls = []
    assert benchmark.median_seconds(lambda: calls.append(1), repeats=3) >= 0
    assert len(calls) == 4


def test_average_precision_is_compared_value_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_images(preds, scores, target, visibility, thresholds):
        return average_precision(preds[:40], scores[:40], target[:40], visibility[:40], thresholds)

    (row,) = benchmark.time_average_precision(first_images)
    assert row.note == "VALUES DIFFER"  # a reference that sees other images must not pass for the same


def test_loader_and_training_step_are_timed(boxes_json: Path) -> None:
    (loader,) = benchmark.time_loader(boxes_json, worker_counts=(0,))
    (step,) = benchmark.time_training_step(boxes_json, steps=4)
    assert "images/s" in loader.note
    assert loader.seconds > 0
    assert step.reference_seconds is not None
    assert "overhead" in step.note
