from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.data.coco_parser import write_coco
from keypoint_detection.data.formats.cvat import read_cvat
from keypoint_detection.data.formats.cvat_xml import MAX_DEPTH

SVG = (
    '<line x1="1" y1="1" x2="2" y2="2" data-type="edge" data-node-from="2" data-node-to="7"></line>'
    '<line x1="1" y1="1" x2="2" y2="2" data-type="edge" data-node-from="2" data-node-to="9"></line>'
    '<circle r="0.75" data-type="element node" data-node-id="2" data-label-name="nose"></circle>'
    '<circle r="0.75" data-type="element node" data-node-id="7" data-label-name="tail"></circle>'
)
SKELETON_LABELS = (
    "<labels>"
    f"<label><name>cat</name><type>skeleton</type><svg>{SVG.replace('<', '&lt;')}</svg></label>"
    "<label><name>tail</name><type>points</type><parent>cat</parent></label>"
    "<label><name>ear</name><type>points</type><parent>cat</parent></label>"
    "<label><name>nose</name><type>points</type><parent>cat</parent></label>"
    "</labels>"
)
SIZE = "<original_size><width>64</width><height>48</height></original_size>"


def part(label: str, x: float, y: float, outside: int = 0, occluded: int = 0) -> str:
    flags = f'outside="{outside}" occluded="{occluded}"'
    return f'<points label="{label}" {flags} points="{x:.2f},{y:.2f}"></points>'


def frame(number: int, x: float, y: float, outside: int = 0, occluded: int = 0) -> str:
    flags = f'keyframe="1" outside="{outside}" occluded="{occluded}"'
    return f'<points frame="{number}" {flags} points="{x:.2f},{y:.2f}" z_order="0"></points>'


def track(number: int, label: str, *body: str, extra: str = "") -> str:
    return f'<track id="{number}" label="{label}" source="manual" {extra}>{"".join(body)}</track>'


def skeleton(*parts: str, head: str = 'label="cat"') -> str:
    return f'<skeleton {head} source="manual" z_order="0">{"".join(parts)}</skeleton>'


def write_xml(folder: Path, *body: str, meta: str = "") -> Path:
    path = folder / "annotations.xml"
    lines = "\n".join(body)
    path.write_text(f"<annotations><meta><task>{meta}</task></meta>\n{lines}\n</annotations>\n")
    return path


def summary(conversion) -> list[tuple[str, list[float], int | None]]:
    names = {image.id: image.file_name for image in conversion.coco.images}
    entries = conversion.coco.annotations
    return [(names[a.image_id], a.keypoints, (a.model_extra or {}).get("track_id")) for a in entries]


def test_skeletons_on_images(tmp_path):
    cats = (
        skeleton(part("nose", 4, 5), part("tail", 9, 8, occluded=1), part("ear", 1, 1, outside=1)),
        skeleton(part("nose", 14, 15), part("ear", 13, 11), part("tail", 3, 1, outside=1)),
        skeleton(part("nose", 14, 15, outside=1)),
    )
    head = '<image id="0" name="a.png" width="64" height="48">'
    path = write_xml(tmp_path, head, *cats, "</image>", meta=SKELETON_LABELS)
    conversion = read_cvat(path)
    (category,) = conversion.coco.categories
    # the points in the order of <meta>; the drawing joins nose (3) and tail (1), and a node without a name
    assert (category.name, category.keypoints, category.skeleton) == (
        "cat",
        ["tail", "ear", "nose"],
        [[3, 1]],
    )
    assert summary(conversion) == [
        ("images/a.png", [8.5, 7.5, 1, 0, 0, 0, 3.5, 4.5, 2], None),
        ("images/a.png", [0, 0, 0, 12.5, 10.5, 2, 13.5, 14.5, 2], None),
    ]
    assert conversion.coco.annotations[0].bbox == [4, 5, 5, 3]
    write_coco(conversion.coco, tmp_path / "out.json")


def test_a_skeleton_whose_drawing_is_broken(tmp_path):
    meta = SKELETON_LABELS.replace("&lt;line", "&lt;li&lt;ne")
    head = '<image id="0" name="a.png" width="64" height="48">'
    conversion = read_cvat(write_xml(tmp_path, head, skeleton(part("nose", 4, 5)), "</image>", meta=meta))
    assert conversion.coco.categories[0].skeleton is None
    assert "the drawing of skeleton 'cat' is no SVG" in conversion.notes[-1]


def test_tracks_of_skeletons(tmp_path):
    def shown(number: int, *parts: str) -> str:
        return skeleton(*parts, head=f'frame="{number}" keyframe="1"')

    first = track(3, "cat", shown(0, part("nose", 4, 5)), shown(2, part("tail", 6, 7, occluded=1)))
    second = track(5, "cat", shown(0, part("ear", 1, 2)), shown(1, part("ear", 1, 2, outside=1)))
    conversion = read_cvat(write_xml(tmp_path, first, second, meta=SIZE + SKELETON_LABELS))
    assert summary(conversion) == [
        ("images/frame_000000.PNG", [0, 0, 0, 0, 0, 0, 3.5, 4.5, 2], 3),
        ("images/frame_000000.PNG", [0, 0, 0, 0.5, 1.5, 2, 0, 0, 0], 5),
        ("images/frame_000002.PNG", [5.5, 6.5, 1, 0, 0, 0, 0, 0, 0], 3),
    ]
    assert {(image.width, image.height) for image in conversion.coco.images} == {(64, 48)}
    dumped = conversion.coco.annotations[0].model_dump(exclude_unset=True)
    assert dumped["track_id"] == 3  # it is written, too


def test_tracks_of_points_join_by_group(tmp_path):
    nose = track(0, "cat.nose", frame(4, 2, 3), frame(5, 2, 3, outside=1), extra='group_id="1"')
    tail = track(1, "cat.tail", frame(4, 8, 9), frame(5, 8, 9, occluded=1), extra='group_id="1"')
    other = track(2, "cat.nose", frame(4, 20, 21), extra='group_id="2"')
    conversion = read_cvat(write_xml(tmp_path, nose, tail, other, meta=SIZE))
    assert summary(conversion) == [
        ("images/frame_000004.PNG", [1.5, 2.5, 2, 7.5, 8.5, 2], 0),
        ("images/frame_000004.PNG", [19.5, 20.5, 2, 0, 0, 0], 2),
        # the same animal keeps its track id where its first track is outside
        ("images/frame_000005.PNG", [0, 0, 0, 7.5, 8.5, 1], 0),
    ]


def test_boxes_of_tracks(tmp_path):
    box = '<box frame="4" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="11" ybr="12"></box>'
    gone = box.replace('frame="4"', 'frame="5"').replace('outside="0"', 'outside="1"')
    boxes = track(7, "cat", box, gone, extra='group_id="1"')
    nose = track(8, "cat.nose", frame(4, 2, 3), frame(5, 3, 4), extra='group_id="1"')
    first, second = read_cvat(write_xml(tmp_path, boxes, nose, meta=SIZE)).coco.annotations
    assert (first.bbox, first.area, first.keypoints) == ([1, 2, 10, 10], 100, [1.5, 2.5, 2])
    assert (second.bbox, second.keypoints) == (None, [2.5, 3.5, 2])


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "images").mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / "images" / name), np.zeros((48, 64, 3), np.uint8))


def test_frames_without_labels_are_images_too(tmp_path):
    write_images(tmp_path, "frame_000000.png", "frame_000001.png", "frame_000002.png")
    # the track ends on a frame that was deleted: nothing is shown there, so it needs no image
    path = write_xml(tmp_path, track(0, "cat.nose", frame(1, 2, 3), frame(7, 2, 3, outside=1)))
    conversion = read_cvat(path)
    names = [image.file_name for image in conversion.coco.images]
    assert names == [f"images/frame_00000{number}.png" for number in range(3)]
    assert [(image.width, image.height) for image in conversion.coco.images] == [
        (64, 48)
    ] * 3  # from the files
    assert [entry.image_id for entry in conversion.coco.annotations] == [2]
    assert conversion.image_paths[3] == tmp_path / "images/frame_000002.png"


def test_a_labelled_frame_without_image(tmp_path):
    write_images(tmp_path, "frame_000000.png")
    path = write_xml(tmp_path, track(0, "cat.nose", frame(0, 2, 3), frame(7, 2, 3)), meta=SIZE)
    with pytest.raises(FileNotFoundError, match=r"expected an image of frame 7 .* \(1 of 2 labelled frames"):
        read_cvat(path)


def test_images_of_other_names_count_in_order(tmp_path):
    write_images(tmp_path, "x.png", "y.png", "z.png")
    meta = "<size>3</size><start_frame>10</start_frame><frame_filter>step=5</frame_filter>"
    body = track(0, "cat.nose", frame(15, 2, 3))
    conversion = read_cvat(write_xml(tmp_path, body, meta=meta + SIZE))
    assert summary(conversion) == [("images/y.png", [1.5, 2.5, 2], 0)]
    with pytest.raises(ValueError, match=r"as many as the task has frames \('4'\), got 3 of other names"):
        read_cvat(write_xml(tmp_path, body, meta=meta.replace(">3<", ">4<") + SIZE))


def test_videos_that_cannot_be_read(tmp_path):
    nose = track(0, "cat.nose", frame(0, 2, 3))
    image = '<image id="0" name="a.png" width="64" height="48"></image>'
    for body, meta, message in (
        ([nose], "", "expected <original_size> or an image that tells the size"),
        ([nose], SIZE.replace("64", "0"), "expected one <original_size> with width and height in pixels"),
        ([nose, image], SIZE, "expected images or the tracks of a video, got both"),
        (
            [track(0, "a.b", frame(0, 1, 1), extra='task_id="1"'), nose.replace("id=", 'task_id="2" id=')],
            SIZE,
            "expected the tracks of one task, got tasks '1, 2'",
        ),
    ):
        with pytest.raises(ValueError, match=message) as error:
            read_cvat(write_xml(tmp_path, *body, meta=meta))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE annotations [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE annotations [<!ENTITY file SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE annotations SYSTEM "http://localhost/a.dtd">',
        '<!DOCTYPE annotations [<!ENTITY % p "x"> %p;]>',
    ],
)
def test_entities_are_refused(tmp_path, doctype):
    path = tmp_path / "annotations.xml"
    path.write_text(f'<?xml version="1.0"?>\n{doctype}\n<annotations></annotations>')
    with pytest.raises(ValueError, match=r"line 2: the reader refuses XML entities"):
        read_cvat(path)


def test_other_documents_and_deep_ones(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text("<html></html>")
    with pytest.raises(ValueError, match=r"line 1: expected <annotations> as in CVAT's XML, got <html>"):
        read_cvat(path)
    path.write_text("<annotations>\n" + "<a>" * 100_000)
    with pytest.raises(ValueError, match=f"line 2: expected at most {MAX_DEPTH} nested elements"):
        read_cvat(path)
