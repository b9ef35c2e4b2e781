import numpy as np
import pytest
import torch

from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import forward_with_flip
from keypoint_detection.models.inference import InferenceOptions, decode_batch, predict_batch, predict_images

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SIDED = [["eye_left"], ["eye_right"], ["nose"]]


def make_detector(**options) -> KeypointDetector:
    torch.manual_seed(2)
    detector = KeypointDetector(SIDED, "Unet", {"n_channels": 4}, **options).eval()
    with torch.no_grad():
        detector.head.load_state_dict(
            {name: torch.randn_like(value) for name, value in detector.head.state_dict().items()}
        )
    return detector


def test_the_flip_test_is_that_of_evaluation() -> None:
    detector = make_detector()
    batch = collate_unlabeled([prepare_image(IMAGE, None)])
    (found,) = predict_batch(detector, batch, InferenceOptions(mirrored=[1, 0, 2]))
    with torch.no_grad():
        output = forward_with_flip(detector, batch["image"], [1, 0, 2])
    points, scores = decode_batch(detector, output, batch)
    for channel, keypoints in enumerate(found.keypoints):
        assert len(keypoints) > 1
        expected = torch.cat([points[0, channel], scores[0, channel, :, None]], 1)[: len(keypoints)]
        assert [[p.x, p.y, p.score] for p in keypoints] == expected.tolist()
        assert points[0, channel, len(keypoints) :].isnan().all()
    assert found != predict_batch(detector, batch)[0]


def test_number_of_points() -> None:
    detector = make_detector(max_keypoints=4)
    counts = {
        most: [
            len(channel)
            for channel in predict_images(detector, [IMAGE], 1, InferenceOptions(max_keypoints=most))[
                0
            ].keypoints
        ]
        for most in (None, 2, 6)
    }
    assert counts == {None: [4] * 3, 2: [2] * 3, 6: [6] * 3}


def test_the_defaults_change_nothing() -> None:
    detector = make_detector()
    assert predict_images(detector, [IMAGE], 1, InferenceOptions()) == detector.predict([IMAGE])


@pytest.mark.parametrize(
    ("built", "options", "message"),
    [
        ({"head": "regression"}, {"tile_px": 64, "overlap_px": 8}, "tiles need a model with heatmaps"),
        ({"input_mode": "instance"}, {"tile_px": 64, "overlap_px": 8}, "tiles need .* on whole images"),
        ({}, {"tile_px": 3, "overlap_px": 0}, "expected tiles of at least 4 px, .* of Unet, got 3 px"),
        ({}, {"tile_px": 128}, "expected an overlap of 0 to 124 px for tiles of 128 px .*, got 128 px"),
        ({}, {"max_keypoints": 0}, "expected at least one keypoint per channel, got max_keypoints=0"),
        ({}, {"mirrored": [1, 0]}, r"flip test: expected each of the channels 0..2 once, got \[1, 0\]"),
        ({}, {"mirrored": [1, 1, 2]}, r"flip test: expected each of the channels 0..2 once"),
    ],
)
def test_options_that_cannot_be(built: dict, options: dict, message: str) -> None:
    detector = KeypointDetector(SIDED, "Unet", {"n_channels": 4}, **built).eval()
    batch = collate_unlabeled([prepare_image(IMAGE, None)])
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        predict_batch(detector, batch, InferenceOptions(**options))
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=f"^{message}"):
        predict_images(detector, [IMAGE], 1, InferenceOptions(**options))


def test_a_failure_leaves_the_mode_as_it_was() -> None:
    detector = make_detector().train()
    batch = collate_unlabeled([prepare_image(IMAGE, None)])
    batch["image"] = batch["image"].float()
    with pytest.raises(ValueError, match="expects uint8 images"):
        predict_batch(detector, batch)
    assert detector.training
