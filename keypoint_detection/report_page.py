"""One self-contained HTML page of an evaluation: numbers, charts and images, without a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keypoint_detection.files import atomic_write
from keypoint_detection.html_page import fill_page, picture_blocks

SCRIPTS = (
    "page_base.js",
    "report_state.js",
    "page_drawing.js",
    "report_drawing.js",
    "report_numbers.js",
    "report_table.js",
    "report_axes.js",
    "report_chart.js",
    "report_charts.js",
    "report_filter.js",
    "page_grid.js",
    "report_cards.js",
    "page_zoom.js",
    "report_viewer.js",
    "report_points.js",
    "report_controls.js",
    "report_page.js",
)
"""The parts of the page's script, in the order in which they build on each other."""

PICTURES_PER_BLOCK = 32
"""The page decodes a block when one of its pictures comes into sight."""

HEATMAPS_PER_BLOCK = 4


def write_page(
    content: Mapping[str, Any], pictures: Sequence[bytes], heatmaps: Sequence[bytes], output: Path
) -> None:
    """Write the page of an evaluation; everything that it shows is inside the file.

    Args:
        content: Plain JSON values, None where a number is undefined: `title`, `subtitle`, `headline`,
            `intervals`, `notes`, `contract`, `hash`, `perKeypoint`, `charts`, `channels`, `skeleton`,
            `images`, `config` and `environment`; only `title` is required. Points are pixels of the original
            image, an integer being the centre of a pixel; boxes are (x, y, width, height) from its corner.
        pictures: A JPEG for each `picture` number of an image; empty bytes where there is none. Each shows
            the whole image, at any size.
        heatmaps: A PNG for each `heatmap` number of an image; each covers the whole image, at any size.
        output: The page; a file of this name is replaced.

    Raises:
        ValueError: A number of the content is not finite, or an image names a picture that is not there.
    """
    _check(content, len(pictures), len(heatmaps), output)
    blocks = {
        "PICTURES": picture_blocks("pictures", pictures, PICTURES_PER_BLOCK),
        "HEATMAPS": picture_blocks("heatmaps", heatmaps, HEATMAPS_PER_BLOCK),
    }
    sizes = {"picturesPerBlock": PICTURES_PER_BLOCK, "heatmapsPerBlock": HEATMAPS_PER_BLOCK}
    page = fill_page(
        "report_page.html",
        styles=["page_base.css", "report_page.css", "report_charts.css"],
        scripts=SCRIPTS,
        image_sources="data:",
        content={**content, "images": content.get("images") or [], **sizes},
        blocks=blocks,
    )
    with atomic_write(output) as temporary:
        temporary.write_bytes(page)


def _check(content: Mapping[str, Any], pictures: int, heatmaps: int, output: Path) -> None:
    if output.is_dir():
        raise ValueError(f"expected the path of a page to write, got the folder {output}; add a file name")
    for image in content.get("images") or []:
        for kind, count in (("picture", pictures), ("heatmap", heatmaps)):
            number = image.get(kind)
            if number is not None and not 0 <= number < count:
                raise ValueError(
                    f"expected a {kind} number below {count}, got {number} of image {image['id']!r}; "
                    f"give one {kind} for each number"
                )
