"""Channels: which keypoint names share a heatmap, and which names change places when an image is mirrored."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keypoint_detection.registry import nearest_name

Channels = list[list[str]]

_FLAG = "keypoint_channel_configuration"
_SYNTAX = "expected channels such as 'stem; leaf0 = leaf1'"
_SEPARATORS = re.compile(r"[;:]")

# The first words only contain a side; they are matched first, so that their "right" or "left" is not found.
_SIDE_WORD = re.compile(r"upright|outright|bright|fright|cleft|(left|right)", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
# A lone letter, or one beside front, hind, back, top or bottom: "l", "R", "FL", "rh".
_SIDE_LETTERS = re.compile(r"[fhbt]?[lr]|[lr][fhbt]", re.IGNORECASE)
_OTHER_LETTER = str.maketrans("lrLR", "rlRL")


@dataclass(frozen=True)
class MirrorMap:
    """Say how keypoint names change when an image is mirrored.

    Attributes:
        swap: Every name to its name after the mirror; a name without a side stays itself. Applied twice it is
            the identity.
        unpaired: Names that break a pair: they say left or right but the other side is missing, or they were
            declared in a pair but do not exist. While there are any, images cannot be mirrored.
    """

    swap: dict[str, str]
    unpaired: list[str]


def parse_channels(
    configuration: str | Sequence[Sequence[str] | str] | None, available_names: Sequence[str]
) -> Channels:
    """Return the keypoint names of each channel.

    Args:
        configuration: `"stem; leaf0 = leaf1"` (channels split by `;` or `:`, names by `=`), a list of lists
            of names (also written as JSON or YAML text), or None for one channel per name. Names may hold
            spaces, and in a list of lists also `;`, `:` and `=`. A name may feed several channels.
        available_names: The keypoint names of the COCO file.

    Raises:
        ValueError: Nothing is configured, a channel is empty or given twice, a name is unknown or twice in a
            channel.
    """
    if not available_names:
        raise ValueError(f"{_FLAG}: expected a data set with keypoint names, got one without any")
    if configuration is None:
        return [[name] for name in available_names]
    channels = [_strip_names(channel) for channel in _split_channels(configuration)]
    if not channels:
        raise ValueError(
            f"{_FLAG}: {_SYNTAX}, got an empty one; leave it out for one channel per keypoint "
            f"({', '.join(available_names)})"
        )
    for index, channel in enumerate(channels):
        _check_channel(index, channel, available_names)
    labels = [channel_name(channel) for channel in channels]
    repeated = _first_repeated(labels)
    if repeated is not None:
        raise ValueError(f"{_FLAG}: expected channels that differ, got {repeated!r} twice")
    return channels


def format_channels(channels: Channels) -> str:
    """Return what `parse_channels` reads back: `"stem; leaf0 = leaf1"`, or JSON where a name needs it."""
    text = "; ".join(" = ".join(channel) for channel in channels)
    plain = not text.startswith("[") and all(
        name == name.strip() and not re.search("[;:=]", name) for channel in channels for name in channel
    )
    return text if plain else json.dumps(channels, ensure_ascii=False)


def channel_name(channel: Sequence[str]) -> str:
    """Return the label of a channel in metrics and files, such as `"leaf0=leaf1"`."""
    return "=".join(channel)


def mirror_names(names: Sequence[str], pairs: Iterable[Sequence[str]] | None) -> MirrorMap:
    """Find which names change places in a mirror.

    Without `pairs` they are found from the names: the words left and right in any case and place (`leftear`,
    `Right Eye`, `kneeLeft`), and the letters l and r where they stand alone (`l_eye`, `eye.R`, `LEye`, `R1`)
    or with one of front, hind, back, top, bottom (`FL_paw`), the letters only where both names exist.

    Args:
        names: Keypoint names of the data set.
        pairs: Declared `(left, right)` names that replace everything found from the names; an empty list
            declares that no name has a side.

    Raises:
        ValueError: A declared pair does not have two names, or a name is in two pairs.
    """
    if pairs is not None:
        return _declared_mirror(names, pairs)
    swap: dict[str, str] = {}
    candidates = {name: _mirrored_spellings(name) for name in names}
    # All sides of a name at once, for every name first; one side of several only for the names left over.
    for chosen in (slice(0, 1), slice(1, None)):
        for name in names:
            free = [other for other in candidates[name][chosen] if other in candidates and other not in swap]
            if name not in swap and free:
                swap[name], swap[free[0]] = free[0], name
    unpaired = [name for name in names if name not in swap and _word_spans(name)]
    return MirrorMap({name: swap.get(name, name) for name in names}, unpaired)


def _split_channels(configuration: Any) -> list[list[Any]]:
    if isinstance(configuration, str):
        text = configuration.strip()
        if text.startswith("["):
            return _split_channels(_load_list(text))
        return [channel.split("=") for channel in _SEPARATORS.split(text)] if text else []
    if not isinstance(configuration, list | tuple):
        raise ValueError(f"{_FLAG}: {_SYNTAX} or a list of lists of names, got {configuration!r}")
    return [
        channel.split("=") if isinstance(channel, str) else _as_list(channel) for channel in configuration
    ]


def _load_list(text: str) -> list[Any]:
    import yaml

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return yaml.load(
            text, Loader=yaml.BaseLoader
        )  # the base loader keeps every name text, also "on" and "1"
    except yaml.YAMLError:
        raise ValueError(f"{_FLAG}: expected a list of lists of names, got {text!r}") from None


def _as_list(channel: Any) -> list[Any]:
    if not isinstance(channel, list | tuple):
        raise ValueError(f"{_FLAG}: expected a channel as a list of names, got {channel!r}")
    return list(channel)


def _strip_names(channel: list[Any]) -> list[str]:
    for name in channel:
        # YAML reads a keypoint called 1 as a number
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise ValueError(f"{_FLAG}: expected keypoint names, got {name!r}")
    return [str(name).strip() for name in channel]


def _check_channel(index: int, channel: list[str], available_names: Sequence[str]) -> None:
    if not any(channel):
        raise ValueError(f"{_FLAG}: {_SYNTAX}, got nothing for channel {index + 1}")
    if not all(channel):
        raise ValueError(
            f"{_FLAG}: {_SYNTAX}, got an empty name in channel {index + 1} ({' = '.join(channel)})"
        )
    repeated = _first_repeated(channel)
    if repeated is not None:
        raise ValueError(f"{_FLAG}: expected a name once in channel {index + 1}, got {repeated!r} twice")
    for name in channel:
        if name not in available_names:
            raise ValueError(
                f"{_FLAG}: expected keypoint names of the data set ({', '.join(available_names)}), "
                f"got {name!r}.{nearest_name(name, available_names)}"
            )


def _first_repeated(names: Sequence[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def _declared_mirror(names: Sequence[str], pairs: Iterable[Sequence[str]]) -> MirrorMap:
    partners: dict[str, str] = {}
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"expected mirror pairs of two keypoint names, got {pair!r}")
        for name, other in (pair, pair[::-1]):
            if partners.setdefault(name, other) != other:
                raise ValueError(
                    f"expected a keypoint name in one mirror pair at most, got {name!r} with "
                    f"{partners[name]!r} and with {other!r}"
                )
    known = set(names)
    swap = {name: partners[name] if partners.get(name) in known else name for name in names}
    return MirrorMap(swap, [name for name in partners if name not in known])


def _word_spans(name: str) -> list[tuple[int, int]]:
    return [match.span(1) for match in _SIDE_WORD.finditer(name) if match[1]]


def _letter_spans(name: str) -> list[tuple[int, int]]:
    return [token.span() for token in _TOKEN.finditer(name) if _SIDE_LETTERS.fullmatch(token[0])]


def _mirrored_spellings(name: str) -> list[str]:
    """Return spellings of a name in the mirror, best first: all its sides turned, the words, each alone."""
    words, letters = _word_spans(name), _letter_spans(name)
    choices = [words + letters, words, letters, *([span] for span in words + letters)]
    return list(dict.fromkeys(_turn(name, spans) for spans in choices if spans))


def _turn(name: str, spans: list[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):  # from the end, so that earlier positions stay right
        name = name[:start] + _opposite(name[start:end]) + name[end:]
    return name


def _opposite(side: str) -> str:
    words = {"left": "right", "right": "left"}
    if side.lower() not in words:
        return side.translate(_OTHER_LETTER)
    other = words[side.lower()]
    return other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other


def channel_skeleton(channels: Channels, skeleton: Iterable[Sequence[str]]) -> list[tuple[int, int]]:
    """Return the lines of a skeleton as pairs of channels.

    Args:
        channels: Keypoint names per channel.
        skeleton: Pairs of keypoint names; a line is left out unless each end has a channel of its own.
    """
    alone = {channel[0]: index for index, channel in enumerate(channels) if len(channel) == 1}
    return [(alone[a], alone[b]) for a, b in skeleton if a in alone and b in alone]
