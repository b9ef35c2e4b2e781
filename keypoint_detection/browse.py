"""One self-contained HTML page to look through a COCO keypoint data set: no server, no network."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from keypoint_detection.browse_content import page_content
from keypoint_detection.browse_predictions import read_predictions
from keypoint_detection.browse_thumbnails import Thumbnail, make_thumbnails
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.files import atomic_write
from keypoint_detection.html_page import fill_page, picture_blocks

SCRIPTS = (
    "page_base.js",
    "browse_state.js",
    "browse_filter.js",
    "page_drawing.js",
    "browse_drawing.js",
    "page_grid.js",
    "browse_grid.js",
    "page_zoom.js",
    "browse_zoom.js",
    "browse_page.js",
)
"""The parts of the page's script, in the order in which they build on each other."""

THUMBNAILS_PER_BLOCK = 64
"""The page decodes a block when one of its images comes into sight."""

THUMBNAIL_LIMITS_PX = (32, 1024)


def write_page(
    json_path: str | Path,
    output_html: str | Path,
    *,
    predictions: str | Path | None = None,
    findings: Sequence[Finding] = (),
    splits: Mapping[int, str] | None = None,
    thumbnail_px: int = 256,
    title: str | None = None,
) -> Path:
    """Write a page that shows every image of a data set with its points, and lets one filter and zoom.

    The page holds the labels and a thumbnail of each image (about 10 kB). The image itself is loaded from its
    place on the disk when it is zoomed; where it is missing the thumbnail stands in.

    Args:
        json_path: COCO keypoint file; its images are beside it.
        output_html: The page; a file of this name is replaced.
        predictions: COCO keypoint results, or the `predictions.json` of `keypoint-detection eval`.
        findings: What the doctor found; those of an image of this file are shown beside it.
        splits: Name of the split by image id; an image that is not in it keeps its own `split` field.
        thumbnail_px: Longer side of the thumbnails in pixels, 32 to 1024; no image is enlarged.
        title: Heading; by default the folder and the name of the COCO file.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: There is no COCO file or no predictions file.
        ValueError: A file is wrong, the size is out of range, or the page would replace one of its sources.
    """
    json_path, output = Path(json_path), Path(output_html)
    _check(output, thumbnail_px, [json_path] if predictions is None else [json_path, Path(predictions)])
    coco = read_coco(json_path)
    found = None if predictions is None else read_predictions(predictions, coco)
    paths = [json_path.parent / image.file_name for image in coco.images]
    thumbnails = make_thumbnails(paths, thumbnail_px)
    content = page_content(
        coco, thumbnails, findings=findings, splits=splits or {}, predictions=found, json_path=json_path
    )
    content["title"] = title or _default_title(json_path)
    content["thumbnailsPerBlock"] = THUMBNAILS_PER_BLOCK
    for image, path in zip(content["images"], paths, strict=True):
        image["src"] = _url(path, output.parent)
    page = _fill_template(content, thumbnails)
    with atomic_write(output) as temporary:
        temporary.write_bytes(page)
    return output


def _check(output: Path, thumbnail_px: int, sources: Sequence[Path]) -> None:
    low, high = THUMBNAIL_LIMITS_PX
    if not low <= thumbnail_px <= high:
        raise ValueError(f"expected thumbnails of {low} to {high} pixels, got thumbnail_px={thumbnail_px}")
    if output.is_dir():
        raise ValueError(f"expected the path of a page to write, got the folder {output}; add a file name")
    for source in sources:
        if output.resolve() == source.resolve():
            raise ValueError(f"expected a page apart from its sources, got {output} as both; name it .html")


def _default_title(json_path: Path) -> str:
    return "/".join(json_path.absolute().parts[-2:])


def _url(path: Path, page_folder: Path) -> str:
    """Return the address of a file as seen from the page; nothing in a file name can leave the disk."""
    try:
        relative = os.path.relpath(path, page_folder)
    except ValueError:  # another drive, on Windows
        return path.absolute().as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


def _fill_template(content: Mapping[str, Any], thumbnails: Sequence[Thumbnail]) -> bytes:
    jpegs = [thumbnail.jpeg for thumbnail in thumbnails]
    return fill_page(
        "browse_page.html",
        styles=["page_base.css", "browse_page.css"],
        scripts=SCRIPTS,
        image_sources="data: file: 'self'",
        content=content,
        blocks={"THUMBNAILS": picture_blocks("thumbnails", jpegs, THUMBNAILS_PER_BLOCK)},
    )
