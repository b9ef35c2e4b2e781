"""Duplicates and near-identical frames: planted ones are found, shared backgrounds and blank ones not."""

import json
from pathlib import Path

import cv2
import numpy as np

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.doctor import examine
from keypoint_detection.doctor_duplicates import difference_hash, find_twins
from keypoint_detection.doctor_findings import Finding


def write_set(folder: Path, images: list[np.ndarray], name: str = "a", suffix: str = ".png") -> Path:
    """Write images, each with one point, as a data set."""
    folder.mkdir(exist_ok=True)
    entries, annotations = [], []
    for index, image in enumerate(images, start=1):
        file_name = f"{name}{index}{suffix}"
        assert cv2.imwrite(str(folder / file_name), image)
        height, width = image.shape[:2]
        entries.append({"id": index, "file_name": file_name, "width": width, "height": height})
        point = {"keypoints": [3 + index, 4, 2], "area": 9, "bbox": [2 + index, 3, 3, 3]}
        annotations.append({"id": index, "image_id": index, "category_id": 1, **point})
    categories = [{"id": 1, "name": "dot", "keypoints": ["dot"]}]
    content = {"images": entries, "categories": categories, "annotations": annotations}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def scene(seed: int, image_hw: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Return a smooth picture that no other seed gives."""
    small = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(small, image_hw[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def with_animal(background: np.ndarray, x: int, y: int) -> np.ndarray:
    return cv2.circle(background.copy(), (x, y), 8, (10, 10, 10), -1)


def brief(findings: tuple[Finding, ...]) -> list[tuple[str, str, int | None]]:
    return [(finding.code, finding.severity, finding.image_id) for finding in findings]


def test_hash_compares_neighbours() -> None:
    rising = np.tile(np.arange(9, dtype=np.uint8), (1, 8, 1))
    one = rising.copy()
    one[0, 3, 5:] -= 2  # the step from column 4 to column 5 falls now
    hashes = difference_hash(np.concatenate([rising, rising[..., ::-1], one]))
    assert int(hashes[0]) == 2**64 - 1
    assert int(hashes[1]) == 0
    assert int(hashes[2] ^ hashes[0]).bit_count() == 1


def test_copy_within_a_file_is_a_warning(tmp_path: Path) -> None:
    path = write_set(tmp_path, [scene(0), scene(1), scene(0)])
    [finding] = examine([path]).findings
    assert brief((finding,)) == [("images-duplicate", "warning", 3)]
    assert "looks the same as image 1 ('a1.png')" in finding.message


def test_copy_in_two_files_is_an_error(tmp_path: Path) -> None:
    train = write_set(tmp_path, [scene(0), scene(1)], "train")
    smaller = cv2.resize(scene(1), (80, 60), interpolation=cv2.INTER_AREA)
    val = write_set(tmp_path, [scene(5), scene(6), smaller], "val", ".jpg")
    [finding] = examine([train, val]).findings
    assert brief((finding,)) == [("images-duplicate", "error", 3)]
    assert finding.file == str(val)
    assert "of train.json" in finding.message
    assert examine([train]).findings == examine([val]).findings == ()


def test_same_file_named_in_two_files_is_an_error(tmp_path: Path) -> None:
    train = write_set(tmp_path, [scene(0), scene(1)])
    val = tmp_path / "val.json"
    val.write_text(train.read_text())
    assert brief(examine([train, val]).findings) == [
        ("images-duplicate", "error", 1),
        ("images-duplicate", "error", 2),
    ]


def test_leak_is_found_behind_a_copy_within_the_file(tmp_path: Path) -> None:
    train = write_set(tmp_path, [scene(0)], "train")
    val = write_set(tmp_path, [scene(0), scene(0)], "val")
    assert brief(examine([train, val]).findings) == [
        ("images-duplicate", "error", 1),
        ("images-duplicate", "error", 2),
    ]


def test_fixed_camera_is_no_duplicate(tmp_path: Path) -> None:
    background = scene(3)
    places = np.random.default_rng(0).permutation(20)
    frames = [with_animal(background, 15 + 32 * int(i % 5), 15 + 30 * int(i // 5)) for i in places]
    train, val = write_set(tmp_path, frames[:10], "train"), write_set(tmp_path, frames[10:], "val")
    assert examine([train, val]).findings == ()


def test_near_frames_are_one_warning_with_count_and_examples(tmp_path: Path) -> None:
    frames = [(60 + 0.5 * scene(seed)).astype(np.uint8) for seed in range(2)]
    light = np.linspace(-10, 10, 160)[None, :, None]  # one side of the picture is darker, the other brighter
    near = [np.round(frame + light).astype(np.uint8) for frame in (frames[0], frames[0] + 1, frames[1])]
    findings = examine([write_set(tmp_path, frames + near)]).findings
    assert brief(findings) == [("images-duplicate", "warning", 4), ("images-near", "warning", None)]
    finding = findings[1]
    assert "got 3 images nearly identical" in finding.message
    assert "3 ('a3.png') like 1" in finding.message
    assert "5 ('a5.png') like 2" in finding.message


def test_blank_images_are_left_alone(tmp_path: Path) -> None:
    blank = [np.full((60, 60, 3), level, np.uint8) for level in (0, 0, 128, 255)]
    rng = np.random.default_rng(0)
    noisy = [(128 + rng.normal(0, 3, (60, 60, 3))).astype(np.uint8) for _ in range(4)]
    assert examine([write_set(tmp_path, blank + noisy)]).findings == ()


def test_pairs_equal_a_slow_count() -> None:
    """Compare the blocks with two loops over every pair of 300 images, several of them alike."""
    rng = np.random.default_rng(1)
    base = rng.integers(0, 200, (60, 32, 32))
    images = base[rng.integers(0, 60, 300)] + rng.integers(-2, 3, (300, 32, 32))
    thumbnails = np.clip(images, 0, 255).astype(np.uint8)
    small = np.stack([cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA) for image in thumbnails])
    hashes = difference_hash(small)
    found = find_twins(thumbnails, hashes, np.zeros(300, np.int64))
    grey = thumbnails.astype(np.float64) - thumbnails.mean((1, 2), keepdims=True)
    expected = {}
    for later in range(300):
        for earlier in range(later):
            bits = int(hashes[later] ^ hashes[earlier]).bit_count()
            if bits <= 2 and np.abs(grey[later] - grey[earlier]).max() <= 6:
                expected.setdefault(later, earlier)
    assert len(expected) > 100
    assert {later: earlier for earlier, later in found.identical.tolist()} == expected


def test_twenty_thousand_images_are_compared() -> None:
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (20_000, 32, 32), dtype=np.uint8)
    hashes = rng.integers(0, 2**63, 20_000, dtype=np.uint64)
    thumbnails[19_999], hashes[19_999] = thumbnails[7], hashes[7]
    found = find_twins(thumbnails, hashes, np.zeros(20_000, np.int64))
    assert found.identical.tolist() == [[7, 19_999]]
    assert found.near.tolist() == []


def test_small_drawn_sets_share_nothing(tmp_path: Path) -> None:
    sets = [make_dataset("boxes", tmp_path / str(seed), 30, (64, 64), seed=seed) for seed in range(3)]
    assert examine(sets).findings == ()
