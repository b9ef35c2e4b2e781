import base64
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from browsing import content_of, parse, thumbnails_of, write_labels, write_set
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.browse import THUMBNAILS_PER_BLOCK, write_page
from keypoint_detection.doctor_findings import Finding

SHARED = Path(__file__).parents[2] / "shared/data"
HOSTILE = "<img src=x onerror=alert(1)></script><!--<script>{{CONTENT}}"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path)


def test_content_is_what_the_file_holds(labels: Path, tmp_path: Path) -> None:
    page = write_page(labels, tmp_path / "page.html", splits={9: "train"})
    content = content_of(page)
    assert [(one["name"], one["counts"]) for one in content["keypoints"]] == [
        ("nose", [1, 0, 1]),
        ("tail", [0, 1, 1]),
    ]
    assert content["categories"] == [{"name": "mouse", "keypoints": [0, 1], "skeleton": [[0, 1]]}]
    first, second = content["images"]
    assert (first["id"], first["name"], first["w"], first["h"], first["split"]) == (
        "7",
        "a.png",
        40,
        30,
        "test",
    )
    assert second["split"] == "train"
    assert first["items"] == [
        {"id": "1", "category": 0, "box": [5, 5, 20, 10], "crowd": False, "points": [10, 10, 2, 20, 10, 1]},
        {"id": "2", "category": 0, "box": None, "crowd": True, "points": [0, 0, 0, 30.123, 20, 2]},
    ]
    assert second["items"] == []
    assert content["predicted"] is False
    assert parse(page).title == f"{tmp_path.name}/labels.json"


def test_addresses_lead_from_the_page_to_the_images(labels: Path, tmp_path: Path) -> None:
    page = write_page(labels, tmp_path / "other folder/deep/page.html")
    for image in content_of(page)["images"]:
        assert re.fullmatch(r"[\w./%-]+", image["src"])
        assert (page.parent / unquote(image["src"])).resolve() == (labels.parent / image["name"]).resolve()


def test_blocks_of_thumbnails_keep_the_order(tmp_path: Path) -> None:
    count = THUMBNAILS_PER_BLOCK + 3
    for index in range(count):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((40, 40, 3), 3 * index, np.uint8))
    images = [{"id": index, "file_name": f"{index}.png", "height": 40} for index in range(count)]
    page = write_page(write_set(tmp_path, images, [], draw=False), tmp_path / "page.html")
    assert content_of(page)["thumbnailsPerBlock"] == THUMBNAILS_PER_BLOCK
    lines = thumbnails_of(page)
    assert len(lines) == count
    for index, line in enumerate(lines):
        grey = cv2.imdecode(np.frombuffer(base64.b64decode(line), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        assert abs(float(grey.mean()) - 3 * index) < 1


def test_broken_and_missing_images_are_named(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "sub/b c#1.png").unlink()
    page = write_page(labels, tmp_path / "page.html")
    assert [image["notes"] for image in content_of(page)["images"]] == [
        ["the image file cannot be read"],
        ["the image file is missing"],
    ]
    assert thumbnails_of(page) == ["", ""]


def test_size_is_that_of_the_picture(labels: Path, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 30, 3), np.uint8))
    first = content_of(write_page(labels, tmp_path / "page.html"))["images"][0]
    assert (first["w"], first["h"]) == (30, 40)
    assert first["notes"] == ["the labels say 40 x 30 pixels, the image has 30 x 40"]


def test_nothing_of_the_file_becomes_html(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": HOSTILE + "\"'.png", "split": HOSTILE}]
    annotations = [{"id": 1, "image_id": 1, "keypoints": [1, 1, 2]}]
    path = write_set(tmp_path, images, annotations, (HOSTILE,), draw=False)
    clean = write_set(tmp_path / "clean", [{"id": 1, "file_name": "a.png"}], annotations, ("nose",))
    finding = Finding(HOSTILE, "error", HOSTILE, image_id=1)
    page = write_page(path, tmp_path / "page.html", findings=[finding], title=HOSTILE)
    parser, plain = parse(page), parse(write_page(clean, tmp_path / "clean.html"))
    assert [tag for tag, _ in parser.tags] == [tag for tag, _ in plain.tags]
    assert parser.title == HOSTILE
    content = content_of(page)
    assert content["keypoints"][0]["name"] == HOSTILE
    assert content["images"][0]["name"] == HOSTILE + "\"'.png"
    assert content["images"][0]["findings"][0]["message"] == HOSTILE


def test_page_is_self_contained_and_its_policy_lets_only_its_script_run(labels: Path, tmp_path: Path) -> None:
    page = write_page(labels, tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"[a-z]+://[^\"' )]*", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not loaded
    parser = parse(page)
    assert not [tag for tag, attributes in parser.tags if tag in {"link", "iframe"} or attributes.get("src")]
    policy = next(attributes["content"] for tag, attributes in parser.tags if "content" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    scripts = [script for attributes, script in parser.scripts if "type" not in attributes]
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_findings_go_to_their_images(labels: Path, tmp_path: Path) -> None:
    findings = [
        Finding("point-outside", "error", "m1", image_id=7, annotation_id=1),
        Finding("point-outside", "error", "m2", image_id=7, file=str(labels)),
        Finding("tiny-area", "warning", "m3", annotation_id=2),
        Finding("channel-empty", "warning", "m4"),
        Finding("point-outside", "error", "m5", image_id=9, file=str(tmp_path / "validation.json")),
        Finding("no-image", "error", "m6", image_id=123),
    ]
    content = content_of(write_page(labels, tmp_path / "page.html", findings=findings))
    names = [one["code"] for one in content["codes"]]
    first, second = content["images"]
    assert [(names[one["code"]], one["message"], one["annotation"]) for one in first["findings"]] == [
        ("point-outside", "m1", "1"),
        ("point-outside", "m2", None),
        ("tiny-area", "m3", "2"),
    ]
    assert second["findings"] == []
    assert [one["message"] for one in content["findings"]] == ["m4", "m5", "m6"]
    assert {one["code"]: one["images"] for one in content["codes"]} == {
        "channel-empty": 0,
        "no-image": 0,
        "point-outside": 1,
        "tiny-area": 1,
    }


def test_wrong_arguments_are_refused(labels: Path, tmp_path: Path) -> None:
    before = labels.read_bytes()
    with pytest.raises(ValueError, match="apart from its sources"):
        write_page(labels, labels)
    assert labels.read_bytes() == before
    with pytest.raises(ValueError, match="got the folder"):
        write_page(labels, tmp_path)
    with pytest.raises(ValueError, match="thumbnail_px=8"):
        write_page(labels, tmp_path / "page.html", thumbnail_px=8)
    with pytest.raises(FileNotFoundError, match="COCO keypoint file"):
        write_page(tmp_path / "none.json", tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match="COCO results file"):
        write_page(labels, tmp_path / "page.html", predictions=tmp_path / "none.json")
    assert not (tmp_path / "page.html").exists()


@settings(max_examples=40, deadline=None)
@given(name=st.text(min_size=1), title=st.text(min_size=1))
def test_any_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, name: str, title: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "texts"
    folder.mkdir(exist_ok=True)
    path = write_set(folder, [{"id": 1, "file_name": name}], [], (name,), draw=False)
    page = write_page(path, folder / "page.html", title=title)
    content = content_of(page)
    assert content["keypoints"][0]["name"] == name
    assert content["images"][0]["name"] == name
    assert content["title"] == title


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
def test_real_persons(tmp_path: Path) -> None:
    source = SHARED / "coco_person/test_coco.json"
    content = content_of(write_page(source, tmp_path / "page.html"))
    coco = json.loads(source.read_text(encoding="utf-8"))
    assert len(content["images"]) == len(coco["images"]) == 4
    flags = Counter(flag for annotation in coco["annotations"] for flag in annotation["keypoints"][2::3])
    totals = np.sum([one["counts"] for one in content["keypoints"]], axis=0).tolist()
    assert totals == [flags[0], flags[1], flags[2]]
    assert all(not image["notes"] for image in content["images"])
