import pytest
import torch

from keypoint_detection import score_benchmark
from keypoint_detection.score_benchmark import distance_ap, per_image_ap, points


def test_the_python_reference_is_the_same_number() -> None:
    case, thresholds = points(6, 2, 5, 20.0), [1.0, 3.0]
    expected = distance_ap(case, thresholds, batch=4).compute()["ap"]
    assert 0.1 < float(expected.mean()) < 0.9
    assert torch.allclose(
        torch.tensor(per_image_ap(case, thresholds), dtype=torch.float64), expected, atol=1e-12
    )


def test_every_row_names_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*score_benchmark.time_oks_average_precision(6, 2)]
    assert "pycocotools" in str(rows[0])
    assert rows[0].note == "AP equal to 1e-9"
    assert "faster-coco-eval" in str(rows[1])
    row = score_benchmark.time_share_of_forward(n_images=16, side=32)
    assert "% of the forward pass" in row.note
    assert score_benchmark.time_bootstrap(n_images=8, n_resamples=20).seconds > 0
