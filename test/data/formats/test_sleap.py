import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sleap_drawing import centroid, embedded, frame, save, sequence, sio, skeleton, user

from keypoint_detection.convert import convert_to_coco
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.formats import sleap
from keypoint_detection.data.formats.sleap import read_sleap
from keypoint_detection.data.formats.sleap_labels import read_labels

ABORT = "import resource, os; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()"
POINTS = [[1.25, 2], [3, 4.5], [1 / 3, 1e-7]]


@pytest.fixture
def labelled(tmp_path):
    """Return a file of labels, in a folder with a name that is hard to pass on."""
    folder = tmp_path / "-o 'é"
    folder.mkdir()
    assert cv2.imwrite(str(folder / "a.png"), np.zeros((20, 30), np.uint8))
    return save(folder, [frame(sequence(["a.png"]), 0, user(POINTS, skeleton(), sio.Track("7")))])


def test_the_child_gives_what_this_process_reads(labelled, monkeypatch):
    monkeypatch.chdir(labelled.parent)
    (labelled.parent / "json.py").write_text("raise RuntimeError('a file of the user')")
    ours, theirs = read_labels(labelled), read_sleap(labelled)
    assert theirs == ours
    assert theirs.image_paths == {1: labelled.parent / "a.png"}
    assert theirs.coco.annotations[0].keypoints == [1.25, 2, 2, 3, 4.5, 2, 1 / 3, 1e-7, 2]
    assert sorted(path.name for path in labelled.parent.iterdir()) == ["a.png", "json.py", "labels.slp"]


def test_a_broken_file_is_one_line(tmp_path):
    (tmp_path / "a.slp").write_bytes(b"no HDF5")
    with pytest.raises(
        ValueError, match=r"a\.slp: expected SLEAP labels \(HDF5\), got a broken file; "
    ) as caught:
        read_sleap(tmp_path / "a.slp")
    assert "\n" not in str(caught.value)


def child(monkeypatch, tmp_path, code: str) -> None:
    """Let another program answer."""
    (tmp_path / "other_child.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sleap, "_CHILD_MODULE", "other_child")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import resource, os; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
            "exit status -6",
        ),
        ("raise MemoryError('all\\nof it')", "exit status 1: of it"),
        ("print(end='', flush=True)", "exit status 0"),
    ],
)
def test_a_child_that_dies_is_one_line(labelled, monkeypatch, tmp_path, code, reason):
    child(monkeypatch, tmp_path, code)
    with pytest.raises(ValueError, match=f"labels.slp: .* brings its reader down .{reason}") as caught:
        read_sleap(labelled)
    assert "\n" not in str(caught.value)


def test_a_child_that_does_not_start_is_one_line(labelled, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ValueError, match=r"labels.slp: .*tmp.*python, which does not start: No such file"):
        read_sleap(labelled)


def test_a_child_that_takes_too_long_is_one_line(labelled, monkeypatch, tmp_path):
    child(monkeypatch, tmp_path, "import time; time.sleep(60)")
    monkeypatch.setattr(sleap, "_READING_LIMIT_S", 0.3)
    with pytest.raises(ValueError, match=r"labels.slp: .* within 0\.3 s, got none by then"):
        read_sleap(labelled)


def test_a_hundred_megabytes_come_through(labelled, monkeypatch, tmp_path):
    code = """
print('{"image_paths": {}, "notes": []}')
print('{"annotations": [], "categories": [], "images": [], "info": "', 'x' * 120_000_000, '"}', sep='')
"""
    child(monkeypatch, tmp_path, code)
    assert len(read_sleap(labelled).coco.info) == 120_000_000


def test_a_script_without_a_main_guard_runs_once(labelled, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom keypoint_detection.data.formats.sleap import read_sleap\n"
        "print(len(read_sleap(sys.argv[1]).coco.annotations), 'read')\n"
    )
    done = subprocess.run(
        [sys.executable, script, labelled], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("1 read\n", "")


def test_the_library_is_named_where_it_is_missing(labelled, monkeypatch):
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    for read in (read_sleap, read_labels):
        with pytest.raises(ValueError, match=r"pip install 'keypoint-detection\[sleap\]'"):
            read(labelled)


def test_missing_files_and_needless_categories(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_sleap(tmp_path / "a.slp")
    with pytest.raises(FileNotFoundError, match="found a folder"):
        read_sleap(tmp_path)
    with pytest.raises(ValueError, match="needs no category configuration"):
        read_sleap(tmp_path / "a.slp", categories=tmp_path)


def test_frames_inside_the_file_become_images(tmp_path):
    path, red = embedded(tmp_path, 12.3, 7.6)
    done = convert_to_coco("sleap", path, tmp_path / "out")
    coco = read_coco(done.path)
    (image,), (annotation,) = coco.images, coco.annotations
    file = tmp_path / "out" / image.file_name
    np.testing.assert_array_equal(cv2.imread(str(file)), red)  # colours too
    assert (image.width, image.height) == (40, 20)
    assert np.hypot(*(centroid(file) - annotation.keypoints[:2])) <= 0.05
    assert done.notes[-1] == "images written out of the source or its videos: 1"
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["annotations.json", "images"]
    assert sorted(os.listdir(tmp_path)) == [path.name, "out"]


def test_links_leave_the_frames_inside_the_file(tmp_path):
    path, _ = embedded(tmp_path, 12.3, 7.6)
    done = convert_to_coco("sleap", path, tmp_path / "out", link=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotations.json"]
    assert "convert without link to get them" in done.notes[-2]
    assert done.notes[-1].startswith("images without a file, whose labels are kept: 1 ")


def test_frames_of_a_video_become_images(tmp_path):
    """A video is lossy: its frame is told by its brightness."""
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for value in (20, 120, 220):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    video = sio.Video(filename=file.as_posix(), open_backend=False)
    gone = sio.Video("gone.mp4", open_backend=False, backend_metadata={"shape": [9, 48, 64, 3]})
    kind = skeleton()
    path = save(tmp_path, [frame(video, 1, user(POINTS, kind)), frame(gone, 0, user(POINTS, kind))])
    done = convert_to_coco("sleap", path, tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*.png")]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in written] == [
        "images/clip/frame_000001.png"
    ]
    assert abs(cv2.imread(str(written[0])).mean() - 120) < 4
    assert done.notes[-1] == (
        "images without a file, whose labels are kept: 1 (the first one: images/gone/frame_000000.png)"
    )
