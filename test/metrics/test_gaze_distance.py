import math

import numpy as np
import pytest
import torch
from torch import Tensor

from keypoint_detection.metrics.gaze_distance import GazeDistance, gaze_distances

NAN = math.nan


def people(n: int = 20, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    size = torch.randint(50, 900, (n, 2), generator=generator)
    gaze = torch.rand(n, 5, 2, generator=generator) * size.flip(1)[:, None]
    gaze[torch.rand(n, 5, generator=generator) < 0.3] = NAN
    prediction = torch.rand(n, 2, generator=generator) * size.flip(1)
    return prediction, gaze, size, torch.randint(-1, 2, (n,), generator=generator, dtype=torch.int8)


def test_by_hand() -> None:
    gaze = torch.tensor([[[40.0, 20.0], [80.0, 40.0], [NAN, NAN]]])
    found = gaze_distances(torch.tensor([[100.0, 40.0]]), gaze, torch.tensor([[50, 200]]), torch.ones(1))
    # to (80, 40): 20 / 200; to the mean (60, 30): (40 / 200, 10 / 50)
    assert found[0].tolist() == pytest.approx([0.1, math.hypot(0.2, 0.2)])


def test_equals_a_slow_reference() -> None:
    parts = people()
    found = gaze_distances(*parts).numpy()
    for person, (prediction, gaze, size, inside) in enumerate(zip(*(p.numpy() for p in parts), strict=True)):
        points = gaze[np.isfinite(gaze).all(1)].astype(np.float64) / size[::-1]
        if inside != 1 or not len(points):
            assert np.isnan(found[person]).all()
            continue
        at = prediction.astype(np.float64) / size[::-1]
        nearest = min(np.linalg.norm(at - point) for point in points)
        assert found[person] == pytest.approx([nearest, np.linalg.norm(at - points.mean(0))], rel=1e-9)
    assert np.isnan(found).any()


def test_only_a_part_of_the_annotator_is_absent() -> None:
    gaze = torch.tensor([[[NAN, 5.0], [10.0, 10.0]]])
    found = gaze_distances(torch.tensor([[10.0, 10.0]]), gaze, torch.tensor([[100, 100]]), torch.ones(1))
    assert found.tolist() == [[0.0, 0.0]]


def test_metric_is_the_mean_over_who_counts() -> None:
    parts, metric = people(), GazeDistance()
    for rows in (slice(0, 7), slice(7, 20)):
        metric.update(*(part[rows] for part in parts), torch.arange(20)[rows])
    found, each = metric.compute(), gaze_distances(*parts)
    assert float(found["min_distance"]) == pytest.approx(float(each[:, 0].nanmean()))
    assert float(found["average_distance"]) == pytest.approx(float(each[:, 1].nanmean()))
    assert found["distance_people"] == int((~each[:, 0].isnan()).sum()) < 20


def test_one_person_and_nobody() -> None:
    metric = GazeDistance()
    assert math.isnan(metric.compute()["min_distance"])
    prediction, gaze, size, _ = people(1)
    metric.update(prediction, torch.full_like(gaze, NAN), size, torch.ones(1), torch.tensor([0]))
    assert metric.compute()["distance_people"] == 0
    assert metric.scores().values.shape == (1, 2)


def test_wrong_arguments_are_refused() -> None:
    prediction, gaze, size, _ = people(4)
    with pytest.raises(ValueError, match=r"expected prediction \[4, 2\], got \[4, 1, 2\]"):
        gaze_distances(prediction[:, None], gaze, size, torch.ones(4))
    prediction[2], gaze[2] = NAN, 5.0
    with pytest.raises(ValueError, match="got NaN or infinity for person 2"):
        gaze_distances(prediction, gaze, size, torch.ones(4))
    assert gaze_distances(prediction, gaze, size, torch.tensor([1, 1, 0, 1]))[2].isnan().all()
