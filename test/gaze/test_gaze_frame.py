"""The frame of the gaze: hand-worked places, and turning."""

import math

import torch

from keypoint_detection.gaze.gaze_frame import BEAM_WIDTHS, N_FEATURES, GazeFrame, frame_features


def test_places_worked_by_hand() -> None:
    offsets = torch.tensor([[[0.3, 0.0], [0.0, 0.4], [-0.3, 0.0]]])
    features = frame_features(offsets, torch.tensor([[1.0, 0.0]]))  # the person looks to the right
    assert features.shape == (1, 3, N_FEATURES)
    along, across, distance, cosine, sine = features[0, :, :5].unbind(1)
    torch.testing.assert_close(along, torch.tensor([0.3, 0.0, -0.3]))
    torch.testing.assert_close(across, torch.tensor([0.0, 0.4, 0.0]))
    torch.testing.assert_close(distance, torch.tensor([0.3, 0.4, 0.3]), rtol=0, atol=1e-3)
    torch.testing.assert_close(cosine, torch.tensor([1.0, 0.0, -1.0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(sine, torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-3)
    beams = features[0, :, 5 : 5 + len(BEAM_WIDTHS)]
    assert (beams[0] > 0.99).all()  # on the ray
    assert (beams[1] < 0.01).all()  # beside the head
    assert (beams[2] < 0.01).all()  # behind it


def test_turning_everything_changes_nothing() -> None:
    torch.manual_seed(0)
    offsets, angle = torch.rand(1, 20, 2) - 0.5, torch.tensor(0.7)
    turn = torch.tensor([[math.cos(1.1), -math.sin(1.1)], [math.sin(1.1), math.cos(1.1)]])
    direction = torch.stack([angle.cos(), angle.sin()])[None]
    torch.testing.assert_close(
        frame_features(offsets @ turn.T, direction @ turn.T),
        frame_features(offsets, direction),
        rtol=1e-3,
        atol=1e-4,
    )


def test_the_direction_is_a_unit_vector_and_all_parameters_learn() -> None:
    torch.manual_seed(0)
    frame = GazeFrame(12, (3, 2), (5, 6))
    added, direction = frame(torch.randn(4, 12, 3, 2), torch.rand(4, 2))
    assert added.shape == (4, 12, 5, 6)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(4), rtol=0, atol=1e-2)
    added.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in frame.parameters())


def test_the_head_itself_gives_finite_gradients() -> None:
    frame = GazeFrame(4, (1, 1), (1, 1))
    torch.nn.init.zeros_(frame.direction[-1].weight)  # pyright: ignore
    torch.nn.init.zeros_(frame.direction[-1].bias)  # pyright: ignore
    head = torch.randn(1, 4, 1, 1, requires_grad=True)
    added, _ = frame(head, torch.tensor([[0.5, 0.5]]))  # the only cell lies on the head
    added.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in frame.parameters())
