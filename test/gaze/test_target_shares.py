import numpy as np
import pytest
import torch

from keypoint_detection.gaze.people import read_table
from keypoint_detection.gaze.samples import GazeDataset
from keypoint_detection.gaze.synthetic import make_gaze_scenes
from keypoint_detection.gaze.target_shares import hit_targets, target_shares

NAN = float("nan")


def test_hits_are_counted_in_sides_of_the_scene() -> None:
    # Map pixel (7.5, 7.5) of 16 is the middle of a scene of 100 x 200: (99.5, 49.5).
    peaks = torch.tensor([[[7.5, 7.5], [0.0, 0.0]]])
    gaze = torch.tensor([[[99.5 + 15.0, 49.5], [99.5, 49.5 + 9.0], [NAN, NAN]]])
    near = hit_targets(peaks, gaze, (100, 200), (16, 16), radius=0.08)
    assert near.tolist() == [
        [[True, False, False], [False, False, False]]
    ]  # .075 of the width, .09 of the height


class Alternating:
    """Point to the first target in three of four samples and to the second in the others."""

    map_hw = (32, 32)

    def sample_maps(self, batch, samples: int, seed: int | None = None):
        maps = torch.zeros(len(batch["scene"]), samples, *self.map_hw)
        for person, gaze in enumerate(batch["gaze"]):
            for number in range(samples):
                x, y = ((gaze[int(number % 4 == 3)] + 0.5) / 4 - 0.5).round().int().tolist()
                maps[person, number, y, x] = 1.0
        return maps, torch.ones(len(maps))


def test_shares_of_samples(tmp_path) -> None:
    path = make_gaze_scenes(
        tmp_path, 5, image_hw=(128, 128), seed=3, annotators=2, ambiguous=True, share_outside=0, share_two=0
    )
    dataset = GazeDataset(read_table(path), tmp_path, scene_hw=(128, 128), head_hw=(32, 32))
    shares = target_shares(Alternating(), dataset, 16, batch_size=2)  # pyright: ignore[reportArgumentType]
    assert np.allclose(shares.samples, [[0.75, 0.25]] * 5)
    assert shares.mean_map_hits.tolist() == [[True, False]] * 5


@pytest.mark.parametrize("samples", [1, 3])
def test_points_that_are_missing_have_no_share(tmp_path, samples: int) -> None:
    path = make_gaze_scenes(tmp_path, 4, image_hw=(128, 128), seed=1, share_outside=1.0, share_two=0)
    dataset = GazeDataset(read_table(path), tmp_path, scene_hw=(128, 128), head_hw=(32, 32))

    class Flat(Alternating):
        def sample_maps(self, batch, samples: int, seed: int | None = None):
            return torch.zeros(len(batch["scene"]), samples, *self.map_hw), torch.ones(len(batch["scene"]))

    shares = target_shares(Flat(), dataset, samples)  # pyright: ignore[reportArgumentType]
    assert np.isnan(shares.samples).all()
    assert not shares.mean_map_hits.any()
