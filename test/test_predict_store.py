import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.predict_store import PartialStore, Record
from keypoint_detection.records import Keypoint, Prediction

HEADER = {"checkpoint": "c", "option": {"batch_size": 2}, "source": "s"}


def entry(number: int) -> dict:
    return {"entry": {"source": f"{number}.png", "height": 4, "width": 5, "keypoints": {"a": []}}}


def fill(path: Path, n_batches: int) -> PartialStore:
    """Store batches of two, the second of each unreadable."""
    with PartialStore(path, HEADER) as store:
        for number in range(n_batches):
            store.append([entry(2 * number), {"problem": f"{2 * number + 1}.png is cut"}])
    return store


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    fill(tmp_path / "p.jsonl", 2)
    with PartialStore(tmp_path / "p.jsonl", HEADER) as store:
        assert (store.n_done, store.ended, store.written) == (4, False, False)
        store.append([entry(4)])
        store.end()
        assert [record.index for record in store.records()] == [0, 2, 4]
        assert store.problems() == ["1.png is cut", "3.png is cut"]
        store.finish()
    store = PartialStore(tmp_path / "p.jsonl", HEADER)
    assert (store.n_done, store.ended, store.written) == (5, True, True)
    store.remove()
    assert list(tmp_path.iterdir()) == []


@given(st.integers(0, 2000))
def test_a_file_that_is_cut_anywhere_goes_on_behind_its_last_whole_batch(
    tmp_path_factory: pytest.TempPathFactory, n_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    fill(folder / "whole.jsonl", 4)
    content = (folder / "whole.jsonl").read_bytes()
    cut = content[: min(n_bytes, len(content))]
    (folder / "cut.jsonl").write_bytes(cut)
    store = PartialStore(folder / "cut.jsonl", HEADER)
    whole_lines = cut.count(b"\n") - 1  # without the header
    assert store.n_done == max(whole_lines, 0) // 2 * 2
    with store:
        for number in range(store.n_done // 2, 4):
            store.append([entry(2 * number), {"problem": f"{2 * number + 1}.png is cut"}])
    assert (folder / "cut.jsonl").read_bytes() == content


def test_a_damaged_line_in_the_middle_ends_what_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    fill(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"\0" * 20 + b"\n"
    path.write_bytes(b"".join(lines))
    assert PartialStore(path, HEADER).n_done == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"checkpoint": "d"}, "it is of another checkpoint; starting anew"),
        ({"option": {"batch_size": 3}, "source": "t"}, "it is of another option and source; starting anew"),
    ],
)
def test_a_file_of_another_run_is_not_used(
    change: dict, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    path = tmp_path / "p.jsonl"
    fill(path, 2)
    before = path.read_bytes()
    store = PartialStore(path, {**HEADER, **change})
    assert store.n_done == 0
    assert text in caplog.text
    assert path.read_bytes() == before  # until there is something to write
    with store:
        store.append([entry(0)])
    assert len(path.read_bytes().splitlines()) == 2


def test_nothing_is_taken_from_a_file_without_a_header(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    (tmp_path / "p.jsonl").write_bytes(b'{"checkpoint"')
    assert PartialStore(tmp_path / "p.jsonl", HEADER).n_done == 0
    assert "it is damaged; starting anew" in caplog.text


def test_a_batch_is_in_the_file_before_the_next_one(tmp_path: Path) -> None:
    with PartialStore(tmp_path / "p.jsonl", HEADER) as store:
        store.append([entry(0), entry(1)])
        lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["left"] for line in lines[1:]] == [1, 0]


def test_a_prediction_keeps_every_bit(tmp_path: Path) -> None:
    points = ((Keypoint(0.1 + 0.2, 1e-17, 1 / 3), Keypoint(5.0, 6.0, 0.1)), ())
    prediction = Prediction(points, ("b", "a"), (40, 50), "x.png")
    with PartialStore(tmp_path / "p.jsonl", HEADER) as store:
        store.append([{"entry": prediction.to_dict()}])
        (record,) = store.records()
    assert record == Record(0, prediction.to_dict())
    assert record.prediction(("b", "a")) == prediction


def test_what_is_known_about_visibility_comes_back() -> None:
    points = (
        Keypoint(1.0, 2.0, 0.5),
        Keypoint(3.0, 4.0, 0.25, visibility=1),
        Keypoint(5.0, 6.0).seen_with(0.1),
    )
    found = Prediction((points,), ("a",), (8, 9), "x.png")
    assert Record(0, json.loads(json.dumps(found.to_dict()))).prediction(["a"]) == found
