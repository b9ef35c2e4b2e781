"""Ids of a COCO file as whole numbers: kept where they are, made where they are not."""

from typing import Any

from keypoint_detection.data.formats.json_fields import shorten
from keypoint_detection.data.formats.tally import Tally

_LONGEST = 18  # digits: an id of more is a text that happens to consist of digits


def as_integer(value: Any) -> int | None:
    """Return a whole number, also one that is written as 3.0 or "3"; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        text = value.strip()
        is_number = text.isascii() and text.removeprefix("-").isdigit() and len(text) <= _LONGEST
        return int(text) if is_number else None
    return value if isinstance(value, int) else None


class Identities:
    """Give every entry of a list a whole number as its id, and find that number by how others refer to it.

    Attributes:
        own: The id of every entry, in their order.
    """

    def __init__(
        self, entries: list[dict[str, Any]], kind: str, tally: Tally, *, unique: bool = False
    ) -> None:
        """Number the entries.

        Args:
            entries: What has the ids.
            kind: What one of them is called, for the notes.
            tally: Takes the notes.
            unique: A number that occurs a second time is replaced, too; nothing may refer to these entries.
        """
        given = [as_integer(entry.get("id")) for entry in entries]
        self._by_text: dict[str, int] = {}
        self.own: list[int] = []
        taken: set[int] = set()
        free = max((number for number in given if number is not None), default=0) + 1
        for entry, read in zip(entries, given, strict=True):
            raw, number = entry.get("id"), read
            if number is None or (unique and number in taken):
                number, free = free, free + 1
                tally.add(
                    f"{kind} ids that are missing or no numbers or occur twice", f"{shorten(raw)} is {number}"
                )
            elif not isinstance(raw, int):
                tally.add(f"{kind} ids that are written as text or fraction", f"{shorten(raw)} is {number}")
            taken.add(number)
            self.own.append(number)
            if isinstance(raw, str):
                self._by_text.setdefault(raw, number)
        self._taken = taken

    def find(self, reference: Any) -> int | None:
        """Return the id that a reference means; None if there is no such entry."""
        if isinstance(reference, str) and reference in self._by_text:
            return self._by_text[reference]
        number = as_integer(reference)
        return number if number in self._taken else None
