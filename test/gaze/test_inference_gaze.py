"""Predictions for images and head boxes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from followers import follower

import keypoint_detection.gaze
from keypoint_detection.gaze import inference
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.inference import PersonGaze, predict_gaze
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.people_table import UNKNOWN
from keypoint_detection.gaze.samples import GazeDataset, collate_gaze
from keypoint_detection.geometry import transform_points
from keypoint_detection.utils.heatmap import generate_heatmaps

SIZES: dict[str, Any] = {"scene_hw": (64, 80), "head_hw": (32, 40)}
BOXES = [[10.0, 8.0, 30.5, 33.0], [-4.0, 20.0, 25.0, 47.5]]
HWS = [(48, 64), (91, 33), (120, 161), (7, 9)]


def picture(hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def saved(folder: Path, hws: list[tuple[int, int]] = HWS) -> list[Path]:
    """Write pictures of these sizes and return their paths."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(hws))]
    for number, (path, hw) in enumerate(zip(paths, hws, strict=True)):
        assert cv2.imwrite(str(path), picture(hw, number)[..., ::-1])
    return paths


def gazer(decoder: str = "diffusion", **options: Any) -> GazeFollower:
    """Return a follower whose maps are not all the same."""
    one = follower(decoder, **{**SIZES, **options}).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in one.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return one


def boxes_in(hw: tuple[int, int], count: int = 2) -> list[list[float]]:
    height, width = hw
    whole = np.array([width, height, width, height])
    shares = np.array([[0.1, 0.2, 0.5, 0.7], [-0.1, 0.4, 0.3, 1.2], [0.6, 0.1, 0.9, 0.4]])
    return (shares * whole)[:count].tolist()


def same(one: PersonGaze, other: PersonGaze) -> None:
    assert (one.image_hw, one.head_box, one.eye_xy) == (other.image_hw, other.head_box, other.eye_xy)
    assert one.to_dict() == other.to_dict()
    assert np.array_equal(one.heatmap, other.heatmap)  # pyright: ignore[reportArgumentType]


def test_the_network_gets_the_bits_of_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = saved(tmp_path)
    boxes = [boxes_in(hw, 3) for hw in HWS]
    eyes = np.random.default_rng(3).uniform(0, 6, (len(HWS), 3, 2))
    eyes[1] = np.nan
    depth_hws = [(48, 64), (30, 11), (60, 60), (7, 9)]
    (tmp_path / "depth").mkdir()
    depths = saved(tmp_path / "depth", depth_hws)
    table = GazeTable(
        tuple(path.name for path in paths),
        np.array(HWS),
        np.repeat(np.arange(4), 3),
        tuple(map(str, range(12))),
        np.concatenate([np.array(one) for one in boxes]),
        eyes.reshape(-1, 2),
        np.full((12, 1, 2), np.nan),
        np.full(12, UNKNOWN, np.int8),
        tuple(np.repeat([path.name for path in paths], 3).tolist()),
    )
    dataset = GazeDataset(table, tmp_path, **SIZES, depth_folder=tmp_path / "depth")
    expected: Any = collate_gaze([dataset[row] for row in range(12)])
    given: list[Any] = []
    run = inference.predict_batch

    def predict_batch(one: Any, batch: Any, **options: Any) -> Any:
        given.append(batch)
        return run(one, batch, **options)

    monkeypatch.setattr(inference, "predict_batch", predict_batch)
    deep = gazer(conditioner={"depth": True, "head_grid_hw": None})
    predict_gaze(deep, paths, boxes, eyes=list(eyes), depths=depths, samples=1, batch_size=5)
    assert [len(batch["scene"]) for batch in given] == [5, 5, 2]
    for name in ("scene", "head", "head_mask", "depth", "eye", "head_box", "to_image", "image_hw"):
        assert torch.equal(torch.cat([batch[name] for batch in given]), expected[name]), name


@pytest.mark.parametrize("decoder", ["diffusion", "direct"])
def test_paths_and_arrays_give_the_same(decoder: str, tmp_path: Path) -> None:
    one, paths = gazer(decoder), saved(tmp_path)
    boxes = [boxes_in(hw, count) for hw, count in zip(HWS, (2, 0, 3, 1), strict=True)]
    by_path = predict_gaze(one, paths, boxes, samples=3)
    arrays = [picture(hw, number) for number, hw in enumerate(HWS)]
    by_array = predict_gaze(one, arrays, boxes, samples=3)
    assert [person.image for person in by_path] == [0, 0, 2, 2, 2, 3]
    assert by_path[2].path == str(paths[2])
    assert by_array[2].path is None
    for first, second in zip(by_path, by_array, strict=True):
        same(first, second)
        assert first.gaze.samples_xy.shape == (3 if decoder == "diffusion" else 1, 2)
        assert first.gaze.weights.sum() == pytest.approx(1)
        assert first.heatmap is not None
        assert first.heatmap.dtype == np.float32
        assert first.eye_xy == tuple(np.array(first.head_box).reshape(2, 2).mean(0).tolist())


def test_points_and_spreads_in_pixels_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = torch.tensor([[3.0, 4.0], [3.0, 6.0], [12.25, 10.0]])  # on the map of 16x16
    maps = generate_heatmaps(peaks[:, None, None], torch.ones(3, 1, 1, dtype=torch.bool), (16, 16), 1.5)
    one = gazer()
    monkeypatch.setattr(one.decoder, "sample_maps", lambda *_: maps.view(1, 3, 16, 16))
    [person] = predict_gaze(one, [picture((48, 80))], [boxes_in((48, 80), 1)], samples=3)
    # by hand: (x + 0.5) * 5 - 0.5 and (y + 0.5) * 3 - 0.5, as a pixel of the map is 5 wide and 3 high
    np.testing.assert_allclose(person.gaze.samples_xy, [[17, 13], [17, 19], [63.25, 31]], atol=0.02)
    np.testing.assert_allclose(person.gaze.modes_xy, [[17, 16], [63.25, 31]], atol=0.02)
    np.testing.assert_allclose(person.gaze.weights, [2 / 3, 1 / 3])
    np.testing.assert_allclose(person.gaze.mode_std_px, [3, 0], atol=0.02)
    np.testing.assert_allclose(transform_points(person.heatmap_to_image, np.array([3, 4])), [17, 13])
    assert person.heatmap is not None
    np.testing.assert_allclose(person.heatmap, maps.mean(0).numpy().reshape(16, 16), atol=1e-6)


@pytest.mark.parametrize("kind", ["grey", "grey axis", "rgba"])
def test_grey_and_transparent_images(kind: str, tmp_path: Path) -> None:
    one, grey = gazer(), picture((48, 64))[..., 0]
    color = np.repeat(grey[..., None], 3, axis=2)
    given = {
        "grey": grey,
        "grey axis": grey[..., None],
        "rgba": np.concatenate([color, np.zeros((48, 64, 1), np.uint8)], axis=2),
    }[kind]
    cv2.imwrite(str(tmp_path / "a.png"), given)
    expected = predict_gaze(one, [color], [BOXES[:1]], samples=2)
    for image in (given, tmp_path / "a.png"):
        same(predict_gaze(one, [image], [BOXES[:1]], samples=2)[0], expected[0])


def test_nobody_gives_nothing(tmp_path: Path) -> None:
    one = gazer()
    assert predict_gaze(one, [], []) == []
    assert predict_gaze(one, [tmp_path / "is not read.png"], [[]]) == []
    assert predict_gaze(one, [picture((48, 64))], [np.empty((0, 4))], eyes=[None]) == []


def test_the_conditioner_runs_once_per_person(monkeypatch: pytest.MonkeyPatch) -> None:
    one = gazer()
    sizes: list[int] = []
    one.conditioner.scene_encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    asked: list[int] = []
    one.decoder.denoiser.register_forward_pre_hook(  # pyright: ignore
        lambda _, given: asked.append(len(given[0]))
    )
    predict_gaze(one, [picture((48, 64))] * 2, [BOXES, BOXES[:1]], samples=6, batch_size=2)
    assert sizes == [2, 1]
    assert asked == [12] * 4 + [6] * 4


def test_neither_the_batch_size_nor_other_images_change_the_noise() -> None:
    one = gazer()
    images = [picture((48, 64), seed) for seed in range(3)]
    boxes = [BOXES] * 3
    together, small = (predict_gaze(one, images, boxes, samples=3, batch_size=size) for size in (16, 1))
    alone = predict_gaze(one, images[1:2], boxes[1:2], samples=3, numbers=[1])
    k = len(BOXES)
    for some, others in ((together, small), (together[k : 2 * k], alone)):
        for first, second in zip(some, others, strict=True):
            np.testing.assert_allclose(first.gaze.samples_xy, second.gaze.samples_xy, atol=0.01)
    with pytest.raises(ValueError, match="expected numbers for each of 3 images, got 1"):
        predict_gaze(one, images, boxes, numbers=[1])


def test_a_seed_gives_the_same_again_and_leaves_the_mode() -> None:
    one = gazer().train()
    first, again, other = (
        predict_gaze(one, [picture((48, 64))], [BOXES], samples=4, seed=seed)[0] for seed in (5, 5, 6)
    )
    assert one.training
    same(first, again)
    assert not np.array_equal(first.gaze.samples_xy, other.gaze.samples_xy)


def test_one_by_one_is_as_together_for_a_direct_decoder() -> None:
    one = gazer("direct")
    images = [picture(hw, number) for number, hw in enumerate(HWS)]
    boxes = [boxes_in(hw) for hw in HWS]
    together = predict_gaze(one, images, boxes)
    single = predict_gaze(one, images, boxes, batch_size=1)
    for first, second in zip(together, single, strict=True):
        np.testing.assert_allclose(first.gaze.point_xy, second.gaze.point_xy, atol=1e-2)
        assert first.gaze.p_in == pytest.approx(second.gaze.p_in, abs=1e-5)


def test_bfloat16() -> None:
    one = gazer()
    expected = predict_gaze(one, [picture((48, 64))], [BOXES], samples=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = predict_gaze(one, [picture((48, 64))], [BOXES], samples=2)
    for first, second in zip(expected, found, strict=True):
        assert second.heatmap is not None
        assert second.heatmap.dtype == np.float32
        assert np.isfinite(second.gaze.point_xy).all()
        assert second.gaze.p_in == pytest.approx(first.gaze.p_in, abs=0.05)


IMAGE = picture((48, 64))
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no list": ({"images": "a.png"}, "expected a list of images"),
    "count": ({"head_boxes": [BOXES, BOXES]}, "expected head_boxes for each of 1 images, got 2"),
    "eyes": ({"eyes": [[[3, 4]]]}, "image 0: expected an eye for each of 2 head boxes, got 1"),
    "shape": ({"head_boxes": [[[1, 2, 3]]]}, r"image 0: expected head boxes \[k, 4\], got \[1, 3\]"),
    "text": ({"head_boxes": [[["a", 2, 3, 4]]]}, r"image 0: expected head boxes \[k, 4\] of numbers"),
    "turned": (
        {"head_boxes": [[BOXES[0], [30, 8, 10, 33]]]},
        "image 0, head box 1: expected a head box of finite x0 < x1",
    ),
    "far": ({"head_boxes": [[[-9, -9, 1e300, 9]]]}, "head box 0: expected a head box of 0.001 to 1e.06 pix"),
    "thin": ({"head_boxes": [[[1, 2, 1 + 1e-12, 9]]]}, "head box 0: expected a head box of 0.001 to 1e.06"),
    "eye": ({"eyes": [[[3, 4], [1e300, 4]]]}, "head box 1: expected an eye within 1e.06 pixels, got 1e.300"),
    "nan": ({"head_boxes": [[[1, 2, 3, np.nan]]]}, "head box 0: expected a head box of finite"),
    "outside": (
        {"head_boxes": [[[64, 8, 90, 33]]]},
        "expected a head box on the image of 64x48 pixels, got 64, 8, 90, 33",
    ),
    "float": ({"images": [IMAGE / 255.0]}, "image 0: expected uint8 pixels"),
    "channels": ({"images": [np.zeros((48, 64, 2), np.uint8)]}, r"got uint8 \[48, 64, 2\]"),
    "empty": ({"images": [np.zeros((0, 64, 3), np.uint8)]}, "image 0: expected uint8 pixels"),
    "samples": ({"samples": 0}, "expected samples and batch_size >= 1"),
    "batch": ({"batch_size": 0}, "expected samples and batch_size >= 1"),
    "seed": ({"seed": -1}, "seed >= 0"),
    "depth": ({"depths": [IMAGE]}, "was trained without depth maps, got some"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name: str) -> None:
    changes, message = WRONG[name]
    given: dict[str, Any] = {"images": [IMAGE], "head_boxes": [BOXES], **changes}
    with pytest.raises(ValueError, match=message) as raised:
        predict_gaze(gazer(), **given)
    assert "\n" not in str(raised.value)


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    one = gazer()
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*gone\.png"):
        predict_gaze(one, [tmp_path / "gone.png"], [BOXES])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"corrupt, cut or unknown file: .*text\.png"):
        predict_gaze(one, [tmp_path / "text.png"], [BOXES])
    with pytest.raises(ValueError, match="was trained with depth maps, got none"):
        predict_gaze(gazer(conditioner={"depth": True, "head_grid_hw": None}), [IMAGE], [BOXES])


def test_weights_that_are_broken_are_told() -> None:
    one = gazer("direct")
    with torch.no_grad():
        next(one.in_out_head.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="the weights are broken"):
        predict_gaze(one, [IMAGE], [BOXES])


def test_a_prediction_without_its_heatmap() -> None:
    [person] = predict_gaze(gazer(), [IMAGE], [BOXES[:1]], heatmaps=False, samples=1)
    assert person.heatmap is None
    with pytest.raises(ValueError, match="ask for it with heatmaps=True"):
        _ = person.heatmap_to_image
    assert replace(person, image=3).image == 3


def test_the_package_is_imported_lazily() -> None:
    code = (
        "import sys, keypoint_detection.gaze as gaze; assert 'torch' not in sys.modules; "
        "assert dir(gaze) == sorted(gaze.__all__)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert found.stdout + found.stderr == b""
    package = keypoint_detection.gaze
    assert all(callable(getattr(package, name)) for name in package.__all__)
    assert package.predict_gaze is predict_gaze
    with pytest.raises(AttributeError, match="has no attribute 'Follower'"):
        keypoint_detection.gaze.Follower  # noqa: B018  # pyright: ignore


def test_public_names_answer_whatever_was_imported_first(tmp_path: Path) -> None:
    one = gazer()
    path = tmp_path / "one.ckpt"
    torch.save({"hyper_parameters": dict(one.hparams), "state_dict": one.state_dict()}, path)
    assert isinstance(keypoint_detection.gaze.load_follower(path), GazeFollower)
    with pytest.raises(TypeError, match="config"):
        keypoint_detection.gaze.train()  # pyright: ignore
