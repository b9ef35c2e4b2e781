"""Draw small SLEAP files for the tests of their reader; importing this skips a test file without sleap-io."""

from pathlib import Path

import cv2
import numpy as np
import pytest

sio = pytest.importorskip("sleap_io")
h5py = pytest.importorskip("h5py")
NAN = float("nan")


def skeleton(name="mouse"):
    return sio.Skeleton(
        nodes=["nose", "left", "right"], edges=[("nose", "left")], symmetries=[("right", "left")], name=name
    )


def sequence(files: list[str], hw=(20, 30)):
    described = {
        "type": "ImageVideo",
        "shape": [len(files), *hw, 1],
        "filename": files[0],
        "filenames": files,
    }
    return sio.Video(filename=files, open_backend=False, backend_metadata=described)


def media(name="clip.mp4", **described):
    return sio.Video(filename=name, open_backend=False, backend_metadata={"type": "MediaVideo", **described})


def user(points, kind, track=None):
    return sio.Instance.from_numpy(np.array(points, float), skeleton=kind, track=track)


def guess(points, kind, score=0.5):
    scores = np.ones(len(points))
    return sio.PredictedInstance.from_numpy(
        np.array(points, float), skeleton=kind, point_scores=scores, score=score
    )


def save(folder: Path, frames, name="labels.slp", **options) -> Path:
    path = folder / name
    sio.save_slp(sio.Labels(frames, **options), path.as_posix(), embed=False, verbose=False)
    return path


def frame(video, index, *instances, **options):
    return sio.LabeledFrame(video=video, frame_idx=index, instances=list(instances), **options)


def dot_image(x: float, y: float, hw=(20, 40)) -> np.ndarray:
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    return np.rint(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)).astype(np.uint8)


def centroid(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(float)
    rows, columns = np.indices(image.shape)
    return np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()


def embedded(folder: Path, x: float, y: float, name="labels.pkg.slp") -> tuple[Path, np.ndarray]:
    """Return a `.pkg.slp` of one frame with a red dot at the point `nose`, and its pixels, blue first."""
    file = folder / "drawn" / "a.png"
    file.parent.mkdir()
    red = np.dstack([np.zeros((20, 40), np.uint8)] * 2 + [dot_image(x, y)])
    assert cv2.imwrite(str(file), red)
    video = sio.Video.from_filename([file.as_posix()])
    labels = sio.Labels([frame(video, 0, user([[x, y], [NAN, NAN], [1, 1]], skeleton()))])
    sio.save_slp(labels, (folder / name).as_posix(), embed="user", verbose=False)
    file.unlink()
    file.parent.rmdir()
    return folder / name, red
