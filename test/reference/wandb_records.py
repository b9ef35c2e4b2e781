"""Read what an offline run of wandb keeps: a log of protobuf records, in the block format of LevelDB."""

import json
import struct
from pathlib import Path
from typing import Any

BLOCK = 32768
FILE_HEADER, RECORD_HEADER = 7, 7
FULL, FIRST = 1, 2


def records(path: Path) -> list[Any]:
    """Return the records of a `run-*.wandb` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, found, parts = path.read_bytes(), FILE_HEADER, [], b""
    while place + RECORD_HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < RECORD_HEADER:  # the rest of a block is padding
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + RECORD_HEADER])
        start = place + RECORD_HEADER
        parts = (b"" if kind in (FULL, FIRST) else parts) + content[start : start + length]
        place = start + length
        if kind in (FULL, 4):
            record = Record()
            record.ParseFromString(parts)
            found.append(record)
    return found


def history(path: Path) -> dict[str, list[Any]]:
    """Return every logged value by name, in order."""
    values: dict[str, list[Any]] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                name = item.key or ".".join(item.nested_key)
                values.setdefault(name, []).append(json.loads(item.value_json))
    return values
