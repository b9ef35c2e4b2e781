from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import forward_with_flip
from keypoint_detection.models.heads import create_head
from keypoint_detection.models.inference import InferenceOptions, decode_batch, predict_batch, predict_images
from keypoint_detection.models.tiling import Tiling, tiled_logits
from keypoint_detection.records import Prediction

SPOT_SIGMA_PX = 2.0


def unet(output_stride: int) -> KeypointDetector:
    """Return a Unet of random weights in float64 whose cells look less than 32 px far."""
    torch.manual_seed(0)
    options = {"n_channels": 6, "n_resnet_blocks": 1, "output_stride": output_stride}
    detector = KeypointDetector([["a"], ["b"], ["c"]], "Unet", options).double().eval()
    with torch.no_grad():
        detector.head.get_parameter("weight").normal_(0, 0.3)
    return detector


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def logits(detector: KeypointDetector, image: np.ndarray, order: Sequence[int] | None, tile_px: int | None):
    def forward(tiles: Tensor) -> Tensor:
        return detector(tiles) if order is None else forward_with_flip(detector, tiles, order)

    pixels = torch.from_numpy(image).permute(2, 0, 1)
    if tile_px is None:
        return forward(pixels[None])[0]
    overlap_px = 64 if tile_px > 64 else 0
    return tiled_logits(forward, pixels, Tiling(tile_px, overlap_px, 4, detector.backbone.stride))


@pytest.mark.parametrize("image_hw", [(150, 187), (201, 93), (128, 160)])
@pytest.mark.parametrize("order", [None, [1, 0, 2]])
@pytest.mark.parametrize("stride", [1, 2, 4])
@torch.no_grad()
def test_tiles_of_a_unet_give_the_maps_of_the_whole(stride: int, order, image_hw: tuple[int, int]) -> None:
    detector, image = unet(stride), noise(*image_hw)
    whole = logits(detector, image, order, None)
    assert whole.std() > 0.1
    for tile_px in (98, 128):
        tiled = logits(detector, image, order, tile_px)
        assert tiled.shape == whole.shape
        assert torch.allclose(tiled, whole, atol=1e-9)
    near = (logits(detector, image, order, 64) - whole).abs()
    assert near.max() > 1e-3  # without an overlap there are seams
    assert near.mean() < 0.2 * whole.std()


@pytest.mark.parametrize("order", [None, (1, 0, 2)])
@pytest.mark.parametrize("stride", [1, 4])
def test_predictions_in_tiles_equal_those_of_the_whole(stride: int, order: tuple[int, ...] | None) -> None:
    detector, images = unet(stride), [noise(150, 187), noise(60, 96), noise(150, 187)]
    whole = predict_images(detector, images, 4, InferenceOptions(order, max_keypoints=20))
    tiled = predict_images(detector, images, 4, InferenceOptions(order, 96, 64, 20))
    assert min(len(channel) for one in whole for channel in one.keypoints) > 9
    for one, other in zip(whole, tiled, strict=True):
        assert one.image_hw == other.image_hw
        assert np.allclose(table(one), table(other), atol=1e-3)
    # a batch of its own gives the same
    batch = collate_unlabeled([prepare_image(image, None) for image in (images[0], images[2])])
    assert predict_batch(detector, batch, InferenceOptions(order, 96, 64, 20)) == [tiled[0], tiled[2]]


def table(prediction: Prediction) -> np.ndarray:
    """Return channel, x, y and score of every point, `[m, 4]`."""
    rows = [(index, p.x, p.y, p.score) for index, channel in enumerate(prediction.keypoints) for p in channel]
    return np.array(rows).reshape(-1, 4)


class SpotFilter(Backbone):
    """Answer to red, green and blue spots by a matched filter, a Gaussian; it reaches 8 px far."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__(3, 3, stride, 8, image_mean=(0.0,) * 3, image_std=(1.0,) * 3)
        kernel = torch.exp(-0.5 * (torch.arange(-8, 9) / SPOT_SIGMA_PX) ** 2)
        self.register_buffer("kernel", (kernel / kernel.sum()).expand(3, 1, 17).contiguous())

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute `[n, 3, h / stride, w / stride]`."""
        kernel = self.get_buffer("kernel")
        rows = F.conv2d(image, kernel[:, :, None, :], padding=(0, 8), groups=3)
        both = F.conv2d(rows, kernel[:, :, :, None], padding=(8, 0), groups=3)
        return F.avg_pool2d(both, self.stride) if self.stride > 1 else both


def spot_detector(stride: int = 1, **options) -> KeypointDetector:
    detector = KeypointDetector([["red"], ["green"]], "Unet", {"n_channels": 3}, **options)
    detector.backbone = SpotFilter(stride)
    detector.image_mean, detector.image_std = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255.0)
    detector.head = create_head("heatmap", detector.backbone, 2)
    weight = torch.zeros(2, 3, 3, 3)
    weight[range(2), range(2), 1, 1] = 22.0
    detector.head.load_state_dict({"weight": weight, "bias": torch.full((2,), -8.0)})
    return detector.eval()


def scatter(image_hw: tuple[int, int], count: int, tiling: Tiling) -> np.ndarray:
    """Choose points 24 px apart: at the corners, on seams, where seams cross, and anywhere."""
    rng = np.random.default_rng(3)
    (height, width), stride = image_hw, tiling.stride
    seams_y, seams_x = ([s.first * stride - 0.5 for s in tiling.spans(side)[1:]] for side in image_hw)
    chosen = [(0.8, 1.3), (width - 2.3, 0.4), (1.6, height - 1.2), (width - 1.7, height - 2.4)]
    chosen += [(x, y) for x in seams_x[:3] for y in seams_y[:3]]
    while len(chosen) < count:
        x, y = rng.uniform(0, width - 1), rng.uniform(0, height - 1)
        which = len(chosen) % 3
        x = rng.choice(seams_x) + rng.uniform(-2, 2) if which == 0 else x
        y = rng.choice(seams_y) + rng.uniform(-2, 2) if which == 1 else y
        if np.hypot(*(np.array(chosen) - (x, y)).T).min() >= 24:
            chosen.append((x, y))
    return np.array(chosen)


def draw_spots(image_hw: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """Draw the first, third ... point in red, the others in green, on a dark image."""
    image = np.zeros((*image_hw, 3))
    for number, (x, y) in enumerate(points):
        top, left = max(int(y) - 9, 0), max(int(x) - 9, 0)
        patch = image[top : int(y) + 11, left : int(x) + 11, number % 2]
        rows, columns = np.mgrid[: patch.shape[0], : patch.shape[1]]
        squared = (columns + left - x) ** 2 + (rows + top - y) ** 2
        patch += 255 * np.exp(-squared / (2 * SPOT_SIGMA_PX**2))
    return image.round().astype(np.uint8)


def check_spots(image_hw: tuple[int, int], count: int, detector: KeypointDetector, options: InferenceOptions):
    assert options.tile_px is not None
    points = scatter(
        image_hw, count, Tiling(options.tile_px, options.overlap_px, 8, detector.backbone.stride)
    )
    image = draw_spots(image_hw, points)
    whole = predict_images(
        detector, [image], 1, InferenceOptions(options.mirrored, max_keypoints=options.max_keypoints)
    )
    tiled = predict_images(detector, [image], 1, options)
    for channel in (0, 1):
        drawn = points[channel::2]
        once, again = (
            np.array([(p.x, p.y) for p in one[0].keypoints[channel]]).reshape(-1, 2) for one in (tiled, whole)
        )
        assert len(once) == len(again) == len(drawn)
        for others, most_px in ((again, 0.1), (drawn, 1.5)):  # a spot that the border cuts is a little off
            nearest_px = np.hypot(*(once[:, None] - others).transpose(2, 0, 1))
            assert sorted(nearest_px.argmin(1)) == list(range(len(drawn)))  # each once
            assert nearest_px.min(1).max() < most_px


@pytest.mark.parametrize("mirrored", [None, (0, 1)])
@pytest.mark.parametrize("stride", [1, 4])
def test_points_on_seams_are_found_once(stride: int, mirrored: tuple[int, ...] | None) -> None:
    options = InferenceOptions(mirrored, tile_px=256, overlap_px=32, max_keypoints=40)
    check_spots((700, 900), 40, spot_detector(stride), options)


@pytest.mark.slow
@pytest.mark.parametrize("tile_px", [512, 700])
def test_500_points_of_a_large_image_are_found_once(tile_px: int) -> None:
    options = InferenceOptions(tile_px=tile_px, max_keypoints=300)
    check_spots((4096, 4096), 500, spot_detector(), options)


def test_tiles_show_an_image_at_its_own_resolution() -> None:
    detector = spot_detector(image_size=[96, 128], max_keypoints=20)
    options = InferenceOptions(tile_px=200, overlap_px=40)
    image = draw_spots((384, 512), scatter((384, 512), 20, Tiling(200, 40, 8, 1)))
    (fine,) = predict_images(detector, [image], 1, options)
    (coarse,) = detector.predict([image])  # a quarter of the size: the spots are too faint
    assert [len(channel) for channel in fine.keypoints] == [10, 10]
    assert max(len(channel) for channel in coarse.keypoints) == 0
    assert detector.hparams["image_size"] == [96, 128]


def test_large_maps_are_decoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, image = unet(1), noise(60, 96)
    batch = collate_unlabeled([prepare_image(image, None) for _ in range(4)])
    with torch.no_grad():
        output = detector(batch["image"]).float()
    together = decode_batch(detector, output, batch)
    decode, seen = detector.head.decode, []

    def note(maps: Tensor, **rest):
        seen.append(tuple(maps.shape))
        return decode(maps, **rest)

    monkeypatch.setattr(detector.head, "decode", note)
    for pixels, shapes in (
        (2 * 3 * 60 * 96, [(2, 3, 60, 96)] * 2),
        (2 * 60 * 96, [(1, 2, 60, 96), (1, 1, 60, 96)] * 4),
        (1, [(1, 1, 60, 96)] * 12),
    ):
        monkeypatch.setattr("keypoint_detection.models.inference.PIXELS_AT_ONCE", pixels)
        seen.clear()
        parts = decode_batch(detector, output, batch)
        assert seen == shapes
        assert all(torch.equal(one, other) for one, other in zip(together, parts, strict=True))
