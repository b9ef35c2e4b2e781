"""Print the speed of targets, decoding, AP, loader and training step, as ratios to named references.

Run it from a clone, on an idle machine: python scripts/benchmark.py [--threads 2]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from keypoint_detection import benchmark
from keypoint_detection.data.synthetic import make_dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "test"))
from reference.average_precision import average_precision


def main() -> None:
    """Run the parts that are asked for, in order, one process at a time."""
    parts = ("targets", "decoding", "ap", "loader", "step")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts to run (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians")
    print(f"{'what | reference':58}{'ours':>11} {'reference':>11} {'ratio':>9}  wanted")
    with tempfile.TemporaryDirectory() as folder:
        large = (
            make_dataset("boxes", Path(folder) / "large", 64, (512, 512)) if "loader" in args.only else Path()
        )
        small = (
            make_dataset("boxes", Path(folder) / "small", 4, (256, 256)) if "step" in args.only else Path()
        )
        rows = {
            "targets": benchmark.time_targets,
            "decoding": benchmark.time_decoding,
            "ap": lambda: benchmark.time_average_precision(average_precision),
            "loader": lambda: benchmark.time_loader(large),
            "step": lambda: benchmark.time_training_step(small),
        }
        for part in args.only:
            for row in rows[part]():
                print(row, flush=True)


if __name__ == "__main__":
    main()
