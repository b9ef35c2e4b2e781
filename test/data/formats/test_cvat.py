import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from cvat_files import box, image, one_line, points, write_configuration, write_xml

from keypoint_detection.data.coco_parser import write_coco
from keypoint_detection.data.formats.cvat import read_cvat

EXAMPLE = Path(__file__).parents[4] / "shared" / "data" / "cvat_example"


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="the example lies in ../shared/data, beside the repository")
class TestExample:
    """The real export, against an independent count and the file that an older converter made of it."""

    def test_counts(self):
        coco = read_cvat(EXAMPLE, categories=EXAMPLE / "coco_category_configuration.json").coco
        tree = ElementTree.parse(EXAMPLE / "annotations.xml")
        occluded = Counter(2 - int(element.attrib["occluded"]) for element in tree.iter("points"))
        text = (EXAMPLE / "annotations.xml").read_text()
        flags = [flag for entry in coco.annotations for flag in entry.keypoints[2::3] if flag]
        assert Counter(flags) == occluded == {2: 9, 1: 1}
        assert len(coco.images) == len(tree.findall("image")) == text.count("<image ") == 4
        assert len(flags) == len(re.findall(r"<points ", text)) == 10

    def test_it_agrees_with_the_older_file_up_to_half_a_pixel(self):
        conversion = read_cvat(EXAMPLE, categories=EXAMPLE / "coco_category_configuration.json")
        old = json.loads((EXAMPLE / "coco.json").read_text())
        coco = conversion.coco
        assert [entry.file_name for entry in coco.images] == [entry["file_name"] for entry in old["images"]]
        assert [entry.id for entry in coco.images] == [entry["id"] for entry in old["images"]]
        (category,) = coco.categories
        assert category.model_dump(exclude_unset=True) == old["categories"][0]
        for new, annotation in zip(coco.annotations, old["annotations"], strict=True):
            assert (new.image_id, new.category_id) == (annotation["image_id"], annotation["category_id"])
            expected = np.reshape(annotation["keypoints"], (-1, 3))
            expected[expected[:, 2] > 0, :2] -= 0.5
            np.testing.assert_allclose(np.reshape(new.keypoints, (-1, 3)), expected, atol=1e-12)
        assert {key: path.name for key, path in conversion.image_paths.items()} == {
            number: f"{number}.jpeg" for number in (1, 2, 3, 4)
        }
        assert conversion.notes == ()

    def test_without_configuration(self):
        (category,) = read_cvat(EXAMPLE / "annotations.xml").coco.categories
        assert (category.id, category.name) == (1, "tshirt")
        assert category.keypoints == ["neck", "shoulder1", "shoulder2"]


def test_groups_visibility_boxes_and_half_a_pixel(tmp_path):
    path = write_xml(
        tmp_path,
        image(
            points("tshirt.shoulder", "11.10,6.30", group_id=2),
            points("tshirt.neck", "1,2.5", group_id=1, occluded=1),
            points("tshirt.shoulder", "20.50,8.30", group_id=2),
            box("tshirt", (10, 5, 22, 9.5), group_id=2),
        ),
    )
    conversion = read_cvat(path, categories=write_configuration(tmp_path))
    first, second = conversion.coco.annotations
    assert first.keypoints == [0, 0, 0, 10.6, 5.8, 2, 20, 7.8, 2]
    assert (first.bbox, first.area, first.num_keypoints) == ([10, 5, 12, 4.5], 54, 2)
    assert second.keypoints == [0.5, 2, 1, 0, 0, 0, 0, 0, 0]
    assert (second.bbox, second.area) == (None, None)  # one point has no extent
    assert conversion.image_paths == {}
    assert len(conversion.notes) == 1
    assert "no image was found" in conversion.notes[0]


def test_tight_box_of_the_points(tmp_path):
    path = write_xml(tmp_path, image(points("cat.eye", "2,3;6,9;4,4")))
    (annotation,) = read_cvat(path).coco.annotations
    assert (annotation.bbox, annotation.area) == ([2, 3, 4, 6], 24)


def test_categories_follow_from_the_labels(tmp_path):
    meta = "<name>zoo day</name><labels><label><name>cat.tail</name><type>points</type></label></labels>"
    path = write_xml(
        tmp_path,
        image(points("cat.eye", "2,3;6,9"), points("spot", "1,1")),
        image(points("cat.eye", "2,3"), points("dog.nose", "3,3"), name="b.png"),
        meta=meta,
    )
    coco = read_cvat(path).coco
    assert [(entry.id, entry.name, entry.keypoints) for entry in coco.categories] == [
        (1, "cat", ["tail", "eye1", "eye2"]),
        (2, "zoo day", ["spot"]),
        (3, "dog", ["nose"]),
    ]
    # [image, category] of every annotation: one instance per category where there is no group
    found = [(entry.image_id, entry.category_id) for entry in coco.annotations]
    assert found == [(1, 1), (1, 2), (2, 1), (2, 3)]
    write_coco(coco, tmp_path / "out.json")


def test_labels_without_dot_and_task_belong_to_object(tmp_path):
    coco = read_cvat(write_xml(tmp_path, image(points("spot", "1,1")))).coco
    assert [(entry.name, entry.keypoints) for entry in coco.categories] == [("object", ["spot"])]


def test_group_0_is_no_group(tmp_path):
    path = write_xml(tmp_path, image(points("a.b", "1,1", group_id=0), points("a.c", "2,2")))
    assert len(read_cvat(path).coco.annotations) == 1


def test_too_many_points_name_image_and_label(tmp_path):
    path = write_xml(tmp_path, image(points("tshirt.neck", "1,1"), points("tshirt.neck", "2,2")))
    with pytest.raises(ValueError) as error:
        read_cvat(path, categories=write_configuration(tmp_path))
    message = one_line(error)
    assert "line 6: image 'a.png': expected at most 1 points labelled 'tshirt.neck'" in message
    assert "got 2 with no group" in message


def test_what_is_no_keypoint_is_counted(tmp_path):
    path = write_xml(
        tmp_path,
        image(
            points("a.b", "1,1"),
            '<polygon label="a" points="1,1;2,2;3,1"></polygon>',
            '<polygon label="a" points="1,1;2,2;3,1"><attribute name="k">v</attribute></polygon>',
            '<tag label="good"></tag>',
            box("car", (1, 1, 2, 2)),
            box("a", (1, 1, 2, 2), rotation="45.00"),
        ),
    )
    note = read_cvat(path).notes[-1]
    for expected in ("2 x polygon", "1 x attribute", "1 x tag", "1 x rotated box", "1 x box labelled 'car'"):
        assert expected in note


def test_boxes_that_may_belong_to_several_instances(tmp_path):
    path = write_xml(
        tmp_path,
        image(
            points("a.b", "1,1"),
            box("a", (0, 0, 2, 2)),
            box("a", (5, 5, 9, 7)),
            box("a", (1, 1, 3, 3), group_id=4),
        ),
    )
    conversion = read_cvat(path)
    assert "2 x box that may belong to several instances" in conversion.notes[-1]
    alone = conversion.coco.annotations[1]  # a box without points is an instance without points
    assert (alone.keypoints, alone.num_keypoints, alone.bbox, alone.area) == ([0, 0, 0], 0, [1, 1, 2, 2], 4)


def test_labels_that_the_configuration_lacks(tmp_path):
    configuration = write_configuration(tmp_path)
    path = write_xml(tmp_path, image(points("tshirt.neck", "1,1"), points("tshirt.hem", "2,2;3,3")))
    conversion = read_cvat(path, categories=configuration)
    assert "2 x point labelled 'tshirt.hem'" in conversion.notes[-1]
    assert conversion.coco.annotations[0].num_keypoints == 1
    path = write_xml(tmp_path, image(points("shirt.neck", "1,1")))
    with pytest.raises(ValueError, match="expected points labelled as configured"):
        read_cvat(path, categories=configuration)


def test_missing_images(tmp_path):
    body = [image(points("a.b", "1,1"), name=name) for name in ("sub/a.png", "b.png")]
    path = write_xml(tmp_path, *body)
    (tmp_path / "images/sub").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"line 5: expected the image 'images/sub/a.png' .*\(2 of 2"):
        read_cvat(path)
    (tmp_path / "images/sub/a.png").touch()
    with pytest.raises(FileNotFoundError, match=r"line 8: expected the image 'images/b.png' .*\(1 of 2"):
        read_cvat(path)
    (tmp_path / "b.png").touch()  # beside the XML will do too
    conversion = read_cvat(tmp_path)
    assert [entry.file_name for entry in conversion.coco.images] == ["images/sub/a.png", "images/b.png"]
    assert conversion.image_paths == {1: tmp_path / "images/sub/a.png", 2: tmp_path / "b.png"}
    assert conversion.notes == ()


def test_dot(tmp_path):
    dot = 17.3, 8.65
    x, y = np.meshgrid(np.arange(40), np.arange(30))
    drawn = 255 * np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / 8)
    (tmp_path / "images").mkdir()
    assert cv2.imwrite(str(tmp_path / "images/a.png"), drawn.round().astype(np.uint8))
    # a drawing tool that counts from the corner has the centre of the first pixel at 0.5, 0.5
    path = write_xml(tmp_path, image(points("dot.centre", f"{dot[0] + 0.5:.2f},{dot[1] + 0.5:.2f}")))
    conversion = read_cvat(path)
    grey = cv2.imread(str(conversion.image_paths[1]), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    weights = grey.astype(float)
    centroid = (x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()
    np.testing.assert_allclose(conversion.coco.annotations[0].keypoints[:2], centroid, atol=0.05)


def test_coco_export(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "keypoints": [64.1, 3, 2, 0, 0, 0],
                "bbox": [60, 1, 8, 4],
            }
        ],
    }
    path = tmp_path / "annotations/person_keypoints_default.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    (tmp_path / "images/default").mkdir(parents=True)
    (tmp_path / "images/default/a.png").touch()
    conversion = read_cvat(tmp_path)
    (annotation,) = conversion.coco.annotations
    assert (annotation.keypoints, annotation.bbox) == ([63.6, 2.5, 2, 0, 0, 0], [60, 1, 8, 4])
    assert conversion.image_paths == {1: tmp_path / "images/default/a.png"}
    assert "1 points were moved by -0.5, -0.5" in conversion.notes[0]
    with pytest.raises(ValueError, match="a COCO export holds its categories"):
        read_cvat(path, categories=write_configuration(tmp_path))
