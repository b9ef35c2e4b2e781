"""The file `run.json` of a run: everything that it takes to repeat it, and what came out."""

import json
import math
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from keypoint_detection.files import write_json
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.data_fingerprint import data_fingerprint, file_sha256

RECORD_FILE = "run.json"
FORMAT, VERSION = "keypoint_detection run", 1

LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "numpy", "scipy")


def begin_record(config: TrainConfig, folder: Path) -> None:
    """Write the record of a run that begins, or of one that goes on in its folder."""
    began = {"time": _now(), "command": sys.argv, "folder": str(Path.cwd()), "ckpt_path": config.ckpt_path}
    earlier = _earlier_part(folder) if config.ckpt_path else {}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "parts": [*earlier.get("parts", []), began],
        "ended": None,
        "config": config.model_dump(mode="json"),
        "data": data_fingerprint(config),
        "started_from": earlier.get("started_from", _started_from(config)),
        "seeds": {"seed": config.seed, "deterministic": config.deterministic},
        "environment": environment(),
    }
    write_json(folder / RECORD_FILE, content)


def finish_record(
    folder: Path, *, steps: int, epochs: int, scores: Mapping[str, Mapping[str, float]]
) -> None:
    """Add how far the run went and its scores.

    Args:
        folder: Of the run.
        steps: Steps of the optimiser in all parts of the run.
        epochs: Epochs that were finished.
        scores: Numbers by stage, `validation` and `test`, and by name; NaN becomes null.
    """
    content = read_record(folder)
    plain = {stage: {name: _number(value) for name, value in by.items()} for stage, by in scores.items()}
    write_json(
        folder / RECORD_FILE,
        {**content, "ended": _now(), "steps": steps, "epochs": epochs, "scores": plain},
    )


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a run.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is broken or of another version; one line.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: expected the folder of a run with {RECORD_FILE}, found no such file; runs before it"
            " was introduced can be trained again with train --config"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        if not all(isinstance(content[name], dict) for name in ("config", "data", "environment")):
            raise TypeError("config, data or environment is no mapping")
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the record of a run, got something else ({' '.join(str(error).split())})"
        ) from None
    return content


def environment() -> dict[str, Any]:
    """Return versions, machine and revision of the working folder: what may differ when a run is repeated."""
    import cv2
    import torch

    from keypoint_detection import __version__

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    versions = {name: _version(name) for name in LIBRARIES}
    return {
        "versions": {
            "python": platform.python_version(),
            "keypoint_detection": __version__,
            "opencv": cv2.__version__,
            "cuda": torch.version.cuda,
            **versions,
        },
        "hardware": {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "gpus": gpus},
        "git": git_revision(Path.cwd()),
    }


def git_revision(folder: Path) -> dict[str, Any] | None:
    """Return the revision of a folder under git, and whether files differ from it; None without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "changed_files": len(changed.splitlines())}
    except (OSError, subprocess.SubprocessError):
        return None


def _earlier_part(folder: Path) -> dict[str, Any]:
    """Return the record of the part of this run that is resumed; nothing where it has none."""
    try:
        return read_record(folder)
    except (FileNotFoundError, ValueError):
        return {}


def _started_from(config: TrainConfig) -> dict[str, dict[str, str]]:
    """Return the files of weights that a run begins with."""
    paths = {"init_weights": config.init_weights, "ckpt_path": config.ckpt_path}
    return {
        name: {"path": str(Path(path).absolute()), "sha256": file_sha256(path)}
        for name, path in paths.items()
        if path and Path(path).is_file()
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
