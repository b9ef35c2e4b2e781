import json

import numpy as np
import pytest
from format_fuzzing import JSON_VALUES, broken_bytes, gives_labels_or_one_line, places, replaced
from hypothesis import given, settings
from hypothesis import strategies as st
from sleap_drawing import NAN, frame, guess, h5py, media, save, sequence, sio, skeleton, user

from keypoint_detection.data.formats.sleap_labels import read_labels


@pytest.mark.parametrize("name", ["\ud800", ""])
def test_a_name_that_cannot_be_written_is_one_line(tmp_path, name):
    path = save(tmp_path, [frame(sequence(["a.png"]), 0, user(np.ones((3, 2)), skeleton("@@")))])
    with h5py.File(path, "r+") as file:
        text = file["metadata"].attrs["json"].decode().replace('"nose"', json.dumps(name))
        file["metadata"].attrs["json"] = np.bytes_(text.encode())
    labelled = gives_labels_or_one_line(tmp_path, path.read_bytes(), read_labels, "fuzz.slp")
    assert labelled == (name == "")


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> bytes:
    kind, video = skeleton(), sequence(["a.png", "b.png"])
    points = [[1, 2], [3, 4], [NAN, NAN]]
    frames = [
        frame(video, 0, user(points, kind, sio.Track("1")), guess(points, kind)),
        frame(media(shape=[9, 20, 30, 3]), 1, user(points, kind)),
    ]
    return save(tmp_path_factory.mktemp("valid"), frames).read_bytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(picked=st.data())
def test_any_bytes(tmp_path_factory, valid, picked):
    raw = picked.draw(broken_bytes(valid))
    gives_labels_or_one_line(tmp_path_factory.mktemp("fuzz"), raw, read_labels, "fuzz.slp")


NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 255, 2**31 - 1])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(picked=st.data())
def test_any_number_in_the_tables(tmp_path_factory, valid, picked):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "a.slp"
    path.write_bytes(valid)
    with h5py.File(path, "r+") as file:
        table = file[picked.draw(st.sampled_from(["frames", "instances", "points", "pred_points"]))]
        rows = table[:]
        field = picked.draw(st.sampled_from(rows.dtype.names))
        row = picked.draw(st.integers(0, len(rows) - 1))
        rows[field][row] = np.array(picked.draw(NUMBERS)).astype(rows.dtype[field])
        table[:] = rows
    raw = path.read_bytes()
    path.unlink()
    gives_labels_or_one_line(folder, raw, read_labels, "fuzz.slp")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(picked=st.data())
def test_any_json_in_the_descriptions(tmp_path_factory, valid, picked):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "a.slp"
    path.write_bytes(valid)
    with h5py.File(path, "r+") as file:
        part = picked.draw(st.sampled_from(["metadata", "videos_json", "tracks_json"]))
        holder = file[part]
        text = holder.attrs["json"] if part == "metadata" else holder[0]
        content = json.loads(text)
        content = replaced(
            content, picked.draw(st.sampled_from(list(places(content)))), picked.draw(JSON_VALUES)
        )
        if part == "metadata":
            holder.attrs["json"] = np.bytes_(json.dumps(content).encode())
        else:
            holder[0] = json.dumps(content)
    raw = path.read_bytes()
    path.unlink()
    gives_labels_or_one_line(folder, raw, read_labels, "fuzz.slp")
