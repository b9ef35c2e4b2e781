"""Start from the weights of a file: read them, find the names under which they fit, load what fits."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

NESTS = ("state_dict", "model_state_dict", "model", "module", "teacher")
"""Keys under which checkpoints keep their weights, in the order in which they are looked for."""

_PARTS = ("backbone", "encoder", "model", "net")
"""Names of the modules of a detector that weights of a part of it may be for."""

_DEEPEST_PREFIX = 3

_SHOWN_NAMES = 8

# What the readers raise, by the first bytes of a file that they were not made for.
_UNREADABLE = (
    *(zipfile.BadZipFile, struct.error, EOFError, RuntimeError, AssertionError, OSError),
    *(ValueError, TypeError, AttributeError, LookupError, pickle.UnpicklingError),
)


@dataclass(frozen=True)
class WeightsMatch:
    """Hold which weights of a file fit where.

    Attributes:
        loaded: Name in the network -> name in the file.
        mismatched: (name, its shape in the network, its shape in the file) where the shapes differ.
        missing: Names in the network that the file has nothing for.
        unused: Names in the file that the network has no place for.
        path: The file; empty if the weights came from elsewhere.
    """

    loaded: dict[str, str]
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    missing: list[str]
    unused: list[str]
    path: str = ""


def init_weights(module: nn.Module, path: str | Path) -> WeightsMatch:
    """Copy all weights of a file that fit into a network, and leave the rest of it as it is.

    Args:
        module: The network, or a part of one; it keeps its number types and its device.
        path: See `read_weights`.

    Returns:
        What was loaded and what was not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no weights, or none that fit but biases and norms.
    """
    source, target = read_weights(path), module.state_dict()
    match = replace(match_weights(source, target), path=str(path))
    # Some biases and norms fit any network of the same width; they alone are worth nothing.
    if not any(target[name].ndim > 1 for name in match.loaded):
        there, here = _example(source), _example(target)
        raise ValueError(
            f"{path}: no weight among its {len(source)} tensors fits; it has for example {there}, this "
            f"network {here}; give weights of the same architecture"
        )
    module.load_state_dict({name: source[found] for name, found in match.loaded.items()}, strict=False)
    return match


def _example(tensors: Mapping[str, Tensor]) -> str:
    """Return name and shape of the first weight, for an error message."""
    name = next((name for name, tensor in tensors.items() if tensor.ndim > 1), next(iter(tensors), ""))
    return f"{name} {list(tensors[name].shape)}" if name else "no tensor"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a file of weights without running code from it.

    Args:
        path: A `.safetensors` file, or a file that torch.save wrote (`.ckpt`, `.pt`, `.pth`, `.bin`): a
            checkpoint or a state dict, also of a network wrapped by DataParallel or torch.compile.

    Returns:
        Name -> tensor on the CPU, without the prefixes of wrappers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, is refused because it holds code, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file of weights at {path}: expected .ckpt, .pt, .pth, .bin, .safetensors"
        )
    if path.suffix == ".npz":
        raise ValueError(
            f"{path} holds NumPy arrays in another framework's layout; give a ViT's with --pretrained_dir"
        )
    content = _safetensors_content(path) if path.suffix == ".safetensors" else _torch_content(path)
    tensors = _unwrapped(content)
    if not tensors:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path} holds no tensors, only: {keys[:200] or 'nothing'}; expected a state dict, alone or "
            f"under one of {', '.join(NESTS)}"
        )
    return tensors


def _safetensors_content(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not a readable .safetensors file: {reason}; get it again") from None


def _torch_content(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other protocols; an error says more
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        refused = (
            re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        )
        if refused:
            raise ValueError(
                f"{path} holds code ({refused[1]}), refused by torch.load(weights_only=True); if you trust "
                "it, load it once with weights_only=False and torch.save only its state dict"
            ) from None
        raise ValueError(
            f"{path} is not a readable file of weights: expected one that torch.save wrote, or .safetensors"
        ) from None


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names that they had before wrappers added theirs."""
    while isinstance(content, dict):
        nest = next((key for key in NESTS if isinstance(content.get(key), dict)), None)
        if nest is None:
            break
        content = content[nest]
    items = content.items() if isinstance(content, dict) else ()
    tensors = {str(name): tensor.detach() for name, tensor in items if isinstance(tensor, Tensor)}
    # torch.compile puts its name where it wrapped, DataParallel in front of everything.
    tensors = {re.sub(r"(^|\.)_orig_mod\.", r"\1", name): tensor for name, tensor in tensors.items()}
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def match_weights(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> WeightsMatch:
    """Find where weights fit: under their own names, or with another prefix.

    Tried is every prefix of the names in the file, up to three parts long, in exchange for every prefix under
    which the network keeps a part; the pair that loads the most numbers wins, then the shortest. After the
    prefix, timm's features-only networks join the first two parts of a name (`stages_0.blocks` for
    `stages.0.blocks`): both spellings are the same name here.

    Args:
        source: Weights to load, by name.
        target: State dict of the network.

    Returns:
        The match; position embeddings of another size are mismatched, as every other shape.
    """
    pairs: dict[str, str] = {}
    most = 0
    prefixes = _prefixes(source)
    edits = [
        (old, new) for old in prefixes for new in _prefixes(target) if set(new.split(".")) <= {*_PARTS, ""}
    ]
    for old, new in sorted(edits, key=lambda edit: len(edit[0]) + len(edit[1])):
        candidate = _paired(prefixes[old], old, _by_rest(target, new))
        fitting = (name for name, found in candidate.items() if target[name].shape == source[found].shape)
        n_numbers = sum(target[name].numel() for name in fitting)
        if n_numbers > most or not pairs:
            pairs, most = candidate, n_numbers
    return _as_match(pairs, source, target)


def _as_match(
    pairs: Mapping[str, str], source: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> WeightsMatch:
    shapes = {name: (tuple(target[name].shape), tuple(source[found].shape)) for name, found in pairs.items()}
    used = set(pairs.values())
    return WeightsMatch(
        loaded={name: pairs[name] for name in target if name in pairs and len(set(shapes[name])) == 1},
        mismatched=[
            (name, *shapes[name]) for name in target if name in pairs and len(set(shapes[name])) == 2
        ],
        missing=[name for name in target if name not in pairs],
        unused=[name for name in source if name not in used],
    )


def _prefixes(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that begin with each prefix of up to three parts, such as `""` and `"backbone."`."""
    found: dict[str, list[str]] = {"": []}
    for name in names:
        parts = name.split(".")[:-1][:_DEEPEST_PREFIX]
        for length in range(len(parts) + 1):
            found.setdefault("".join(f"{part}." for part in parts[:length]), []).append(name)
    return found


def _by_rest(target: Iterable[str], prefix: str) -> dict[str, str]:
    """Return the names with a prefix by what follows it, in both spellings; the one as it stands wins."""
    exact = {name.removeprefix(prefix): name for name in target if name.startswith(prefix)}
    return {_joined(rest): name for rest, name in exact.items()} | exact


def _paired(names: Iterable[str], prefix: str, target: Mapping[str, str]) -> dict[str, str]:
    """Return name in the network -> name in the file, for names with a prefix."""
    pairs: dict[str, str] = {}
    for name in names:
        rest = name.removeprefix(prefix)
        found = target.get(rest) or target.get(_joined(rest))
        if found:
            pairs.setdefault(found, name)
    return pairs


def _joined(name: str) -> str:
    """Return `stages_0.blocks` for `stages.0.blocks`, as timm writes it."""
    return name.replace(".", "_", 1)


def describe(match: WeightsMatch) -> list[str]:
    """Return what was loaded and what was not, and why, as lines for a log."""
    n_tensors = len(match.loaded) + len(match.mismatched) + len(match.missing)
    source = f" from {match.path}" if match.path else ""
    lines = [f"init_weights: {len(match.loaded)} of {n_tensors} tensors{source}"]
    differ = [
        f"{name} {list(here)} here, {list(there)} in the file" for name, here, there in match.mismatched
    ]
    why = {
        "shape differs": differ,
        "not in the file": match.missing,
        "in the file but not here": match.unused,
    }
    separators = {"shape differs": "; "}
    for reason, names in why.items():
        if names:
            more = [f"and {len(names) - _SHOWN_NAMES} more"] if len(names) > _SHOWN_NAMES else []
            lines.append(f"{reason}: {separators.get(reason, ', ').join(names[:_SHOWN_NAMES] + more)}")
    return lines
