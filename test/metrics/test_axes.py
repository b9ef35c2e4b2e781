import torch

from keypoint_detection.metrics.axes import keep_axes


def test_a_single_entry_gets_its_axes_back() -> None:
    computed = {"ap": torch.tensor(0.5), "per_channel": torch.tensor([1.0, 2.0]), "map": torch.tensor(0.5)}
    kept = keep_axes(lambda: computed, {"ap": 2, "per_channel": 1})()
    assert kept["ap"].tolist() == [[0.5]]
    assert kept["per_channel"].tolist() == [1.0, 2.0]
    assert kept["map"].shape == ()
    assert computed["ap"].shape == ()  # the cached values stay as they were
