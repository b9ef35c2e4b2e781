"""Start a training in two processes that talk through gloo, as torchrun or Lightning itself starts it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAIN = ["-m", "keypoint_detection", "train"]


def start(arguments: list[str], *, torchrun: bool, program: list[str] | None = None) -> subprocess.Popen[str]:
    """Start a program, by default the training, in two processes by torchrun; without it, in one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    return subprocess.Popen(
        [sys.executable, *(launcher if torchrun else []), *(program or TRAIN), *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Return what a process printed; one that does not end in time is killed, and fails the test."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return output


def children(pid: int) -> list[int]:
    """Return the ids of the training processes that a process has started, in order."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    rows = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    return sorted(int(number) for number, command in rows if "keypoint_detection" in command)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
