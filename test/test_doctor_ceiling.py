from pathlib import Path

import numpy as np
import pytest
import torch
from reference.planted_points import CHANNELS, write_points

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.datamodule import make_dataloader
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.doctor_ceiling import ceiling
from keypoint_detection.doctor_samples import Settings, label_samples
from keypoint_detection.evaluation_labels import read_labels
from keypoint_detection.evaluation_run import run_detector
from keypoint_detection.models.detector import KeypointDetector

NAMES = ["leaf0", "leaf1"]


def ceiling_of(path: Path, settings: Settings, **options: int) -> dict:
    return ceiling(label_samples(read_table(path), settings), **options)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(channels=CHANNELS),
        Settings(input_mode="instance", image_hw=(256, 192), stride=4),
        Settings(thresholds=(0.5, 0.95)),
    ],
)
def test_drawn_boxes_can_be_found_without_loss(boxes_json: Path, settings: Settings) -> None:
    top = ceiling_of(boxes_json, settings)
    scores = top["scores"]
    assert scores["map"] == 1.0
    assert scores["pck@0.05"] == 1.0
    assert scores["missed"] == 0
    assert scores["mean_error_px"] < 0.02
    assert top["worst"] == []
    per_channel = [value for name, value in scores.items() if name.endswith("/map") and value is not None]
    assert per_channel
    assert min(per_channel) == 1.0


def test_pairs_that_merge_cost_half_of_their_points(tmp_path: Path) -> None:
    """Points one heatmap pixel apart give one peak: of 2 of 4 images' points, one each is missed."""
    close = [{"leaf0": (29.5, 29.5), "leaf1": (33.5, 29.5)}]
    far = [{"leaf0": (9.5, 29.5), "leaf1": (49.5, 29.5)}]
    path = write_points(tmp_path, [close, far, close, far], NAMES)
    coarse = ceiling_of(path, Settings(channels="leaf0=leaf1", stride=4))
    assert coarse["scores"]["missed"] == 2
    assert coarse["scores"]["ap@2px"] <= 0.75
    assert sorted(coarse["worst"]) == [0, 2]
    fine = ceiling_of(path, Settings(channels="leaf0=leaf1", stride=1))
    assert fine["scores"]["ap@2px"] == 1.0
    alone = ceiling_of(path, Settings(stride=4))
    assert alone["scores"]["leaf0/ap@2px"] == alone["scores"]["leaf1/ap@2px"] == 1.0


def test_more_points_than_detections_bound_the_ap(tmp_path: Path) -> None:
    many = [{"leaf0": (12 * i, 30)} for i in range(1, 5)]
    path = write_points(tmp_path, [many], NAMES)
    scores = ceiling_of(path, Settings(max_keypoints=3, channels="leaf0"))["scores"]
    assert scores["ap@2px"] == pytest.approx(0.75)  # recall 3 of 4 at precision 1
    assert scores["missed"] == 1


def test_a_point_outside_its_crop_is_lost(tmp_path: Path) -> None:
    path = write_points(tmp_path, [[{"leaf0": (12, 12), "leaf1": (60, 60)}]], NAMES, box=(8, 8, 10, 10))
    settings = Settings(input_mode="instance", image_hw=(64, 64))
    scores = ceiling_of(path, settings)["scores"]
    assert scores["leaf0/ap@2px"] == 1.0
    assert scores["leaf1/ap@2px"] == 0.0


def test_regression_answers_also_where_there_is_nothing(tmp_path: Path) -> None:
    path = write_points(tmp_path, [[{"leaf0": (12.3, 40.6)}], []], NAMES)
    top = ceiling_of(path, Settings(head="regression", channels="leaf0"))
    assert top["scores"]["mean_error_px"] < 1e-4
    assert top["scores"]["ap@2px"] <= 1.0
    only_wrong_first = write_points(tmp_path, [[], [{"leaf0": (12.3, 40.6)}]], NAMES)
    wrong = ceiling_of(only_wrong_first, Settings(head="regression", channels="leaf0"))
    assert min(top["scores"]["ap@2px"], wrong["scores"]["ap@2px"]) < 1.0


def test_a_channel_without_points_has_no_score(tmp_path: Path) -> None:
    scores = ceiling_of(write_points(tmp_path, [[{"leaf0": (9, 9)}]], NAMES), Settings())["scores"]
    assert scores["leaf1/ap@2px"] is None
    assert scores["map"] == 1.0


def test_samples_are_drawn_by_the_seed_and_counted(tmp_path: Path) -> None:
    # Every other image has a pair that merges, so another draw gives another score.
    images = [[{"leaf0": (30, 30), "leaf1": (30 + 20 * (i % 2), 30)}] for i in range(40)]
    path = write_points(tmp_path, images, NAMES)
    settings = Settings(channels="leaf0=leaf1")
    one, same = (ceiling_of(path, settings, max_images=7, seed=3) for _ in range(2))
    assert one == same
    assert (one["samples"], one["of"], one["seed"]) == (7, 40, 3)
    others = [ceiling_of(path, settings, max_images=7, seed=seed)["scores"]["map"] for seed in range(6)]
    assert len(set(others)) > 1


def test_large_maps_are_sampled_more_thinly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_points(tmp_path, [[{"leaf0": (30, 30)}]] * 40, NAMES)
    monkeypatch.setattr("keypoint_detection.doctor_ceiling.MOST_PIXELS", 2 * 64 * 64 * 12)
    assert ceiling_of(path, Settings())["samples"] == 12
    assert ceiling_of(path, Settings(stride=2))["samples"] == 40


@pytest.mark.parametrize(
    ("options", "thresholds"),
    [
        (("image", None, False), (2.0, 4.0)),
        (("image", (40, 32), True), (2.0, 4.0)),
        (("instance", (32, 40), False), (2.0, 4.0)),
        (("instance", (32, 40), False), (0.5, 0.9)),
    ],
)
def test_the_ceiling_is_what_eval_gives_a_perfect_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple, thresholds: tuple[float, float]
) -> None:
    """A detector that gives the targets of its loss goes through `eval`, images and all."""
    input_mode, image_hw, visible_only = options
    path = make_dataset("flowers", tmp_path, 8, (64, 64), seed=2)
    channels = [["stem"], ["leaf0", "leaf1", "leaf2"]]
    scoring = {"pck_normalizer": "image_diagonal", "pck_alpha": [0.01, 0.1], "ap_interpolation": "101"}
    detector = KeypointDetector(
        channels,
        backbone_options={"n_channels": 4},
        image_size=image_hw,
        input_mode=input_mode,
        max_keypoints=4,
        maximal_gt_keypoint_pixel_distances=thresholds,
        minimal_keypoint_extraction_pixel_distance=2,
        detect_only_visible_keypoints=visible_only,
        scoring=scoring,
    ).eval()
    labels = read_labels(path, detector)
    batches = iter(make_dataloader(labels.dataset, 3, num_workers=0))

    def answer(image: torch.Tensor) -> torch.Tensor:
        shape = torch.empty(len(image), 2, *image.shape[-2:])
        target, _ = detector.targets(next(batches), shape)
        return target.logit()

    monkeypatch.setattr(detector, "forward", answer)
    found = run_detector(detector, labels, batch_size=3, num_workers=0).scores
    assert found is not None
    settings = Settings(
        image_hw=image_hw,
        input_mode=input_mode,
        max_keypoints=4,
        thresholds=thresholds,
        min_distance_px=2,
        required_visibility=2 if visible_only else 1,
        channels=channels,
        scoring=scoring,
    )
    expected, scores = found.compute(), ceiling_of(path, settings)["scores"]
    assert scores.keys() == expected.keys()
    np.testing.assert_allclose(
        [np.nan if value is None else value for value in scores.values()], list(expected.values()), rtol=1e-12
    )
    if input_mode == "image":
        assert scores["map"] < 1  # there is something that these settings lose, so that the test can fail
