import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.formats.image_files import copy_files, image_sizes_hw
from keypoint_detection.data.imageloader import load_image

IMAGE = np.random.default_rng(0).integers(0, 255, (23, 41, 3), dtype=np.uint8)


def encoded(suffix: str) -> bytes:
    done, content = cv2.imencode(suffix, IMAGE)
    assert done
    return content.tobytes()


def with_orientation(orientation: int) -> bytes:
    """Return a JPEG with an EXIF segment that holds nothing but the orientation."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + b"MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    plain = encoded(".jpg")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_sizes_of_every_kind(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix))
    assert image_sizes_hw([path]) == [(23, 41)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_as_the_loader_does(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(orientation))
    assert image_sizes_hw([path]) == [load_image(path).shape[:2]]
    assert image_sizes_hw([path]) == [(23, 41) if orientation < 5 else (41, 23)]


def test_the_header_is_enough_and_order_is_kept(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(30)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), np.zeros((index + 1, 7), np.uint8))
    paths[3].write_bytes(b"")
    paths[4].write_bytes(paths[4].read_bytes()[:30])
    expected = [None if index == 3 else (index + 1, 7) for index in range(30)]
    assert image_sizes_hw(paths) == expected


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([".png", ".jpg"]), st.integers(0, 200), st.binary(max_size=9), st.integers(0, 9))
def test_damage_gives_a_size_or_none(tmp_path_factory, suffix, start, extra, n_cut):
    path = tmp_path_factory.mktemp("size") / "a"
    content = encoded(suffix)
    path.write_bytes(content[:start] + extra + content[start + n_cut :])
    (size,) = image_sizes_hw([path])
    assert size is None or (len(size) == 2 and min(size) > 0)


def test_copies(tmp_path):
    originals = [tmp_path / f"{index}" for index in range(20)]
    for path in originals:
        path.write_text(path.name)
    targets = [tmp_path / "new" / str(index % 3) / f"c{index}" for index in range(20)]
    copy_files(zip(originals, targets, strict=True))
    assert [target.read_text() for target in targets] == [path.name for path in originals]
    assert len([path for path in (tmp_path / "new").rglob("*") if path.is_file()]) == 20
    copy_files([(originals[0], originals[0])])
    assert originals[0].read_text() == "0"


def test_a_copy_that_fails_leaves_no_new_file_and_the_old_ones(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "old").write_text("old")
    pairs = [(tmp_path / "a", tmp_path / "n/b"), (tmp_path / "absent", tmp_path / "n/c")]
    with pytest.raises(FileNotFoundError):
        copy_files([*pairs, (tmp_path / "old", tmp_path / "old")])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "old"]
