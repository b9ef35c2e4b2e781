"""Write small CVAT exports for the tests of their reader."""

import json
from pathlib import Path

import pytest

CONFIGURATION = {
    "categories": [
        {
            "name": "tshirt",
            "supercategory": "cloth",
            "id": 23,
            "semantic_types": [{"name": "neck", "n_keypoints": 1}, {"name": "shoulder", "n_keypoints": 2}],
        }
    ]
}


def image(*shapes: str, name: str = "a.png", size: tuple[int, int] = (40, 30)) -> str:
    width, height = size
    body = "\n".join(shapes)
    return f'<image id="0" name="{name}" width="{width}" height="{height}">\n{body}\n</image>'


def points(label: str, at: str, **attributes: object) -> str:
    extra = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<points label="{label}" source="manual" points="{at}" {extra}></points>'


def box(label: str, corners: tuple[float, float, float, float], **attributes: object) -> str:
    place = " ".join(f'{n}="{v}"' for n, v in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    extra = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<box label="{label}" {place} {extra}></box>'


def write_xml(folder: Path, *body: str, meta: str = "") -> Path:
    path = folder / "annotations.xml"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    path.write_text(f"{head}<meta><task>{meta}</task></meta>\n" + "\n".join(body) + "\n</annotations>\n")
    return path


def write_configuration(folder: Path, content: object = CONFIGURATION) -> Path:
    path = folder / "categories.json"
    path.write_text(json.dumps(content))
    return path


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)
