import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from keypoint_detection.metrics.gaze_angle import GazeAngle, angle_between_deg, gaze_angles

NAN = math.nan


def people(n: int = 20, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    prediction, eye = 300 * torch.rand(2, n, 2, generator=generator)
    gaze = 300 * torch.rand(n, 5, 2, generator=generator)
    gaze[torch.rand(n, 5, generator=generator) < 0.3] = NAN
    return prediction, gaze, eye, torch.randint(-1, 2, (n,), generator=generator, dtype=torch.int8)


def test_by_hand() -> None:
    eye, gaze = torch.tensor([[100.0, 100.0]]), torch.tensor([[[200.0, 100.0], [100.0, 200.0]]])
    prediction = torch.tensor([[100 + math.cos(math.radians(30)), 100 + math.sin(math.radians(30))]])
    assert gaze_angles(prediction, gaze, eye, torch.ones(1))[0].tolist() == pytest.approx([30, 15], abs=1e-4)


def test_a_wide_picture_does_not_bend_the_angle() -> None:
    # in a picture of 400x100 px these relative points are at 45 degrees, the pixels are not
    eye, gaze = torch.zeros(1, 2), torch.tensor([[[200.0, 0.0]]])
    found = gaze_angles(torch.tensor([[200.0, 50.0]]), gaze, eye, torch.ones(1))
    assert float(found[0, 0]) == pytest.approx(math.degrees(math.atan2(50, 200)))


def test_equals_a_slow_reference() -> None:
    parts = people()
    found = gaze_angles(*parts).numpy()
    for person, (prediction, gaze, eye, inside) in enumerate(zip(*(p.numpy() for p in parts), strict=True)):
        points = gaze[np.isfinite(gaze).all(1)].astype(np.float64)
        if inside != 1 or not len(points):
            assert np.isnan(found[person]).all()
            continue
        angles = []
        for point in (*points, points.mean(0)):
            one, other = point - eye, prediction.astype(np.float64) - eye
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            angles.append(math.degrees(math.acos(min(1.0, max(-1.0, cosine)))))
        assert found[person] == pytest.approx([min(angles[:-1]), angles[-1]], abs=1e-5)
    assert np.isnan(found).any()


@given(st.floats(-math.pi, math.pi), st.floats(0, 180), st.floats(1e-3, 1e4), st.sampled_from([1, -1]))
def test_angles_of_any_size_and_turn(turn: float, degrees: float, length: float, side: int) -> None:
    def at(angle: float, radius: float) -> Tensor:
        return radius * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)

    found = float(angle_between_deg(at(turn, 7.0), at(turn + side * math.radians(degrees), length)))
    assert found == pytest.approx(degrees, abs=1e-6)


def test_points_on_the_eye() -> None:
    eye = torch.tensor([[10.0, 10.0]]).expand(4, 2)
    gaze = torch.tensor(
        [
            [[10.0, 10.0], [20.0, 10.0]],
            [[10.0, 10.0], [NAN, NAN]],
            [[0.0, 10.0], [20.0, 10.0]],
            [[20.0, 10.0], [30.0, 10.0]],
        ]
    )
    prediction = torch.tensor([[10.0, 40.0], [10.0, 40.0], [10.0, 40.0], [10.0, 10.0]])
    found = gaze_angles(prediction, gaze, eye, torch.ones(4))
    assert found[0].tolist() == pytest.approx([90, 90])  # the annotator on the eye is left out
    assert found[1].isnan().all()
    assert found[2, 0].item() == pytest.approx(90)
    assert found[2, 1].isnan()  # the mean point is the eye
    assert found[3].tolist() == [180, 180]  # no direction: nobody gains


def test_without_an_eye_nobody_counts() -> None:
    prediction, gaze, eye, _ = people(2)
    gaze[:], eye[0] = 5.0, NAN
    assert gaze_angles(prediction, gaze, eye, torch.ones(2)).isnan().tolist() == [[True] * 2, [False] * 2]


def test_metric_is_the_mean_over_who_counts() -> None:
    parts, metric = people(), GazeAngle()
    for rows in (slice(0, 7), slice(7, 20)):
        metric.update(*(part[rows] for part in parts), torch.arange(20)[rows])
    found, each = metric.compute(), gaze_angles(*parts)
    assert float(found["min_angle_deg"]) == pytest.approx(float(each[:, 0].nanmean()))
    assert float(found["average_angle_deg"]) == pytest.approx(float(each[:, 1].nanmean()))
    assert found["angle_people"] == int((~each[:, 0].isnan()).sum()) < 20


def test_wrong_arguments_are_refused() -> None:
    prediction, gaze, eye, _ = people(4)
    with pytest.raises(ValueError, match=r"expected eye \[4, 2\], got \[2\]"):
        gaze_angles(prediction, gaze, eye[0], torch.ones(4))
    prediction[1], gaze[1] = math.inf, 3.0
    with pytest.raises(ValueError, match="got NaN or infinity for person 1"):
        gaze_angles(prediction, gaze, eye, torch.ones(4))
