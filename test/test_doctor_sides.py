"""The mirror test: animals from above, people from the front and from behind, natural variation."""

import json
from pathlib import Path

import numpy as np
import pytest

from keypoint_detection.convert import convert_to_coco
from keypoint_detection.data.channels import mirror_names
from keypoint_detection.doctor import examine
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.doctor_sides import doubted_instances

MOUSE = ["snout", "leftear", "rightear", "tailbase"]
MOUSE_XY = np.array([[20.0, 0.0], [10.0, -6.0], [10.0, 6.0], [-30.0, 0.0]])
PERSON = ["left_eye", "right_eye", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]
PERSON_XY = np.array([[4.0, -40], [-4, -40], [15, -20], [-15, -20], [10, 20], [-10, 20]])


def turned(xy: np.ndarray, rng: np.random.Generator, spread_px: float = 1.0) -> np.ndarray:
    """Return a shape at a random angle and place, every point moved a little."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return xy @ turn.T + rng.uniform(100, 400, 2) + rng.normal(0, spread_px, xy.shape)


def side_findings(tmp_path: Path, names: list[str], instances: np.ndarray) -> list[Finding]:
    """Write instances `[n, k, 2]` as a data set without images and return what the mirror test says."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 500, "height": 500} for i in range(len(instances))
        ],
        "categories": [{"id": 1, "name": "animal", "keypoints": names}],
        "annotations": [
            {
                "id": 100 + i,
                "image_id": i,
                "category_id": 1,
                "keypoints": [
                    value for x, y in points for value in ((x, y, 2) if np.isfinite(x) else (0, 0, 0))
                ],
                "area": 500,
                "bbox": [0, 0, 500, 500],
            }
            for i, points in enumerate(instances.tolist())
        ],
    }
    path = tmp_path / "sides.json"
    path.write_text(json.dumps(content))
    return [finding for finding in examine([path], images=False).findings if finding.code == "sides-swapped"]


@pytest.mark.parametrize("seed", range(5))
def test_swapped_ears_are_found_at_any_angle(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    mice = np.stack([turned(MOUSE_XY, rng) for _ in range(60)])
    mice[[7, 30, 31]] = mice[[7, 30, 31]][:, [0, 2, 1, 3]]
    mice[rng.random((60, 4)) < 0.1] = np.nan
    mice[[7, 30, 31]] = np.stack([turned(MOUSE_XY, rng)[[0, 2, 1, 3]] for _ in range(3)])
    findings = side_findings(tmp_path, MOUSE, mice)
    assert [finding.annotation_id for finding in findings] == [107, 130, 131]
    assert {finding.severity for finding in findings} == {"warning"}
    assert all("'leftear'/'rightear'" in finding.message for finding in findings)


@pytest.mark.parametrize("seed", range(5))
def test_clean_mice_with_natural_variation_give_nothing(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    mice = np.stack([turned(MOUSE_XY, rng, spread_px=3.0) for _ in range(200)])
    assert side_findings(tmp_path, MOUSE, mice) == []


def test_a_swapped_pair_is_named_among_people_from_both_sides(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = np.stack([turned(PERSON_XY * [rng.choice([-1, 1]), 1], rng, 1.0) for _ in range(80)])
    people[11] = people[11][[1, 0, 2, 3, 4, 5]]
    findings = side_findings(tmp_path, PERSON, people)
    assert [finding.annotation_id for finding in findings] == [111]
    assert "expected 'left_eye'/'right_eye' on" in findings[0].message


@pytest.mark.parametrize("share_behind", [0.3, 0.5])
def test_people_from_both_sides_give_nothing(share_behind: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    side = np.where(rng.random(150) < share_behind, -1, 1)
    people = np.stack([turned(PERSON_XY * [sign, 1], rng, 2.0) for sign in side])
    assert side_findings(tmp_path, PERSON, people) == []


def test_people_that_turn_to_any_side_give_nothing(tmp_path: Path) -> None:
    """Seen from angles all round, a width shrinks, vanishes and changes its sign without a gap."""
    rng = np.random.default_rng(0)
    people = np.stack([turned(PERSON_XY * [np.cos(angle), 1], rng) for angle in rng.uniform(0, 6.28, 300)])
    assert side_findings(tmp_path, PERSON, people) == []


def test_random_points_and_few_instances_give_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    assert side_findings(tmp_path, MOUSE, rng.uniform(0, 400, (300, 4, 2))) == []
    mice = np.stack([turned(MOUSE_XY, rng) for _ in range(12)])
    mice[3] = mice[3][[0, 2, 1, 3]]
    assert side_findings(tmp_path, MOUSE, mice) == []


def test_names_without_sides_give_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = np.stack([turned(MOUSE_XY, rng) for _ in range(40)])
    shapes[3] = shapes[3][[0, 2, 1, 3]]
    assert side_findings(tmp_path, ["a", "b", "c", "d"], shapes) == []


def test_signs_by_hand() -> None:
    """The line from left to right is upward, the snout to the right: a sine of -1 in 24 of 25 instances."""
    assert mirror_names(MOUSE, None).swap["leftear"] == "rightear"
    plain = np.array([[10.0, 0.0], [0.0, 5.0], [0.0, -5.0], [-10.0, 0.0]])
    xy = np.stack([plain] * 24 + [plain[[0, 2, 1, 3]]])
    assert np.flatnonzero(doubted_instances(xy, [(1, 2)], 0)).tolist() == [24]
    assert not doubted_instances(xy[6:], [(1, 2)], 0).any()  # 19 are too few to tell


def test_openfield_has_one_swapped_frame(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "shared/data/openfield"
    if not source.is_dir():
        pytest.skip("the real data sets are not here")
    [finding] = examine([convert_to_coco("deeplabcut", source, tmp_path, link=True).path]).findings
    assert finding.code == "sides-swapped"
    content = json.loads((tmp_path / "annotations.json").read_text())
    [image] = [image for image in content["images"] if image["id"] == finding.image_id]
    assert image["file_name"].endswith("img0102.png")
