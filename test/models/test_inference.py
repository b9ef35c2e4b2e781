from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.utils.load_checkpoints import load_model


@pytest.fixture(scope="module")
def detector(tiny_checkpoint: Path) -> KeypointDetector:
    return load_model(tiny_checkpoint)


@pytest.fixture(scope="module")
def paths(boxes_json: Path) -> list[Path]:
    return sorted((boxes_json.parent / "images").glob("*.png"))


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1].copy()


# The flat peaks of a model of two epochs turn the rounding of float32, which differs with the size of the
# batch and the number of threads, into about 1e-3 px.
TOLERANCE_PX = 5e-3


def points(prediction) -> list[tuple[float, float, float]]:
    return [(p.x, p.y, p.score) for channel in prediction.keypoints for p in channel]


def test_paths_arrays_and_tensors_give_the_same_points(detector: KeypointDetector, paths: list[Path]) -> None:
    arrays = [read(path) for path in paths]
    tensor = torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2)
    from_paths = detector.predict(paths)
    assert [p.source for p in from_paths] == [str(path) for path in paths]
    for images in (arrays, tensor, np.stack(arrays)):
        for expected, found in zip(from_paths, detector.predict(images), strict=True):
            assert found.source is None
            assert np.allclose(points(expected), points(found), atol=TOLERANCE_PX)
    assert np.allclose(points(detector.predict(paths[0])[0]), points(from_paths[0]), atol=TOLERANCE_PX)
    assert np.allclose(points(detector.predict(arrays[0])[0]), points(from_paths[0]), atol=TOLERANCE_PX)


def test_order_is_kept_when_sizes_differ(detector: KeypointDetector) -> None:
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (hw[0], hw[1], 3), dtype=np.uint8)
        for hw in [(40, 50), (64, 64), (40, 50), (33, 70)]
    ]
    together = detector.predict(images, batch_size=2)
    assert [p.image_hw for p in together] == [(40, 50), (64, 64), (40, 50), (33, 70)]
    for image, prediction in zip(images, together, strict=True):
        alone = detector.predict([image])[0]
        assert np.allclose(
            [score for *_, score in points(alone)], [score for *_, score in points(prediction)], atol=1e-4
        )


def test_points_are_in_original_pixels_under_letterbox(detector: KeypointDetector, paths: list[Path]) -> None:
    image = read(paths[0])
    detector.hparams["image_size"] = [128, 192]
    enlarged = detector.predict([image])[0]
    detector.hparams["image_size"] = None
    assert enlarged.image_hw == (64, 64)
    assert all(-0.5 <= x <= 63.5 and -0.5 <= y <= 63.5 for x, y, _ in points(enlarged))


def test_prediction_leaves_the_mode_as_it_was(detector: KeypointDetector, paths: list[Path]) -> None:
    detector.train()
    first = points(detector.predict(paths[0])[0])
    assert detector.training
    detector.eval()
    assert points(detector.predict(paths[0])[0]) == first


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)]
)
def test_other_arrays_are_refused(image: np.ndarray, detector: KeypointDetector) -> None:
    with pytest.raises(ValueError, match=r"expects uint8 arrays \[height, width, 3\] or paths; got"):
        detector.predict([image])


def test_no_image_gives_no_prediction(detector: KeypointDetector) -> None:
    assert detector.predict([]) == []
