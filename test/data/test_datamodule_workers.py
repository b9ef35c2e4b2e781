import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from keypoint_detection.data.datamodule import KeypointsDataModule
options = {"batch_size": 2, "num_workers": 2, "validation_split_ratio": 0}
loader = KeypointsDataModule(json_dataset_path=sys.argv[1], **options).train_dataloader()
batches = iter(loader)
print(next(batches)["image"].shape[0])
if sys.argv[2] == "fail":
    raise SystemExit(3)
"""


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("fail", 3)])
def test_python_ends_in_the_middle_of_an_epoch(ten_images: Path, how: str, code: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(ten_images), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "2\n")
