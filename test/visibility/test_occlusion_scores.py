import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import KINDS
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.visibility.occlusion_scores import (
    LabelledPoints,
    labelled_points,
    logit_of,
    matched_pairs,
    matched_scores,
    point_scores,
    signed_logits,
    values_at,
)
from keypoint_detection.visibility.synthetic_occluders import make_occluded

CHANNELS = KINDS["flowers"].channels


@pytest.fixture(scope="module")
def json_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_occluded(tmp_path_factory.mktemp("flowers"), 5, (64, 64), seed=3)


def written(folder: Path, points: LabelledPoints, p_visible: np.ndarray, moved_px: float = 0.0) -> Path:
    """Write predictions that lie on the labels, or beside them, in another order than these."""
    entries = []
    for number, path in enumerate(points.paths):
        found: dict[str, list] = {name: [] for name in points.channel_names}
        for row in reversed(np.flatnonzero(points.image == number).tolist()):
            x, y = (points.xy[row] + moved_px).tolist()
            name = points.channel_names[points.channel[row]]
            found[name].append({"x": x, "y": y, "score": 0.5, "p_visible": float(p_visible[row])})
        entries.append({"source": str(path), "height": 64, "width": 64, "keypoints": found})
    path = folder / "predictions.json"
    path.write_text(json.dumps({"predictions": entries[::-1]}))
    return path


def test_the_points_are_all_labels_of_the_file(json_path: Path) -> None:
    points = labelled_points(json_path, CHANNELS)
    coco = read_coco(json_path)
    names = coco.categories[0].keypoints
    expected = set()
    for annotation in coco.annotations:
        file_name = next(image.file_name for image in coco.images if image.id == annotation.image_id)
        for name, (x, y, flag) in zip(names, np.reshape(annotation.keypoints, (-1, 3)), strict=True):
            if flag > 0:
                expected.add((Path(file_name).name, name != "stem", x, y, flag == 2))
    columns = zip(points.image, points.channel, points.xy, points.label, strict=True)
    found = {(points.paths[i].name, bool(c), xy[0], xy[1], bool(v)) for i, c, xy, v in columns}
    assert found == expected
    assert len(points.xy) == len(expected)
    assert points.channel_names == ("stem", "leaf0=leaf1=leaf2")
    assert {0, 1} == set(points.label.tolist())


def test_scores_that_are_right_or_inverted_give_1_and_0(json_path: Path) -> None:
    points = labelled_points(json_path, CHANNELS)
    right = np.where(points.label == 1, 0.5, -0.5) + np.linspace(-0.4, 0.4, len(points.xy))
    for sign, value in ((1, 1.0), (-1, 0.0)):
        scores = point_scores(sign * right, points, 20)
        assert scores["auroc"].value == scores["balanced_accuracy"].value == value
    assert point_scores(np.zeros(len(right)), points, 20)["auroc"].value == 0.5


def test_detections_that_are_told_right_or_inverted_give_1_and_0(json_path: Path, tmp_path: Path) -> None:
    points = labelled_points(json_path, CHANNELS)
    p_visible = np.where(points.label == 1, 0.8, 0.2)
    for told, value in ((p_visible, 1.0), (1 - p_visible, 0.0)):
        scores, n_points = matched_scores(written(tmp_path, points, told, 0.3), points, 20)
        assert n_points == len(points.xy)
        assert scores["visibility_auroc"].value == scores["visibility_accuracy"].value == value


def test_each_label_is_told_by_the_detection_that_lies_on_it(json_path: Path, tmp_path: Path) -> None:
    points = labelled_points(json_path, CHANNELS)
    p_visible = np.random.default_rng(0).random(len(points.xy))
    pairs = matched_pairs(written(tmp_path, points, p_visible), points)
    order = np.lexsort((points.channel, points.image))
    np.testing.assert_allclose(pairs.scores, 2 * p_visible[order] - 1, atol=1e-12)
    np.testing.assert_array_equal(pairs.visible, points.label[order] == 1)
    counts = np.zeros((5, 2), int)
    np.add.at(counts, (points.image, points.channel), 1)
    np.testing.assert_array_equal(pairs.num_pairs, counts)


def test_labels_without_a_detection_are_not_scored(json_path: Path, tmp_path: Path) -> None:
    points = labelled_points(json_path, CHANNELS)
    path = written(tmp_path, points, np.full(len(points.xy), 0.7))
    content = json.loads(path.read_text())
    for entry in content["predictions"]:
        entry["keypoints"]["stem"] = []
    path.write_text(json.dumps(content))
    assert len(matched_pairs(path, points).scores) == (points.channel == 1).sum()
    path.write_text(json.dumps({"predictions": content["predictions"][1:]}))
    with pytest.raises(ValueError, match=r"expected a prediction of .*png, got none"):
        matched_pairs(path, points)


@given(st.floats(0.0, 15.0), st.floats(0.0, 11.0), st.sampled_from([1, 2, 4]))
def test_a_map_is_read_linearly_between_its_pixels(x: float, y: float, stride: int) -> None:
    """The maps hold their own x and y; heatmap pixel i lies at image pixel (i + 0.5) s - 0.5."""
    column, row = torch.arange(16.0), torch.arange(12.0)
    maps = torch.stack([column.expand(12, 16), row[:, None].expand(12, 16)])
    at_image = (torch.tensor([[x, y]], dtype=torch.float64) + 0.5) * stride - 0.5
    assert values_at(maps, at_image, stride)[:, 0].tolist() == pytest.approx([x, y], abs=1e-4)


def test_logits_are_finite_and_turn_back_into_probabilities() -> None:
    logits = logit_of(np.array([0.0, 0.2, 0.5, 1.0]))
    assert logits[2] == 0
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [1e-7, 0.2, 0.5, 1 - 1e-7], rtol=1e-6)


@dataclass
class _Planted:
    """Stand in for a detector: channel 1 holds 0.6 at the left half of the image and -0.6 at the right."""

    device = torch.device("cpu")

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        n, _, h, w = image.shape
        maps = torch.zeros(n, 2, h, w)
        maps[:, 1] = torch.where(torch.arange(w) < w // 2, 0.6, -0.6)
        return maps

    class head:
        maps = staticmethod(lambda output: output)

    class backbone:
        stride = 1


def test_a_signed_map_is_read_at_the_label_in_the_channel_of_the_label(json_path: Path) -> None:
    points = labelled_points(json_path, CHANNELS)
    logits = signed_logits(_Planted(), points)  # pyright: ignore
    clear = np.abs(points.xy[:, 0] - 31.5) > 1
    side = np.where(points.xy[:, 0] < 31.5, 1.0, -1.0) * np.log(0.8 / 0.2)
    expected = np.where(points.channel == 1, side, 0.0)
    np.testing.assert_allclose(logits[clear], expected[clear], atol=1e-5)


def test_a_new_signed_detector_tells_nothing(json_path: Path) -> None:
    model = KeypointDetector(
        [["stem"], ["leaf0", "leaf1", "leaf2"]], "Unet", {"n_channels": 4}, occlusion="signed"
    )
    logits = signed_logits(model.eval(), labelled_points(json_path, CHANNELS))
    assert np.abs(logits).max() < 1
