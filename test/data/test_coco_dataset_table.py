import json
import logging
from pathlib import Path

import numpy as np
import pytest
from conftest import CocoFolder, noise_image

from keypoint_detection.data.coco_dataset_table import read_table

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
NAN = float("nan")


def test_rows_are_sorted_by_image(coco_folder: CocoFolder) -> None:
    first = coco_folder.add(noise_image((40, 50)), [[1, 2, 2, 0, 0, 0, 5.5, 6, 1]], area=12.0)
    second = coco_folder.add(noise_image((20, 30)), [], "b.png")
    third = coco_folder.add(noise_image((40, 50)), [[7, 8, 2, 9, 10, 1, 0, 0, 0]], bbox=[1, 2, 30, 20])
    coco_folder.content["annotations"].append(
        {"id": 9, "image_id": first, "category_id": 1, "keypoints": [3, 3, 2, 4, 4, 2, 0, 0, 0]}
    )
    table = read_table(coco_folder.write())
    assert table.names == ["nose", "left_eye", "right_eye"]
    assert table.image_ids.tolist() == [first, second, third]
    assert table.image_hw.tolist() == [[40, 50], [20, 30], [40, 50]]
    assert table.first_instance.tolist() == [0, 2, 2, 3]
    assert table.first_point.tolist() == [0, 4, 4, 6]
    assert table.xy.tolist() == [[1, 2], [5.5, 6], [3, 3], [4, 4], [7, 8], [9, 10]]
    assert table.visibility.tolist() == [2, 1, 2, 2, 2, 1]
    assert table.name_index.tolist() == [0, 2, 0, 1, 0, 1]
    assert table.instance.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(table.area, np.array([12, NAN, 600], np.float32), equal_nan=True)
    assert np.isnan(table.box[:2]).all()
    assert table.box[2].tolist() == [1, 2, 30, 20]
    assert table.keypoint_counts().tolist() == [3, 2, 1]
    assert table.image_path(1) == coco_folder.folder / "b.png"


def test_names_of_several_categories_are_shared(coco_folder: CocoFolder) -> None:
    image_id = coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]])
    coco_folder.content["categories"].append({"id": 5, "name": "tail", "keypoints": ["tip", "nose"]})
    coco_folder.content["annotations"].append(
        {"id": 9, "image_id": image_id, "category_id": 5, "keypoints": [4, 4, 2, 5, 5, 2]}
    )
    table = read_table(coco_folder.write())
    assert table.names == ["nose", "left_eye", "right_eye", "tip"]
    assert table.name_index.tolist() == [0, 1, 2, 3, 0]


def test_keypoints_outside_are_dropped_and_reported_once(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    coco_folder.add(noise_image((40, 50)), [[-0.5, -0.5, 2, 49.5, 39.5, 1, 49.6, 3, 2]])
    coco_folder.add(noise_image((40, 50)), [[3, 39.6, 2, 60, 60, 0, -1, 5, 1]])
    with caplog.at_level(logging.WARNING):
        table = read_table(coco_folder.write())
    assert table.xy.tolist() == [[-0.5, -0.5], [49.5, 39.5]]
    assert table.first_point.tolist() == [0, 2, 2]
    assert len(caplog.messages) == 1
    assert (
        "3 of 5 keypoints lie outside their image and count as absent (first in images/10.png)" in caplog.text
    )


def test_crowd_regions_are_left_out(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]], iscrowd=1, area=5.0)
    table = read_table(coco_folder.write())
    assert (len(table.area), len(table.xy)) == (0, 0)


def test_ids_and_crowd_boxes_are_sorted_by_image(coco_folder: CocoFolder) -> None:
    face = [1, 1, 2, 2, 2, 2, 3, 3, 2]
    first = coco_folder.add(noise_image((40, 50)), [face, face], bbox=[1, 2, 3, 4])
    coco_folder.add(noise_image((40, 50)))
    third = coco_folder.add(noise_image((40, 50)), [face], bbox=[5, 6, 7, 8], iscrowd=1)
    crowd = {"category_id": 1, "keypoints": [0, 0, 0] * 3, "iscrowd": 1}
    coco_folder.content["annotations"] += [
        {"id": 70, "image_id": third, **crowd},  # without a box there is no region to say
        {"id": 71, "image_id": first, **crowd, "bbox": [9, 8, 7, 6], "head_box": "not read"},
        {"id": 72, "image_id": third, "category_id": 1, "keypoints": face},
    ]
    table = read_table(coco_folder.write())
    assert table.instance_ids.tolist() == [0, 1, 72]
    assert table.category_ids.tolist() == [1, 1, 1]
    assert table.instance_ids.dtype == table.category_ids.dtype == np.int64
    assert table.crowd_box.tolist() == [[9, 8, 7, 6], [5, 6, 7, 8]]
    assert table.crowd_box.dtype == np.float32
    assert table.first_crowd.tolist() == [0, 1, 1, 2]
    assert table.first_instance.tolist() == [0, 2, 2, 3]


def test_head_size_is_as_pckh_has_it(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]] * 3)
    boxes: list[object] = [[5, 6, 30, 40], None, [0, 0, 5.0, 12.0]]  # diagonals 50 and 13
    for annotation, box in zip(coco_folder.content["annotations"], boxes, strict=True):
        annotation["head_box"] = box
    table = read_table(coco_folder.write())
    assert np.allclose(table.head_size, [30, NAN, 7.8], equal_nan=True)
    assert table.head_size.dtype == np.float32


@pytest.mark.parametrize(
    "box", [[1, 2, 3], [1, 2, 0, 4], [1, 2, 3, -4], "1 2 3 4", [1, 2, "3", 4], {}, [[1]] * 90]
)
def test_a_malformed_head_box_names_its_annotation(coco_folder: CocoFolder, box: object) -> None:
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]], head_box=box)
    with pytest.raises(
        ValueError, match=r"train\.json: annotation 0, field 'head_box': expected four numbers"
    ) as error:
        read_table(coco_folder.write())
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_areas_are_checked_where_they_are_needed(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]], bbox=[1, 1, 4, 4])
    coco_folder.add(noise_image((40, 50)), [[0, 0, 0] * 3])  # without keypoints the area does not matter
    read_table(coco_folder.write()).check_areas()
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]])
    with pytest.raises(ValueError, match=r"train\.json: OKS .* but 1 of 2 have none above 0"):
        read_table(coco_folder.write()).check_areas()


def test_missing_images_are_counted(coco_folder: CocoFolder) -> None:
    for _ in range(3):
        coco_folder.add(noise_image((8, 8)))
    path = coco_folder.write()
    (coco_folder.folder / "images" / "11.png").unlink()
    (coco_folder.folder / "images" / "12.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train\.json, but 2 of 3 are missing, first .*11\.png"
    ) as error:
        read_table(path)
    assert "\n" not in str(error.value)


def test_a_table_can_be_read_without_its_images(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]])
    path = coco_folder.write()
    whole = read_table(path)
    (image,) = (coco_folder.folder / "images").iterdir()
    image.unlink()
    table = read_table(path, require_images=False)
    assert table.file_names == whole.file_names
    assert table.image_hw.tolist() == [[40, 50]]
    assert table.xy.tolist() == whole.xy.tolist() != []


def test_a_file_without_images_is_an_error(coco_folder: CocoFolder) -> None:
    with pytest.raises(ValueError, match=r"train\.json: expected images"):
        read_table(coco_folder.write())


def test_real_coco_file() -> None:
    path = REAL_DATA / "coco_person" / "test_coco.json"
    if not path.is_file():
        pytest.skip("needs the COCO images in ../shared/data/coco_person")
    table = read_table(path)
    content = json.loads(path.read_text())
    people = [annotation for annotation in content["annotations"] if not annotation["iscrowd"]]
    assert len(table.image_ids) == 4
    assert len(table.area) == len(people)
    assert len(table.xy) == sum(annotation["num_keypoints"] for annotation in people)


def test_a_skeleton_is_read_by_name(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[1, 1, 2, 2, 2, 2, 3, 3, 2]])
    category = coco_folder.content["categories"][0]
    assert read_table(coco_folder.write()).skeleton == ()
    category["skeleton"] = [[1, 3], [3, 2], [1, 3], [0, 1], [1, 4], [2]]  # three lines name no two keypoints
    table = read_table(coco_folder.write())
    assert table.skeleton == (("nose", "right_eye"), ("right_eye", "left_eye"))
