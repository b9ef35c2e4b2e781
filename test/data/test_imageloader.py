import errno
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from keypoint_detection.data import imageloader
from keypoint_detection.data.imageloader import ImageError, ImageLoader, load_image

RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (9, 7), dtype=np.uint8)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb_order_is_kept(tmp_path: Path) -> None:
    assert np.array_equal(load_image(saved(Image.fromarray(RGB), tmp_path / "a.png")), RGB)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_every_colour_type_becomes_grey_or_rgb(tmp_path: Path, mode: str, n_channels: int) -> None:
    picture = Image.fromarray(RGB if mode in ("P", "RGBA") else GREY).convert(mode)
    image = load_image(saved(picture, tmp_path / "a.png"), n_channels)
    expected = np.asarray(picture.convert("RGB"), dtype=float)
    if n_channels == 1:
        expected = (expected @ [0.299, 0.587, 0.114])[..., None]
    assert image.dtype == np.uint8
    assert image.shape == (9, 7, n_channels)
    assert np.abs(image - expected).max() <= 1


def test_16_bits_are_divided_by_257_and_not_stretched(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 4095, 65535]], np.uint16)
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), values)
    expected = [0, 0, 1, 1, 16, 255]  # 128 / 257 = 0.498, 129 / 257 = 0.502, 4095 / 257 = 15.93
    assert load_image(path, 1)[0, :, 0].tolist() == expected
    assert load_image(path, 3)[0, :, 2].tolist() == expected


def test_four_channels_are_rgba(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, GREY])
    assert np.array_equal(load_image(saved(Image.fromarray(rgba), tmp_path / "a.png"), 4), rgba)


def test_another_number_of_channels_must_be_that_of_the_file(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"expected an image of 4 channels .* got 3 in .*a\.png"):
        load_image(path, 4)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for viewing
    flat = np.full((8, 16, 3), 200, np.uint8)
    flat[:, :8] = 20
    image = load_image(saved(Image.fromarray(flat), tmp_path / "a.jpg", exif=exif))
    assert image.shape == (16, 8, 3)
    assert image[2].max() < 40
    assert image[13].min() > 180


def test_float_pixels_are_an_error(tmp_path: Path) -> None:
    path = saved(Image.fromarray(GREY.astype(np.float32)), tmp_path / "a.tiff")
    for n_channels in (1, 3):
        with pytest.raises(ImageError, match=r"expected 8- or 16-bit pixels, got float32 in .*a\.tiff"):
            load_image(path, n_channels)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing at .*none\.png") as error:
        load_image(tmp_path / "none.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "bmp", "webp"])
@pytest.mark.parametrize("kept", [0, 10, 0.6])
def test_cut_files_are_one_line_and_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture, suffix: str, kept: float
) -> None:
    content = saved(Image.fromarray(RGB).resize((70, 90)), tmp_path / f"a.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: kept if kept != 0.6 else int(0.6 * len(content))])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}") as error:
        load_image(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("not an image")
    with pytest.raises(ImageError, match="corrupt, cut or unknown"):
        load_image(path)


def test_error_survives_a_worker_process_as_one_line() -> None:
    rebuilt = ImageError(
        "Caught ImageError in worker 0.\nTraceback\n  x.y.ImageError: expected an image: a.png\n"
    )
    assert str(rebuilt) == "expected an image: a.png"
    assert str(pickle.loads(pickle.dumps(rebuilt))) == "expected an image: a.png"


class ShakyDisk:
    """Read a file after some failures, and note the waits."""

    def __init__(self, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures, self.reads, self.waits = failures, 0, []
        read_bytes = Path.read_bytes

        def read(path: Path) -> bytes:
            self.reads += 1
            if self.reads <= self.failures:
                raise OSError(errno.EIO, "Input/output error")
            return read_bytes(path)

        monkeypatch.setattr(Path, "read_bytes", read)
        monkeypatch.setattr(imageloader.time, "sleep", self.waits.append)


def test_loader_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.png")
    disk = ShakyDisk(2, monkeypatch)
    assert np.array_equal(ImageLoader()(path), RGB)
    assert disk.waits == [0.05, 0.1]


def test_loader_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "a.png")
    disk = ShakyDisk(99, monkeypatch)
    with pytest.raises(ImageError, match=rf"cannot read {path}: Input/output error, 3 times; check the disk"):
        ImageLoader(tries=3)(path)
    assert disk.reads == 3


def test_loader_does_not_try_again_for_what_stays_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.png").write_text("no image")
    disk = ShakyDisk(0, monkeypatch)
    with pytest.raises(FileNotFoundError):
        ImageLoader()(tmp_path / "none.png")
    with pytest.raises(ImageError):
        ImageLoader()(tmp_path / "bad.png")
    assert (disk.reads, disk.waits) == (2, [])


def test_threads_leave_the_log_level_of_opencv_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    before = imageloader._OPENCV_LOG.getLogLevel()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: load_image(path), range(400)))
    assert imageloader._OPENCV_LOG.getLogLevel() == before
