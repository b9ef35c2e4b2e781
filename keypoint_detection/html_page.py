"""Fill the template of a page that is one file: its content, pictures, style and script are all inside."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"

_MARK = re.compile(r"\{\{([A-Z]+)\}\}")


def fill_page(
    template: str,
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    image_sources: str,
    content: Mapping[str, Any],
    blocks: Mapping[str, str],
) -> bytes:
    """Return a page whose policy lets it run its own script and style, and nothing else.

    The marks of the template are `{{POLICY}}`, `{{TITLE}}`, `{{STYLE}}`, `{{SCRIPT}}`, `{{CONTENT}}` and
    those of `blocks`. They are replaced in one pass, so that no content is taken for a mark.

    Args:
        template: Name of the HTML file among the templates.
        styles: Names of the CSS files, in order.
        scripts: Names of the JavaScript files, in the order in which they build on each other.
        image_sources: Where pictures may come from, as in a Content-Security-Policy, such as `data:`.
        content: Plain JSON values with a `title`; no NaN.
        blocks: HTML by the name of its mark.

    Raises:
        ValueError: A number of the content is not finite.
    """
    style = "".join(map(read_template, styles))
    script = "(() => {\n'use strict';\n" + "\n".join(map(read_template, scripts)) + "\n})();\n"
    parts = {
        "POLICY": policy(script, style, image_sources),
        "TITLE": html.escape(content["title"]),
        "STYLE": style,
        "SCRIPT": script,
        "CONTENT": json_for_html(content),
        **blocks,
    }
    page = _MARK.sub(lambda mark: parts[mark[1]], read_template(template))
    # A path that is no valid Unicode has lone surrogates, which UTF-8 does not know.
    return page.encode("utf-8", "xmlcharrefreplace")


def read_template(name: str) -> str:
    """Return the text of a template."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def policy(script: str, style: str, image_sources: str) -> str:
    """Return what the page may do: run this script, use this style, and show pictures of these sources."""
    return (
        f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; "
        f"img-src {image_sources}; base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """Return the hash by which a Content-Security-Policy knows an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def json_for_html(content: Mapping[str, Any]) -> str:
    """Return JSON without `<`: it can neither close its script element nor open a comment."""
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"expected plain JSON values for the page, null where undefined: {error}") from None
    return text.replace("<", "\\u003c")


def picture_blocks(name: str, pictures: Sequence[bytes], per_block: int) -> str:
    """Return script elements of class `name`, each with `per_block` pictures in base64, one a line.

    The page decodes a block when one of its pictures comes into sight; an empty line is no picture.
    """
    lines = [base64.b64encode(picture).decode() for picture in pictures]
    blocks = ["\n".join(lines[start : start + per_block]) for start in range(0, len(lines), per_block)]
    return "\n".join(f'<script type="text/plain" class="{name}">{block}</script>' for block in blocks)
