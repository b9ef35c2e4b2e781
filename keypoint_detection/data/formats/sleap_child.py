"""The process that opens `.slp` files for `sleap`: `python -m ... FILE [FOLDER]`, the answer on stdout.

With FILE alone the first line is `{"image_paths", "notes"}`, and the COCO file follows. With FOLDER the names
of the images to extract come on stdin, as a JSON list, and the line is `{"count"}`. What is wrong with the
file is the line `{"error", "is_missing"}`.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from keypoint_detection.data.formats.sleap_labels import extract_frames, read_labels


def main(arguments: Sequence[str]) -> int:
    """Answer one request on stdout; whatever libraries print goes to stderr."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _leave_no_core_file()
    path, body = Path(arguments[0]), b""
    try:
        if len(arguments) > 1:
            header = {"count": extract_frames(path, Path(arguments[1]), json.load(sys.stdin))}
        else:
            conversion = read_labels(path)
            paths = {identity: os.fspath(file) for identity, file in conversion.image_paths.items()}
            header = {"image_paths": paths, "notes": conversion.notes}
            body = conversion.coco.model_dump_json(exclude_unset=True).encode()
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        header = {"error": message, "is_missing": isinstance(error, FileNotFoundError)}
    with answer:
        answer.write(json.dumps(header).encode() + b"\n")
        answer.write(body)
    return 0


def _leave_no_core_file() -> None:
    try:
        import resource  # not on Windows, which leaves none
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
