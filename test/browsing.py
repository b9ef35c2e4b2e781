"""Read the page of `browse` back, and write small sets for it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np


class PageParser(HTMLParser):
    """Collect the elements of a page, and the text of each script with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.title = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._inside == "title":
            self.title += data


def parse(page: Path) -> PageParser:
    parser = PageParser()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def content_of(page: Path) -> dict[str, Any]:
    return next(
        json.loads(text) for attributes, text in parse(page).scripts if attributes.get("id") == "content"
    )


def thumbnails_of(page: Path) -> list[str]:
    blocks = [text for attributes, text in parse(page).scripts if attributes.get("class") == "thumbnails"]
    return [line for block in blocks for line in block.split("\n")]


def write_set(
    folder: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    keypoints: tuple[str, ...] = ("nose", "tail"),
    *,
    draw: bool = True,
) -> Path:
    """Write a COCO file of 40 x 30 pixel images, each with a grey picture beside it."""
    images = [{"width": 40, "height": 30, **image} for image in images]
    for image in images if draw else []:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        done, png = cv2.imencode(".png", np.full((image["height"], image["width"], 3), 128, np.uint8))
        assert done
        path.write_bytes(png.tobytes())
    category = {
        "id": 1,
        "name": "mouse",
        "keypoints": list(keypoints),
        "skeleton": [[1, 2], [1, 9], [0, 1], [1]],
    }
    coco = {
        "images": images,
        "categories": [category],
        "annotations": [{"category_id": 1, **annotation} for annotation in annotations],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(coco), encoding="utf-8")
    return path


def write_labels(folder: Path) -> Path:
    """Write two images; the first has an instance and a crowd."""
    images = [{"id": 7, "file_name": "a.png", "split": "test"}, {"id": 9, "file_name": "sub/b c#1.png"}]
    annotations = [
        {"id": 1, "image_id": 7, "keypoints": [10, 10, 2, 20, 10, 1], "bbox": [5, 5, 20, 10]},
        {"id": 2, "image_id": 7, "keypoints": [0, 0, 0, 30.12345, 20, 2], "iscrowd": 1},
    ]
    return write_set(folder, images, annotations)
