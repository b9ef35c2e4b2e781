import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from reference.dots import centroid, draw_dot

from keypoint_detection.crop import crop_dataset
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.synthetic import make_dataset


def write_dataset(folder: Path, pixels: np.ndarray, annotations: list[dict]) -> Path:
    """Write `images/a.png` and the annotations, numbered from 5, of a category with two points."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / "images/a.png"), pixels)
    height, width = pixels.shape[:2]
    image = {"id": 3, "file_name": "images/a.png", "width": width, "height": height, "video": "v"}
    entries = [
        {"id": number, "image_id": 3, "category_id": 1, **annotation}
        for number, annotation in enumerate(annotations, start=5)
    ]
    category = {"id": 1, "name": "thing", "keypoints": ["a", "b"]}
    path = folder / "train.json"
    path.write_text(json.dumps({"images": [image], "categories": [category], "annotations": entries}))
    return path


def noise(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def test_whole_pixels_by_hand(tmp_path):
    """Box 10..30 x 20..40 times 1.25: 7.5..32.5 x 17.5..42.5, so pixels 7..32 and 17..42."""
    pixels = noise(50, 60, 3)
    instance = {
        "keypoints": [12.25, 30.5, 2, 50, 5, 1],
        "bbox": [10, 20, 20, 20],
        "area": 400,
        "num_keypoints": 2,
        "segmentation": [[10, 20, 30, 20, 30, 40]],
        "pose": "up",
    }
    other = {"keypoints": [14, 31, 2, 0, 0, 0], "bbox": [50, 40, 20, 20]}
    json_path = write_dataset(tmp_path / "dataset", pixels, [instance, other])
    written = crop_dataset(json_path)
    assert written == tmp_path / "dataset_crops/train.json"
    coco = read_coco(written)
    assert [image.file_name for image in coco.images] == ["images/a_5.png", "images/a_6.png"]
    image, annotation = coco.images[0], coco.annotations[0]
    assert (image.id, image.width, image.height) == (5, 26, 26)
    assert image.model_extra == {"video": "v", "source_image_id": 3}
    assert annotation.image_id == image.id
    assert annotation.keypoints == [5.25, 13.5, 2, 0, 0, 0]  # the other point lies outside
    assert annotation.num_keypoints == 1
    assert annotation.bbox == [3, 3, 20, 20]
    assert annotation.area == 400
    assert annotation.model_extra == {"segmentation": [[3, 3, 23, 3, 23, 23]], "pose": "up"}
    assert (cv2.imread(str(written.parent / "images/a_5.png")) == pixels[17:43, 7:33]).all()
    # the second one, 47.5..72.5 x 37.5..62.5, hangs over the corner of the image: the rest is grey
    second = cv2.imread(str(written.parent / "images/a_6.png"))
    assert second.shape == (26, 26, 3)
    assert (second[:13, :13] == pixels[37:, 47:]).all()
    assert (second[13:] == 114).all()
    assert (second[:, 13:] == 114).all()
    assert coco.annotations[1].keypoints == [0] * 6


@pytest.mark.parametrize("size_hw", [None, (64, 64), (33, 71), (160, 120), (16, 20)])
@pytest.mark.parametrize("box", [[20.3, 10.7, 50.5, 61.2], [-8, 20, 90, 40], [40, 30, 44, 44]])
def test_dot(tmp_path, size_hw, box):
    xy = (52.6, 44.3)
    annotation = {"keypoints": [*xy, 2, 0, 0, 0], "bbox": box}
    json_path = write_dataset(tmp_path / "dataset", draw_dot((96, 128), xy, sigma_px=3.5), [annotation])
    written = crop_dataset(json_path, size_hw=size_hw, padding=1.3)
    coco = read_coco(written)
    found = cv2.imread(str(written.parent / coco.images[0].file_name), cv2.IMREAD_UNCHANGED)
    assert found.shape == (coco.images[0].height, coco.images[0].width)
    assert size_hw is None or found.shape == size_hw
    assert np.abs(centroid(found) - coco.annotations[0].keypoints[:2]).max() <= 0.05


def test_sixteen_bits_stay(tmp_path):
    pixels = noise(50, 60, dtype=np.uint16)
    json_path = write_dataset(
        tmp_path / "dataset", pixels, [{"keypoints": [12, 30, 2, 0, 0, 0], "bbox": [10, 20, 8, 4]}]
    )
    written = crop_dataset(json_path, padding=1)
    found = cv2.imread(str(written.parent / "images/a_5.png"), cv2.IMREAD_UNCHANGED)
    assert (found == pixels[20:24, 10:18]).all()


def test_a_size_keeps_the_aspect_ratio(tmp_path):
    """A box of 20x10 in a frame of 40x40 is magnified twice; rows of the image fill the frame."""
    pixels = np.full((50, 60), 200, np.uint8)
    json_path = write_dataset(
        tmp_path / "dataset", pixels, [{"keypoints": [20, 25, 2, 0, 0, 0], "bbox": [10, 20, 20, 10]}]
    )
    written = crop_dataset(json_path, padding=1, size_hw=(40, 40))
    assert written.parent.name == "dataset_crops_40x40"
    annotation = read_coco(written).annotations[0]
    assert annotation.bbox == [0, 10, 40, 20]
    assert annotation.keypoints[:2] == [20.5, 20.5]
    assert (cv2.imread(str(written.parent / "images/a_5.png"), cv2.IMREAD_UNCHANGED) == 200).all()


def test_without_a_box(tmp_path, caplog):
    annotations = [
        {"keypoints": [10, 20, 2, 17, 24, 1]},  # extent 10..17 x 20..24
        {"keypoints": [10, 20, 2, 10, 20, 2]},  # one place
        {"keypoints": [10, 20, 2, 0, 0, 0], "bbox": [5, 5, 0, 3]},
        {"keypoints": [0] * 6, "bbox": [5, 5, 9, 9], "iscrowd": 1},
        {"keypoints": [0] * 6, "bbox": [5, 5, 9, 9]},
    ]
    json_path = write_dataset(tmp_path / "dataset", noise(50, 60), annotations)
    coco = read_coco(crop_dataset(json_path, padding=1))
    assert [annotation.id for annotation in coco.annotations] == [5, 9]
    # centre (13.5, 22), half sides 3.5 and 2, and half a pixel more from the corner: 10.5..17.5 x 20.5..24.5
    assert (coco.images[0].width, coco.images[0].height) == (8, 5)
    assert coco.annotations[0].keypoints == [0, 0, 2, 7, 4, 1]
    assert "2 annotations without a box or points apart are left out" in caplog.text
    assert "1 crowds are left out" in caplog.text


def test_counts_and_distances_survive(tmp_path):
    json_path = make_dataset("boxes", tmp_path / "dataset", 4, (96, 96), seed=2)
    first, last = read_coco(json_path), read_coco(crop_dataset(json_path))
    assert len(last.images) == len(last.annotations) == len(first.annotations) > 0
    assert {image.model_extra["source_image_id"] for image in last.images} <= {
        image.id for image in first.images
    }
    for one, other in zip(first.annotations, last.annotations, strict=True):
        before = np.array(one.keypoints).reshape(-1, 3)
        after = np.array(other.keypoints).reshape(-1, 3)
        assert (before[:, 2] == after[:, 2]).all()
        seen = before[:, 2] > 0
        shift = (before - after)[seen, :2]
        np.testing.assert_allclose(shift, np.rint(shift[:1]).repeat(len(shift), 0), atol=1e-9)


@pytest.mark.parametrize(
    ("annotation", "options", "message"),
    [
        ({"bbox": [100, 0, 5, 5]}, {}, r"annotation 5: .*overlaps its image of 60x50"),
        ({"bbox": [0, 0, 1e9, 5]}, {}, "up to 32766 pixels a side"),
        ({}, {}, "annotations with a box or points to crop, got none"),
        ({"bbox": [1, 1, 5, 5]}, {"padding": 0}, "padding above 0"),
        ({"bbox": [1, 1, 5, 5]}, {"padding": float("nan")}, "padding above 0"),
        ({"bbox": [1, 1, 5, 5]}, {"size_hw": (0, 5)}, "height and width"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, annotation, options, message):
    json_path = write_dataset(tmp_path / "dataset", noise(50, 60), [{"keypoints": [0] * 6, **annotation}])
    with pytest.raises(ValueError, match=message) as caught:
        crop_dataset(json_path, **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_real_people(tmp_path):
    source = Path(__file__).parents[2] / "shared/data/coco_person/test_coco.json"
    if not source.is_file():
        pytest.skip("the example data are not beside the repository")
    people = [entry for entry in json.loads(source.read_text())["annotations"] if not entry["iscrowd"]]
    coco = read_coco(crop_dataset(source, tmp_path / "crops", size_hw=(64, 48)))
    assert len(coco.images) == len(people)
    labelled = sum(flag > 0 for entry in people for flag in entry["keypoints"][2::3])
    assert sum(flag > 0 for entry in coco.annotations for flag in entry.keypoints[2::3]) == labelled
