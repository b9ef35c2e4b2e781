"""Compare what full training and training on frozen features reach in their time; print a Markdown table.

`python scripts/frozen_features_error.py train.json val.json --minutes 5 -- --backbone_type ConvNeXtUnet`;
what follows `--` is passed to every training.
"""

import argparse
import sys
import time
from pathlib import Path

from keypoint_detection.train.cli import parse_arguments
from keypoint_detection.train.train import train

LIGHT = ["--decoder_width", "32"]


def row(name: str, options: argparse.Namespace, minutes: float, flags: list[str]) -> str:
    """Train for some minutes, features included, and return a row of the table."""
    seconds = round(60 * minutes)
    given = [
        *("--json_dataset_path", options.train, "--json_validation_dataset_path", options.validation),
        *("--default_root_dir", options.output, "--run_name", name.replace(" ", "_").replace(",", "")),
        *("--max_time", f"00:00:{seconds // 60:02d}:{seconds % 60:02d}", *options.flags, *flags),
    ]
    start = time.perf_counter()
    result = train(parse_arguments(given)[0])
    values, spent = result.validation, time.perf_counter() - start
    line = f"| {name} | {spent / 60:.1f} | {values['validation/mean_error_px']:.2f} | "
    line += f"{values['validation/map']:.3f} |"
    print(line, file=sys.stderr)
    return line


def main(argv: list[str]) -> None:
    """Train in full, on a random frozen encoder, and on one that has learned other keypoints."""
    own, flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", help="COCO file to train on")
    parser.add_argument("validation", help="COCO file to score on")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the full trainings; frozen: a tenth")
    parser.add_argument("--views", type=int, default=8, help="augmented views of each image")
    parser.add_argument("--learned", default="", help="channels that an encoder learns first")
    parser.add_argument("--new", default="", help="other channels, for a head on that encoder")
    parser.add_argument("--output", default="runs/frozen", help="folder of the runs")
    options = parser.parse_args(own)
    options.flags = flags
    Path(options.output).mkdir(parents=True, exist_ok=True)
    kept, tenth = ["--frozen_features", str(options.views), *LIGHT], options.minutes / 10
    rows = ["| training | minutes | mean error, px | AP |", "|---|---|---|---|"]
    rows.append(row("full", options, options.minutes, []))
    rows.append(row("full, light decoder", options, options.minutes, LIGHT))
    rows.append(row("random encoder frozen, a tenth", options, tenth, kept))
    rows.append(row("random encoder frozen", options, options.minutes, kept))
    if options.learned and options.new:
        learned, new = (
            ["--keypoint_channel_configuration", names] for names in (options.learned, options.new)
        )
        rows.append(row("learned channels", options, options.minutes, [*LIGHT, *learned]))
        rows.append(row("new channels, full", options, options.minutes, [*LIGHT, *new]))
        start = Path(options.output) / "learned_channels" / "checkpoints" / "last.ckpt"
        from_it = [*kept, *new, "--init_weights", str(start)]
        rows.append(row("new channels, learned encoder frozen, a tenth", options, tenth, from_it))
    print("\n".join(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
