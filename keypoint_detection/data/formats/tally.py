"""Count what a reader or a writer corrected or left out: one note per kind, with the first places."""

from collections.abc import Mapping

_SHOWN = 5


def count_notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return one note for every text with a count above zero; `{n}` in the text is the count."""
    return tuple(text.replace("{n}", str(count)) for text, count in counts.items() if count)


class Tally:
    """Collect places by what happened there, and say each kind in one line."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}

    def add(self, text: str, place: str) -> None:
        """Count one more of a kind; `text` is the kind in words, `place` says where and what."""
        self._counts[text] = self._counts.get(text, 0) + 1
        places = self._places.setdefault(text, [])
        if len(places) < _SHOWN:
            places.append(place)

    def notes(self) -> tuple[str, ...]:
        """Return one line per kind: the text, how many there are, and the first places."""
        lines: list[str] = []
        for text, count in self._counts.items():
            shown = "; ".join(self._places[text])
            lines.append(" ".join(f"{text}: {count} ({shown}{'; ...' if count > _SHOWN else ''})".split()))
        return tuple(lines)
