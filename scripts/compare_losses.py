"""Train every loss on the same data for the same time with several seeds; print a Markdown table.

`python scripts/compare_losses.py train.json val.json --max_time 00:00:05:00 --seeds 3 -- --augment_train`;
what follows `--` is passed to every training.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

from keypoint_detection.models.losses import LOSSES
from keypoint_detection.train.cli import parse_arguments
from keypoint_detection.train.train import train


def scores_of(
    loss: str, ohkm: int, seed: int, options: argparse.Namespace, flags: list[str]
) -> tuple[float, float]:
    """Return the mean error in pixels and the AP of one training, with its last weights."""
    given = [
        *("--json_dataset_path", options.train, "--json_validation_dataset_path", options.validation),
        *("--loss_function", loss, "--ohkm", str(ohkm), "--seed", str(seed)),
        *("--default_root_dir", options.output, "--run_name", f"{loss}-{ohkm}-{seed}"),
        *(("--max_time", options.max_time) if options.max_time else ()),
        *flags,
    ]
    values = train(parse_arguments(given)[0]).validation
    return values["validation/mean_error_px"], values["validation/map"]


def summary(values: list[float], digits: int) -> str:
    """Return mean and standard deviation over the seeds."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "none"
    spread = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.mean(known):.{digits}f} ± {spread:.{digits}f}"


def main(argv: list[str]) -> None:
    """Print one row per loss, as soon as it is known."""
    own, flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", help="COCO file to train on")
    parser.add_argument("validation", help="COCO file to score on")
    parser.add_argument("--losses", nargs="+", default=LOSSES.names(), choices=LOSSES.names())
    parser.add_argument("--ohkm", type=int, nargs="+", default=[0], help="numbers of hard channels, 0 = all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max_time", default="", help="time of each training, DD:HH:MM:SS")
    parser.add_argument("--output", default="runs/losses", help="folder of the runs")
    options = parser.parse_args(own)
    Path(options.output).mkdir(parents=True, exist_ok=True)
    rows = [f"| loss | mean error, px ({options.seeds} seeds) | AP |", "|---|---|---|"]
    for loss in options.losses:
        for ohkm in options.ohkm:
            found = [scores_of(loss, ohkm, seed, options, flags) for seed in range(options.seeds)]
            errors, precisions = (list(column) for column in zip(*found, strict=True))
            name = f"{loss}, {ohkm} hardest" if ohkm else loss
            rows.append(f"| {name} | {summary(errors, 2)} | {summary(precisions, 3)} |")
            print(rows[-1], file=sys.stderr)
    print("\n".join(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
