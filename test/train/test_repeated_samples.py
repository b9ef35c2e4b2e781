import pytest
from torch.utils.data import DataLoader, DistributedSampler

from keypoint_detection.train.repeated_samples import num_new


@pytest.mark.parametrize("n_samples", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_every_sample_is_new_once(n_samples: int, processes: int, batch_size: int) -> None:
    new = []
    for rank in range(processes):
        samples = list(range(n_samples))
        sampler = DistributedSampler(samples, processes, rank, shuffle=False)  # pyright: ignore
        loader = DataLoader(samples, batch_size, sampler=sampler)  # pyright: ignore
        for batch_idx, batch in enumerate(loader):
            new += batch[: num_new(loader, len(batch), batch_idx)].tolist()
    assert sorted(new) == list(range(n_samples))


def test_a_loader_that_shares_nothing_out_repeats_nothing() -> None:
    assert num_new(DataLoader(list(range(5)), 2), 2, 1) == 2  # pyright: ignore
    assert num_new(None, 3, 0) == 3
