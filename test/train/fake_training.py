"""Stand in for a training in tests of a sweep: take its flags, and leave a finished record at once.

The score is the learning rate; one above 0.5 fails, and a batch size of 3 never ends.
"""

import json
import sys
import time
from pathlib import Path

values = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
folder = Path(values["default_root_dir"]) / values["run_name"]
with (folder / "calls.txt").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\n")
rate = float(values.get("learning_rate", "0.001"))
if rate > 0.5:
    print("some log line\nerror: out of memory in the fake")
    sys.exit(1)
if values.get("batch_size") == "3" and not (folder.parent / "go_on").exists():
    (folder / "waits").touch()
    time.sleep(600)
scores = {"validation": {"checkpoint/validation_map": rate}}
record = {"format": "keypoint_detection run", "version": 1, "ended": "now", "scores": scores}
(folder / "run.json").write_text(json.dumps({**record, "config": {}, "data": {}, "environment": {}}))
