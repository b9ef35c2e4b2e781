import json
from pathlib import Path

import numpy as np
import pytest
from reference.planted_points import CHANNELS, write_points

from keypoint_detection.doctor_samples import Settings
from keypoint_detection.doctor_settings import settings_findings, settings_text

NAMES = ["leaf0", "leaf1"]
PAIR = [{"leaf0": (29.5, 29.5), "leaf1": (33.5, 29.5)}]
FAR = [{"leaf0": (9.5, 29.5), "leaf1": (49.5, 29.5)}]


def codes(path: Path, settings: Settings) -> list[str]:
    findings, _ = settings_findings(path, settings)
    for finding in findings:
        assert "\n" not in finding.message
        assert finding.severity == ("error" if finding.code == "too-many-points" else "warning")
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(channels=CHANNELS),
        Settings(input_mode="instance", image_hw=(256, 192), stride=4),
        Settings(thresholds=(0.5, 0.75)),
    ],
)
def test_drawn_images_and_usual_settings_give_no_finding(boxes_json: Path, settings: Settings) -> None:
    findings, numbers = settings_findings(boxes_json, settings)
    assert findings == []
    assert numbers["round_trip"]["all"]["mean_px"] < 0.02
    assert numbers["ceiling"]["scores"]["map"] == 1.0


def test_close_points_and_their_ceiling_are_found(tmp_path: Path) -> None:
    path = write_points(tmp_path, [FAR, PAIR], NAMES)
    findings, numbers = settings_findings(path, Settings(stride=4, channels="leaf0=leaf1"))
    merge, low = findings
    assert (merge.code, merge.image_id, merge.annotation_id) == ("points-merge", 102, 2)
    for part in (
        "1 pairs",
        "50.00%",
        "leaf0 and leaf1 in 1.png",
        "4.00 px",
        "--output_stride 1",
        "--image_size",
    ):
        assert part in merge.message
    assert low.code == "ceiling-low"
    assert "ap@2px 0." in low.message
    assert "--output_stride 1" in low.message
    assert numbers["merging"]["pairs"] == 1
    assert codes(path, Settings(stride=1, channels="leaf0=leaf1")) == []
    assert codes(path, Settings(stride=4)) == []


def test_too_many_points_are_an_error(tmp_path: Path) -> None:
    many = [{"leaf0": (12 * i, 30)} for i in range(1, 5)]
    path = write_points(tmp_path, [many], NAMES)
    findings, _ = settings_findings(path, Settings(max_keypoints=2))
    assert [finding.code for finding in findings] == ["too-many-points", "ceiling-low"]
    assert "--max_keypoints 4" in findings[0].message
    assert findings[0].image_id == 101
    findings, numbers = settings_findings(path, Settings(head="regression"))
    assert [finding.code for finding in findings] == ["too-many-points"]
    assert "--head heatmap" in findings[0].message
    assert numbers["ceiling"] is None
    assert "ceiling: not defined" in settings_text(numbers)
    assert codes(path, Settings(max_keypoints=4)) == []


def test_a_crop_that_cuts_points_is_found(tmp_path: Path) -> None:
    images = [[{"leaf0": (12, 12), "leaf1": (14, 14)}], [{"leaf0": (12, 12), "leaf1": (60, 60)}]]
    path = write_points(tmp_path, images, NAMES, box=(8, 8, 10, 10))
    findings, numbers = settings_findings(path, Settings(input_mode="instance", image_hw=(64, 64)))
    cut = findings[0]
    assert (cut.code, cut.image_id, cut.annotation_id) == ("crop-cuts-points", 102, 2)
    assert "1 points of 1 annotations" in cut.message
    assert numbers["cut"]["points"] == 1
    assert codes(path, Settings()) == []


def test_a_narrow_sigma_gives_a_large_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = [[{"leaf0": tuple(rng.uniform(4, 60, 2).tolist())}] for _ in range(20)]
    path = write_points(tmp_path, images, NAMES)
    findings, _ = settings_findings(path, Settings(sigma_px=0.2))
    assert "bias-large" in [finding.code for finding in findings]
    assert "bias-large" not in codes(path, Settings(sigma_px=1.0))


@pytest.mark.parametrize(("side", "found"), [(96, False), (97, True), (192, True)])
def test_enlarging_by_more_than_half_is_found(tmp_path: Path, side: int, found: bool) -> None:
    path = write_points(tmp_path, [FAR], NAMES)
    assert ("upscale" in codes(path, Settings(image_hw=(side, side)))) == found


def test_a_threshold_finer_than_a_tenth_of_a_heatmap_pixel_is_found(tmp_path: Path) -> None:
    # 640 px in 64, stride 4: a heatmap pixel is 40 px, a tenth of it 4.
    path = write_points(tmp_path, [[{"leaf0": (100.2, 200.7)}]], NAMES, image_hw=(640, 640))
    findings, _ = settings_findings(path, Settings(image_hw=(64, 64), stride=4, thresholds=(2.0, 3.9, 4.5)))
    assert [finding.code for finding in findings] == ["threshold-below-precision"]
    assert "at least 4.00 px, got 2, 3.9:" in findings[0].message
    assert codes(path, Settings(image_hw=(64, 64), stride=4, thresholds=(4.5,))) == []


def test_numbers_are_plain_and_the_table_shows_them(tmp_path: Path) -> None:
    path = write_points(tmp_path, [FAR, PAIR, FAR], NAMES)
    _, numbers = settings_findings(path, Settings(stride=4), max_images=2, seed=5)
    assert json.loads(json.dumps(numbers, allow_nan=False))["ceiling"]["samples"] == 2
    lines = settings_text(numbers).splitlines()
    assert "a perfect network on 2 of 3 samples (seed 5)" in settings_text(numbers)
    assert lines[-3].split() == ["all", "channels", *["1.0000"] * 3, "0.0000", *["1.0000"] * 3]
    assert [line.split()[0] for line in lines[-2:]] == NAMES
    assert all(len(line) <= 110 for line in lines)


def test_a_file_that_cannot_be_measured_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_points(tmp_path, [[]], NAMES)
    with pytest.raises(ValueError, match="expected labelled keypoints in the channels") as caught:
        settings_findings(path, Settings())
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="leaf7"):
        settings_findings(path, Settings(channels="leaf7"))
    (tmp_path / "0.png").unlink()
    with pytest.raises(FileNotFoundError):
        settings_findings(path, Settings())
