"""Colours that people with a colour vision deficiency can tell apart, for any number of channels."""

# Okabe and Ito's colours without black, ordered so that neighbours differ most.
BASE_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")

# Each further round of the colours is lighter or darker.
_ROUNDS = ((255, 0.0), (255, 0.5), (0, 0.4))

Rgb = tuple[int, int, int]


def palette(count: int) -> list[str]:
    """Return `count` colours `#rrggbb` that people with a colour vision deficiency can tell apart.

    The first 7 are Okabe and Ito's; then come their tints, then their shades, then the same again: beyond 21
    the shape or the name of a point has to tell it apart.

    Source: Okabe & Ito, "Color Universal Design" (2008).
    """
    return [_mix(BASE_COLOURS[index % 7], *_ROUNDS[index // 7 % len(_ROUNDS)]) for index in range(count)]


def channel_colors(n_channels: int) -> list[Rgb]:
    """Return the colours of `palette` as RGB, 0 to 255 each."""
    return [_rgb(colour) for colour in palette(n_channels)]


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _mix(colour: str, towards: int, share: float) -> str:
    return "#" + "".join(f"{round(part + (towards - part) * share):02x}" for part in _rgb(colour))
