import os
import re
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.visibility import pyramid_build
from keypoint_detection.visibility.pyramid import Pyramid, build_pyramid, open_pyramid
from keypoint_detection.visibility.pyramid_layout import MANIFEST

SIZE = (40, 56)


def draw(folder: Path, count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> list[Path]:
    rng = np.random.default_rng(seed)
    paths = [folder / f"{number}.bmp" for number in range(count)]
    for path in paths:
        assert cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return paths


def levels(pyramid: Pyramid) -> list[bytes]:
    return [
        pyramid.color(level, image).tobytes()
        for level in range(len(pyramid.factors))
        for image in range(pyramid.n_images)
    ]


class Killed(Exception):
    pass


def stop_after(count: int) -> Callable[[int, int], None]:
    def stop(done: int, _: int) -> None:
        if done == count:
            raise Killed

    return stop


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    load = pyramid_build.ImageLoader.__call__

    def counted(self: pyramid_build.ImageLoader, path: str | Path) -> np.ndarray:
        seen.append(Path(path).name)
        return load(self, path)

    monkeypatch.setattr(pyramid_build.ImageLoader, "__call__", counted)
    return seen


def test_a_build_that_was_cut_short_is_none_and_goes_on(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyramid_build, "BYTES_BETWEEN_RECORDS", 1)
    paths = draw(tmp_path, 5)
    with pytest.raises(Killed):
        build_pyramid(tmp_path / "cut", paths, [SIZE] * 5, on_image=stop_after(3))
    with pytest.raises(FileNotFoundError, match="build it first, or again if that was cut short"):
        open_pyramid(tmp_path / "cut")
    reads.clear()
    cut = build_pyramid(tmp_path / "cut", paths, [SIZE] * 5)
    assert reads == ["3.bmp", "4.bmp"]
    assert levels(cut) == levels(build_pyramid(tmp_path / "whole", paths, [SIZE] * 5))
    assert len(list((tmp_path / "cut").iterdir())) == 6  # five levels and the manifest


def die(folder: Path, paths: list[Path]) -> None:
    build_pyramid(
        folder, paths, [SIZE] * len(paths), on_image=lambda done, _: os._exit(9) if done == 2 else None
    )


def test_a_killed_build_is_none(tmp_path: Path) -> None:
    paths = draw(tmp_path, 3)
    process = get_context("spawn").Process(target=die, args=(tmp_path / "pyramid", paths))
    process.start()
    process.join()
    assert process.exitcode == 9
    with pytest.raises(FileNotFoundError, match=r"found no pyramid\.json"):
        open_pyramid(tmp_path / "pyramid")
    assert build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 3).n_images == 3


def test_the_same_files_are_not_read_again_and_others_are(tmp_path: Path, reads: list[str]) -> None:
    paths = draw(tmp_path, 3)
    first = build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 3)
    before = levels(first)
    reads.clear()
    build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 3)
    assert reads == []
    draw(tmp_path, 3, seed=1)
    os.utime(paths[0], ns=(0, 1))
    with pytest.raises(Killed):
        build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 3, on_image=stop_after(2))
    assert (
        levels(open_pyramid(tmp_path / "pyramid")) == before
    )  # the older one stays until the new one is whole
    second = build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 3)
    assert levels(second) != before
    assert levels(first) == before  # who has it open keeps it
    assert len(list((tmp_path / "pyramid").iterdir())) == 6


def test_a_damaged_pyramid_is_built_again(tmp_path: Path, reads: list[str]) -> None:
    paths = draw(tmp_path, 2)
    before = levels(build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 2))
    damaged = next((tmp_path / "pyramid").glob("*-x4.bin"))
    os.truncate(damaged, 10)
    with pytest.raises(
        ValueError, match=r"x4.bin: expected 840 bytes, got 10 bytes; build the pyramid again"
    ):
        open_pyramid(tmp_path / "pyramid")
    with pytest.raises(Killed):
        build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 2, on_image=stop_after(1))
    assert not (tmp_path / "pyramid" / MANIFEST).exists()  # its files are of the right size, but not written
    assert levels(build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 2)) == before


def test_every_picture_is_counted(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.full(SIZE, 50.0))
    seen: list[tuple[int, int]] = []
    paths = draw(tmp_path, 2)
    build_pyramid(
        tmp_path / "p", paths, [SIZE] * 2, [tmp_path / "depth.npy"] * 2, on_image=lambda *n: seen.append(n)
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_errors_name_the_file_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, folder = draw(tmp_path, 2), tmp_path / "pyramid"
    np.save(tmp_path / "depth.npy", np.ones((3, 3)))
    depth = tmp_path / "depth.npy"
    with pytest.raises(
        ValueError, match=r"0.bmp: expected 41x56 pixels \(height x width\), got 40x56; give the size"
    ):
        build_pyramid(folder, paths, [(41, 56), SIZE])
    with pytest.raises(ValueError, match=r"depth.npy: expected 40x56 pixels .*, got 3x3"):
        build_pyramid(folder, paths, [SIZE] * 2, [depth, depth])
    with pytest.raises(
        ValueError, match=r"0.bmp: expected 39x56 pixels as another image of the same depth map"
    ):
        build_pyramid(folder, paths, [SIZE, (39, 56)], [depth, depth])
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*none.png; check the path"):
        build_pyramid(folder, [tmp_path / "none.png"], [SIZE])
    with pytest.raises(ValueError, match=r"expected as many of each, and one or more, got \{'paths': 2, "):
        build_pyramid(folder, paths, [SIZE])
    with pytest.raises(ValueError, match="expected as many of each, and one or more"):
        build_pyramid(folder, [], [])
    with pytest.raises(ValueError, match="expected names without repetition, got 'a' twice"):
        build_pyramid(folder, paths, [SIZE] * 2, image_names=["a", "a"])
    with pytest.raises(
        ValueError, match=re.escape("expected rising demagnifications of 1 or more, got [4, 2]")
    ):
        build_pyramid(folder, paths, [SIZE] * 2, None, [4, 2])
    with pytest.raises(ValueError, match="expected heights and widths of 1 pixel or more, got 0"):
        build_pyramid(folder, paths, [SIZE, (0, 3)])
    monkeypatch.setattr(pyramid_build.shutil, "disk_usage", lambda _: _Full())
    with pytest.raises(ValueError, match=r"expected room for 0.00 GB of pre-scaled images, got 0.00 GB"):
        build_pyramid(folder, paths, [SIZE] * 2)
    assert not (folder / MANIFEST).exists()


class _Full:
    free = 0


def test_a_damaged_image_leaves_no_pyramid(tmp_path: Path) -> None:
    paths = draw(tmp_path, 2)
    paths[1].write_bytes(b"none")
    with pytest.raises(ValueError, match=r"got a corrupt, cut or unknown file: .*1.bmp"):
        build_pyramid(tmp_path / "pyramid", paths, [SIZE] * 2)
    assert not (tmp_path / "pyramid" / MANIFEST).exists()
