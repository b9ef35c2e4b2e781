"""Explain images with a checkpoint, and write pictures, grids and the numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.data.unlabeled_dataset import UnlabeledBatch
from keypoint_detection.explain import (
    ExplainOptions,
    KeypointExplanation,
    chosen_methods,
    explain_image,
    frame_of,
    read_samples,
)
from keypoint_detection.explain_pictures import Picture, draw_grids, draw_map, percent, picture_size
from keypoint_detection.files import atomic_write, write_json
from keypoint_detection.geometry import resize_affine
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.utils.load_checkpoints import load_model

FOUND = 0.1
"""Least score of a keypoint that counts in the means: what predictions are written from, by default."""


@dataclass(frozen=True)
class ExplainResult:
    """Hold what an explanation of images found.

    Attributes:
        images: Path of each image and the explanations of its channels.
        unreadable: One line per image that could not be read.
    """

    images: Sequence[tuple[str, Sequence[KeypointExplanation]]]
    unreadable: Sequence[str]


def explain_to_files(
    checkpoint: str | Path,
    sources: Sequence[str | Path],
    output: str | Path,
    options: ExplainOptions,
    *,
    max_images: int = 10,
    device: str = "cpu",
) -> ExplainResult:
    """Explain images; write a folder of pictures for each, and `explanations.json`, which comes last.

    Args:
        checkpoint: A `.ckpt` file that a training wrote.
        sources: Images, folders or globs.
        output: Folder for the files.
        options: How to explain.
        max_images: Most images.
        device: Where to run.

    Returns:
        The explanations, and the images that could not be read.

    Raises:
        ValueError: The model cannot be read, or its backbone has no attention to roll out.
        FileNotFoundError: There is no checkpoint, or no image.
    """
    detector, output = load_model(checkpoint, device), Path(output)
    chosen_methods(detector, options.method)
    batches, unreadable = read_samples(detector, sources, max_images)
    images: list[tuple[str, Sequence[KeypointExplanation]]] = []
    folders: set[str] = set()
    for batch in batches:
        explanations = explain_image(detector, batch, options)
        folder = _free_name(Path(batch["path"][0]).stem, folders)
        _write_pictures(detector, batch, explanations, output / folder)
        images.append((batch["path"][0], [_without_maps(shown) for shown in explanations]))
    result = ExplainResult(images, unreadable)
    write_json(output / "explanations.json", {"checkpoint": str(checkpoint), **to_dict(result)})
    return result


def to_dict(result: ExplainResult) -> dict[str, Any]:
    """Return a JSON-ready form: `images` with their keypoints, and `mean` over the keypoints found."""
    images = []
    for path, explanations in result.images:
        keypoints = [
            {
                "channel": shown.channel,
                "x": shown.xy[0],
                "y": shown.xy[1],
                "score": shown.score,
                "radius_px": shown.radius_px,
                "area_share": shown.area_share,
                "shares": dict(shown.shares),
            }
            for shown in explanations
        ]
        images.append({"source": path, "keypoints": keypoints})
    return {"images": images, "mean": mean_shares(result), "unreadable": list(result.unreadable)}


def mean_shares(result: ExplainResult) -> dict[str, Any]:
    """Return means over all keypoints with a score of `FOUND` or more.

    Returns:
        `keypoints`, their number; `area_share` and `shares` by method, None without any.
    """
    found = [shown for _, explanations in result.images for shown in explanations if shown.score >= FOUND]
    if not found:
        return {"keypoints": 0, "area_share": None, "shares": None}
    return {
        "keypoints": len(found),
        "area_share": float(np.mean([shown.area_share for shown in found])),
        "shares": {name: float(np.mean([shown.shares[name] for shown in found])) for name in found[0].shares},
    }


def shares_table(result: ExplainResult) -> str:
    """Return a table of the shares: a row per keypoint, and the mean over those that were found."""
    if not result.images:
        return "no image could be read"
    names = list(result.images[0][1][0].shares)
    lines = [f"{'keypoint':32}{'score':>6}{'area':>8}" + "".join(f"  {name}" for name in names)]
    for path, explanations in result.images:
        lines.append(path)
        lines += [
            f"  {_cut(shown.channel, 30):30}{shown.score:6.2f}{_row(shown.area_share, shown.shares)}"
            for shown in explanations
        ]
    mean = mean_shares(result)
    if mean["keypoints"]:
        lines.append(
            f"{'mean of ' + str(mean['keypoints']) + ' found':38}{_row(mean['area_share'], mean['shares'])}"
        )
    lines.append(
        "share of each map within 3 standard deviations of the training's heatmaps around the keypoint; "
        f"area: what a map without preference has there; found: score of {FOUND} or more"
    )
    return "\n".join(lines)


def _row(area_share: float, shares: Mapping[str, float]) -> str:
    return f"{percent(area_share):>8}" + "".join(
        f"  {percent(share):>{len(name)}}" for name, share in shares.items()
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _without_maps(shown: KeypointExplanation) -> KeypointExplanation:
    """Drop the maps once they are drawn: those of many large images do not fit into memory."""
    return KeypointExplanation(
        shown.channel, shown.xy, shown.score, shown.radius_px, shown.area_share, {}, shown.shares
    )


def _write_pictures(
    detector: KeypointDetector,
    batch: UnlabeledBatch,
    explanations: Sequence[KeypointExplanation],
    folder: Path,
) -> None:
    """Write one picture per keypoint and method, and the grid of the image in as many pages as it takes."""
    image = load_image(batch["path"][0], detector.backbone.in_channels)
    to_image, image_hw = frame_of(batch)
    size_hw = picture_size(image_hw)
    to_whole = resize_affine(image_hw, size_hw)
    for channel, shown in enumerate(explanations):
        for method in shown.maps:
            picture = draw_map(
                image, shown, method, to_image=to_image, to_picture=to_whole, picture_hw=size_hw
            )
            name = re.sub(r"[^\w.-]+", "_", shown.channel)[:40]
            _write_png(folder / f"{channel:02d}_{name}_{method}.png", picture)
    pages = list(draw_grids(image, explanations, to_image))
    for number, page in enumerate(pages, start=1):
        _write_png(folder / ("grid.png" if len(pages) == 1 else f"grid_{number}.png"), page)


def _write_png(path: Path, picture: Picture) -> None:
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), picture[..., ::-1])


def _free_name(stem: str, taken: set[str]) -> str:
    """Return the name of a file, with a number if another one has it, and note it."""
    names = (f"{stem}{suffix}" for suffix in ("", *(f"_{n}" for n in range(2, len(taken) + 3))))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name
