import base64
import re
from pathlib import Path
from typing import Any

import pytest
from browsing import content_of, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting import make_report

from keypoint_detection.report_page import HEATMAPS_PER_BLOCK, PICTURES_PER_BLOCK, write_page

HOSTILE = "<img src=x onerror=alert(1)></script><!--<script>{{CONTENT}}\"'"


def blocks_of(page: Path, name: str) -> list[bytes]:
    texts = [text for attributes, text in parse(page).scripts if attributes.get("class") == name]
    return [base64.b64decode(line) for text in texts for line in text.split("\n")]


def image_of(number: int, **more: Any) -> dict[str, Any]:
    sides = {"w": 40, "h": 30, "picture": None, "heatmap": None}
    return {"id": str(number), "name": f"{number}.png", **sides, **more}


def test_page_holds_everything_that_it_was_given(tmp_path: Path) -> None:
    content, pictures, heatmaps = make_report(PICTURES_PER_BLOCK + 4)
    page = tmp_path / "deep/report.html"
    write_page(content, pictures, heatmaps, page)
    sizes = {"picturesPerBlock": PICTURES_PER_BLOCK, "heatmapsPerBlock": HEATMAPS_PER_BLOCK}
    assert content_of(page) == content | sizes
    assert blocks_of(page, "pictures") == pictures
    assert blocks_of(page, "heatmaps") == heatmaps
    assert len(heatmaps) == 8


def test_page_names_no_other_place(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_page(*make_report(3), page)
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"[a-z]+://[^\"' )]*", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not loaded
    parser = parse(page)
    assert not [tag for tag, attributes in parser.tags if tag in {"link", "iframe"} or attributes.get("src")]
    policy = next(attributes["content"] for _, attributes in parser.tags if "http-equiv" in attributes)
    assert policy is not None
    assert "img-src data:;" in policy
    assert "unsafe" not in policy


def test_nothing_of_the_content_becomes_html(tmp_path: Path) -> None:
    plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
    write_page({"title": "a", "images": [image_of(1)]}, [], [], plain)
    write_page({"title": HOSTILE, "config": HOSTILE, "images": [image_of(1, name=HOSTILE)]}, [], [], hostile)
    assert [tag for tag, _ in parse(hostile).tags] == [tag for tag, _ in parse(plain).tags]
    assert content_of(hostile)["config"] == HOSTILE
    assert parse(hostile).title == HOSTILE


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(categories=None)))
def test_any_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    page = tmp_path_factory.getbasetemp() / "report.html"
    image = image_of(1, name=text, group=text)
    channels = [{"name": text, "colour": "#e69f00"}]
    write_page({"title": text, "notes": [text], "channels": channels, "images": [image]}, [b""], [], page)
    content = content_of(page)
    assert (content["title"], content["notes"], content["images"][0]) == (text, [text], image)
    assert content["channels"] == channels
    assert blocks_of(page, "pictures") == [b""]


@pytest.mark.parametrize("kind", ["picture", "heatmap"])
@pytest.mark.parametrize("number", [1, -1])
def test_numbers_of_pictures_that_are_not_there_are_refused(tmp_path: Path, kind: str, number: int) -> None:
    content = {"title": "a", "images": [image_of(7, **{kind: number})]}
    with pytest.raises(ValueError, match=rf"expected a {kind} number below 1, got {number} of image '7'"):
        write_page(content, [b"a"], [b"b"], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_page({"title": "old"}, [], [], page)
    before = page.read_bytes()
    with pytest.raises(ValueError, match="null where undefined"):
        write_page({"title": "new", "headline": [{"value": float("inf")}]}, [], [], page)
    assert page.read_bytes() == before
    assert list(tmp_path.iterdir()) == [page]
    with pytest.raises(ValueError, match="got the folder"):
        write_page({"title": "new"}, [], [], tmp_path)
