import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.coco_parser import write_coco
from keypoint_detection.data.formats.cvat import read_cvat

IMAGES_XML = b"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>t</name><size>2</size><labels>
<label><name>cat</name><type>skeleton</type>
<svg>&lt;circle data-node-id="1" data-label-name="nose"/></svg></label>
<label><name>nose</name><type>points</type><parent>cat</parent></label></labels></task></meta>
<image id="0" name="a.png" width="64" height="48">
<points label="dog.eye" occluded="0" points="1.5,2;3,4" group_id="1">
<attribute name="a">b</attribute></points>
<box label="dog" xtl="1" ytl="2" xbr="3" ybr="4" group_id="1"></box>
<skeleton label="cat"><points label="nose" outside="0" occluded="1" points="5,6"></points></skeleton>
<polygon label="cat" points="1,1;2,2"></polygon></image>
<image id="1" name="b.png" width="64" height="48"></image></annotations>"""
VIDEO_XML = b"""<annotations><meta><task><size>9</size><start_frame>0</start_frame>
<original_size><width>64</width><height>48</height></original_size></task></meta>
<track id="0" label="cat.nose" group_id="1"><points frame="0" outside="0" occluded="0" points="1,2"></points>
<points frame="8" outside="1" occluded="0" points="1,2"></points></track>
<track id="1" label="cat"><skeleton frame="3">
<points label="tail" outside="0" points="1,2"></points></skeleton>
<box frame="4" xtl="1" ytl="2" xbr="3" ybr="4"></box></track></annotations>"""
COCO_JSON = b"""{"images":
[{"id": 1, "file_name": "a.png", "width": 4, "height": 3}], "categories":
[{"id": 1, "name": "c", "keypoints": ["n"]}], "annotations":
[{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1.5, 2, 2], "bbox": [0, 0, 1, 1]}]}"""
CONFIGURATION = b"""{"categories": [{"name": "dog", "id": 3, "supercategory": "", "skeleton": [[1, 2]],
"semantic_types": [{"name": "eye", "n_keypoints": 2}, {"name": "tail"}]}]}"""
SNIPPETS = [b"", b"<", b">", b'"', b"&", b"&amp;", b"&#10;", b"\x00", b"\xff", b"-", b"nan", b"1e9", b"0"]
SNIPPETS += [b"<track>", b"..", b"/", b"null", b"{", b"]", b"\xed\xa0\x80", b"9999999999"]
SNIPPETS += [b'<!DOCTYPE a [<!ENTITY b "c">]>']


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut a file, or replace some of its bytes."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 5, 40, len(content)]))
        piece = draw(st.sampled_from(SNIPPETS) | st.binary(max_size=3))
        content = content[:start] + piece + content[end:]
    return content


def check(content: bytes, suffix: str, configuration: bytes | None = None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"labels{suffix}").write_bytes(content)
        categories = None if configuration is None else folder / "categories.json"
        if categories is not None:
            categories.write_bytes(configuration or b"")
        before = sorted(folder.rglob("*"))
        try:
            conversion = read_cvat(folder / f"labels{suffix}", categories=categories)
        except (ValueError, FileNotFoundError) as error:
            assert len(str(error).splitlines()) == 1, str(error)  # noqa: PT017 - either outcome is right
        else:
            assert all(len(note.splitlines()) == 1 for note in conversion.notes)
            write_coco(conversion.coco, folder / "out" / "coco.json")
            (folder / "out" / "coco.json").unlink()
            (folder / "out").rmdir()
        assert sorted(folder.rglob("*")) == before


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".xml", ".json"]))
def test_any_bytes(content, suffix):
    check(content, suffix)


@settings(max_examples=250, deadline=None)
@given(damaged(IMAGES_XML) | damaged(VIDEO_XML))
def test_damaged_xml(content):
    check(content, ".xml")


@settings(max_examples=100, deadline=None)
@given(damaged(COCO_JSON))
def test_damaged_coco_export(content):
    check(content, ".json")


@settings(max_examples=150, deadline=None)
@given(damaged(CONFIGURATION))
def test_damaged_configuration(content):
    check(IMAGES_XML, ".xml", content)
