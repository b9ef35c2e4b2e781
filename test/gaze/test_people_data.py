from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from keypoint_detection.gaze.augmentation import GazeAugmentation
from keypoint_detection.gaze.people import GazeTable, read_table
from keypoint_detection.gaze.people_data import GazeData, GazePart
from keypoint_detection.gaze.samples import collate_gaze
from keypoint_detection.gaze.synthetic import make_gaze_scenes

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 and later warn about every fork of a process with threads, which is how workers start.
    "ignore:.*multi-threaded.*fork:DeprecationWarning",
    "ignore:This DataLoader will create",  # on a machine with a single core
)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> GazePart:
    path = make_gaze_scenes(tmp_path_factory.mktemp("scenes"), 12, image_hw=(64, 80), seed=2)
    return GazePart(read_table(path), path.parent)


def data_of(part: GazePart, **options: Any) -> GazeData:
    sizes = {"scene_hw": (32, 40), "head_hw": (16, 16), "batch_size": 5, "num_workers": 0, "seed": 4}
    return GazeData(part, **{**sizes, **options})


def epochs(loader: Any, count: int) -> Iterator[list[dict[str, torch.Tensor]]]:
    assert isinstance(loader, DataLoader)
    for _ in range(count):
        yield list(loader)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    keys = first.keys() == second.keys()
    return keys and all(torch.equal(first[key].nan_to_num(-7), second[key].nan_to_num(-7)) for key in first)


def test_epochs_are_the_same_for_any_number_of_workers(part: GazePart) -> None:
    runs = []
    for workers in (0, 2):
        data = data_of(part, augmentation=GazeAugmentation(), num_workers=workers)
        runs.append(list(epochs(data.train_dataloader(), 2)))
    for one, two in zip(*runs, strict=True):
        assert all(equal(a, b) for a, b in zip(one, two, strict=True))
    first, second = ([index for batch in epoch for index in batch["index"].tolist()] for epoch in runs[0])
    assert sorted(first) == sorted(second) == list(range(len(part.table)))
    assert first != second
    maps = [
        {int(i): to for batch in epoch for i, to in zip(batch["index"], batch["to_image"], strict=True)}
        for epoch in runs[0]
    ]
    changed = [not torch.equal(maps[0][row], maps[1][row]) for row in maps[0]]
    assert sum(changed) > len(changed) / 2


def test_a_row_alone_is_that_of_the_first_epoch(part: GazePart) -> None:
    data = data_of(part, augmentation=GazeAugmentation())
    (batches,) = epochs(data.train_dataloader(), 1)
    for place, row in enumerate(batches[0]["index"].tolist()):
        alone = collate_gaze([data.train_dataset[row]])
        assert equal({key: value[place : place + 1] for key, value in batches[0].items()}, dict(alone))  # pyright: ignore


def test_a_share_is_held_out_by_image_and_never_changed(part: GazePart) -> None:
    data = data_of(part, validation=0.3, augmentation=GazeAugmentation(flip_probability=1))
    assert data.validation_dataset is not None
    tables = data.train_dataset.table, data.validation_dataset.table
    assert not set(tables[0].group) & set(tables[1].group)
    assert sorted(tables[0].person + tables[1].person) == sorted(part.table.person)
    assert data.validation_dataset.augmentation is None
    (batches,) = epochs(data.val_dataloader(), 1)
    assert [i for batch in batches for i in batch["index"].tolist()] == list(range(len(tables[1])))
    assert all((batch["to_image"][:, 0, 0] > 0).all() for batch in batches)
    (trained,) = epochs(data.train_dataloader(), 1)
    assert all((batch["to_image"][:, 0, 0] < 0).all() for batch in trained)


def test_parts_of_their_own_and_no_parts(part: GazePart) -> None:
    data = data_of(part, validation=part, test=part)
    assert len(data.train_dataset) == len(part.table)
    (batches,) = epochs(data.test_dataloader(), 1)
    assert sum(len(batch["scene"]) for batch in batches) == len(part.table)
    none = data_of(part)
    assert none.val_dataloader() == []
    assert none.test_dataloader() == []


def test_a_training_goes_on_within_an_epoch(part: GazePart) -> None:
    whole = list(data_of(part, augmentation=GazeAugmentation()).train_dataloader())
    loader: Any = data_of(part, augmentation=GazeAugmentation()).train_dataloader()
    loader.load_state_dict({**loader.state_dict(), "batches_done": 2})
    rest = list(loader)
    assert len(rest) == len(whole) - 2
    assert all(equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_wrong_requests_are_one_line(part: GazePart, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^batch_size: expected at least 1, got 0$"):
        data_of(part, batch_size=0)
    nobody: GazeTable = part.table.select([])
    with pytest.raises(ValueError, match=r"^expected people to train on, got none; check"):
        data_of(GazePart(nobody, part.root))
    with pytest.raises(ValueError, match=r"^expected depth maps for all parts of the data or for none"):
        data_of(part, test=GazePart(part.table, part.root, tmp_path))
    with pytest.raises(FileNotFoundError, match=r"expected an image, found nothing at"):
        data_of(GazePart(part.table, tmp_path))
