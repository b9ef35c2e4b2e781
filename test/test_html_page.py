import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from browsing import content_of, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.browse import SCRIPTS as BROWSE_SCRIPTS
from keypoint_detection.html_page import TEMPLATES, fill_page, json_for_html, picture_blocks
from keypoint_detection.report_page import SCRIPTS as REPORT_SCRIPTS

TEMPLATE = "report_page.html"
FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    r"|https?://(?!www\.w3\.org/2000/svg)"  # this one is a name, not loaded
)


def page_of(folder: Path, content: dict[str, object], blocks: dict[str, str] | None = None) -> Path:
    given_blocks = {"PICTURES": "", "HEATMAPS": ""} | (blocks or {})
    page = fill_page(
        TEMPLATE,
        styles=["page_base.css"],
        scripts=["page_base.js"],
        image_sources="data:",
        content=content,
        blocks=given_blocks,
    )
    path = folder / "page.html"
    path.write_bytes(page)
    return path


def hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_policy_names_the_script_and_the_style_by_their_hashes(tmp_path: Path) -> None:
    page = page_of(tmp_path, {"title": "a"})
    parser = parse(page)
    policy = next(attributes["content"] for tag, attributes in parser.tags if "http-equiv" in attributes)
    script = next(text for attributes, text in parser.scripts if "type" not in attributes)
    style = re.search("<style>(.*)</style>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert policy == (
        f"default-src 'none'; script-src '{hash_of(script)}'; style-src '{hash_of(style[1])}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_content_is_never_taken_for_a_mark(tmp_path: Path) -> None:
    content = {"title": "{{SCRIPT}}", "deep": ["{{PICTURES}}", "{{CONTENT}}"]}
    page = page_of(tmp_path, content, {"PICTURES": "<!--{{HEATMAPS}}-->", "HEATMAPS": "<!--once-->"})
    assert content_of(page) == content
    assert parse(page).title == "{{SCRIPT}}"
    assert page.read_text(encoding="utf-8").count("<!--once-->") == 1
    assert "<!--{{HEATMAPS}}-->" in page.read_text(encoding="utf-8")


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(categories=None)))
def test_any_text_survives_json_in_html(text: str) -> None:
    written = json_for_html({text: [text]})
    assert "<" not in written
    assert json.loads(written) == {text: [text]}


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="expected plain JSON values for the page, null where undefined"):
        json_for_html({"value": float("nan")})


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_blocks_hold_the_pictures_in_order(count: int) -> None:
    pictures = [bytes([number]) * number for number in range(count)]  # the first is empty
    block = re.compile('<script type="text/plain" class="some">(.*?)</script>', re.DOTALL)
    found = block.findall(picture_blocks("some", pictures, 3))
    assert len(found) == -(-count // 3)
    assert [base64.b64decode(line) for lines in found for line in lines.split("\n")] == pictures


def test_scripts_insert_no_html_and_are_all_used() -> None:
    assert {path.name for path in TEMPLATES.glob("*.js")} == {
        *BROWSE_SCRIPTS,
        *REPORT_SCRIPTS,
        "sweep_page.js",
        "visibility_page.js",
    }
    for script in TEMPLATES.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(FORBIDDEN, text), script
        assert len(text.splitlines()) <= 250
