import pytest
from cvat_files import CONFIGURATION, box, image, one_line, points, write_configuration, write_xml

from keypoint_detection.data.formats.cvat import read_cvat


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (points("a.b", "1;2"), r"line 6: expected points as 'x,y;x,y', got '1'"),
        (points("a.b", "1,nan"), r"line 6: expected a coordinate in pixels, got 'nan'"),
        (points("a.b", "1,1e999"), r"line 6: expected a coordinate in pixels"),
        (points("a.b", "1,1", occluded="yes"), r"line 6: expected 0 or 1 for 'occluded', got 'yes'"),
        (points("a.b", "1,1", group_id="-1"), r"line 6: expected a whole number for 'group_id', got '-1'"),
        ('<points points="1,1"/>', r"line 6: expected <points> with 'label', got none"),
        (box("a", (5, 5, 4, 6)), r"line 6: expected a box with xtl <= xbr"),
        ("<points", r"line 7: expected CVAT's XML; not well-formed"),
    ],
)
def test_broken_values(tmp_path, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        read_cvat(write_xml(tmp_path, image(shape)))
    one_line(error)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "..\\a.png", "."])
def test_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(ValueError, match="expected an image name below the folder"):
        read_cvat(write_xml(tmp_path, image(points("a.b", "1,1"), name=name)))


def test_the_same_image_twice(tmp_path):
    path = write_xml(tmp_path, image(points("a.b", "1,1")), image())
    with pytest.raises(
        ValueError, match=r"line 8: expected image names that occur once, got 'images/a.png' twice"
    ):
        read_cvat(path)


def test_sources_that_are_no_export(tmp_path):
    for source, message in (("nothing", "found nothing"), ("", "got neither")):
        with pytest.raises(FileNotFoundError, match=message):
            read_cvat(tmp_path / source)
    (tmp_path / "export.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="unpack it and give the folder"):
        read_cvat(tmp_path / "export.zip")
    with pytest.raises(ValueError, match="expected points or skeletons, found none on 1 images"):
        read_cvat(write_xml(tmp_path, image()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": []}, "categories: List should have at least 1 item"),
        (
            {"categories": [{**CONFIGURATION["categories"][0], "id": "a"}]},
            r"categories.0.id: Input should be",
        ),
        (
            {"categories": CONFIGURATION["categories"] * 2},
            "expected category names that occur once, got 'tshirt'",
        ),
        ({**CONFIGURATION, "other": 1}, "other: Extra inputs are not permitted"),
        (
            {"categories": [{"name": "a", "id": 1, "semantic_types": [{"name": "b", "n_keypoints": 0}]}]},
            "n_keypoints: Input should be greater than or equal to 1",
        ),
        (
            {
                "categories": [
                    {
                        "name": "a",
                        "id": 1,
                        "semantic_types": [{"name": "b", "n_keypoints": 2}, {"name": "b1"}],
                    }
                ]
            },
            "expected keypoint names in 'a' that occur once, got 'b1' twice",
        ),
    ],
)
def test_broken_configurations(tmp_path, change, message):
    path = write_xml(tmp_path, image(points("tshirt.neck", "1,1")))
    with pytest.raises(ValueError, match=message) as error:
        read_cvat(path, categories=write_configuration(tmp_path, change))
    one_line(error)


@pytest.mark.parametrize("place", ["name", "label", "box", "task"])
def test_line_breaks_in_names_stay_out_of_messages(tmp_path, place):
    broken = "x&#10;y"
    configuration = write_configuration(tmp_path)
    body = image(
        points("tshirt.neck", "1,1"),
        points(f"tshirt.{broken}" if place == "label" else "tshirt.hem", "1,1"),
        box(broken if place == "box" else "hat", (1, 1, 2, 2)),
        name=broken if place == "name" else "a.png",
    )
    path = write_xml(tmp_path, body, meta=f"<name>{broken}</name>" if place == "task" else "")
    assert all("\n" not in note for note in read_cvat(path, categories=configuration).notes)
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        read_cvat(path)
    one_line(error)
