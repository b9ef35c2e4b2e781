"""Kill a training at random moments, resume it each time, and compare its end, bit for bit.

python scripts/kill_test.py --kills 20
"""

import argparse
import sys
import tempfile
from pathlib import Path

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.kill_test import KillTest, different_parts

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"


def main() -> int:
    """Print a table of the kills and the verdict; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often the training is killed")
    parser.add_argument("--epochs", type=int, default=60, help="length of the training")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = make_dataset("boxes", Path(folder) / "images", 24, (64, 64), seed=5)
        test = KillTest(flags(images, given), Path(folder) / "runs", given.seed)
        whole = test.whole()
        print(f"left alone: {whole['global_step']} steps in {test.duration_s:.1f} s\n")
        print("| kill | after, s | checkpoint of step | while writing one |")
        print("|---|---|---|---|")
        for number, kill in enumerate(test.kills(given.kills), start=1):
            step, writing = (
                kill.step if kill.step is not None else "none",
                "yes" if kill.in_checkpoint else "",
            )
            print(f"| {number} | {kill.after_s:.2f} | {step} | {writing} |", flush=True)
        found = different_parts(test.finish(), whole)
    print(
        f"\n{'different: ' + ', '.join(found[:10]) if found else 'weights, optimiser, schedule: identical'}"
    )
    return 1 if found else 0


def flags(images: Path, given: argparse.Namespace) -> list[str]:
    """Return the flags of a small training in which everything moves."""
    text = f"--max_epochs {given.epochs} --num_workers {given.workers} --batch_size 4 --n_channels 8 "
    text += "--augment_train --heatmap_sigma 3 --variable_heatmap_sigma 1 --ema_decay 0.99 --accelerator cpu "
    text += "--deterministic --enable_progress_bar false --check_val_every_n_epoch 2 --log_every_n_steps 1"
    paths = ["--json_dataset_path", str(images), "--checkpoint_every", "3 steps"]
    return [*text.split(), *paths, "--keypoint_channel_configuration", CHANNELS]


if __name__ == "__main__":
    sys.exit(main())
