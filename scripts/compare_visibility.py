"""Compare patches with signed heatmaps on drawn keypoints with occluders; print a Markdown table.

`python scripts/compare_visibility.py --output runs/visibility` draws images, trains a patch classifier, a
detector with `--occlusion signed` and a plain one, and scores all of them on unseen images: P(visible) of the
patches and the signed heatmaps at the same labelled keypoints, and the detections of both detectors, where
the plain one is asked with `predict --visibility`. Intervals are 95 % bootstrap over images. The folder gets
`comparison.md`, `metrics.json`, the logits of every point in `points-<seed>.csv`, and the runs.
"""

import argparse
import sys
from contextlib import redirect_stdout

from keypoint_detection.command_flags import count, quiet_lightning
from keypoint_detection.visibility.occlusion_comparison import ComparisonOptions, compare_occlusion
from keypoint_detection.visibility.occlusion_table import table_text

HELP = {
    "images": "drawn images to train on",
    "unseen": "drawn images to score on",
    "epochs": "passes of the patch classifier over the points",
    "steps": "optimiser steps of each detector",
    "seeds": "trainings of each kind, with seeds 0, 1, ...",
}


def main(argv: list[str]) -> None:
    """Print four lines per seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for name, text in HELP.items():
        parser.add_argument(f"--{name}", type=count, default=getattr(ComparisonOptions, name), help=text)
    parser.add_argument("--output", default="runs/visibility", help="folder of images, runs and files")
    given = vars(parser.parse_args(argv))
    output = given.pop("output")
    quiet_lightning()
    try:
        with redirect_stdout(sys.stderr):  # the trainings tell what they do; the output is the table alone
            rows = compare_occlusion(output, ComparisonOptions(**given))
    except FileExistsError as error:
        parser.error(str(error))
    print(table_text(rows), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
