import torch

from keypoint_detection.metrics import KeypointErrorTable
from keypoint_detection.metrics.gathering import fill_empty_states


def test_only_lists_that_are_empty_get_a_tensor_without_rows() -> None:
    metric = KeypointErrorTable(1)
    names = {"distance", "length"}
    nothing = {name: torch.zeros(0, dtype=torch.float64) for name in names}
    metric.distance.append(torch.ones(2, dtype=torch.float64))
    fill_empty_states(metric, nothing)
    assert [len(part) for part in metric.distance] == [2]
    assert [len(part) for part in metric.length] == [0]
    metric.length = torch.ones(3)  # pyright: ignore  as torchmetrics leaves it after a gather
    fill_empty_states(metric, nothing)
    assert metric.length.tolist() == [1.0, 1.0, 1.0]  # pyright: ignore
