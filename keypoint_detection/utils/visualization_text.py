"""Spell any text with the letters that OpenCV can draw: it has ASCII only, and takes no font file."""

import re
import unicodedata
from functools import lru_cache

_CYRILLIC = dict(
    zip(
        "абвгдежзийклмнопрстуфхцчшщъыьэюя",
        re.split(" ", "a b v g d e zh z i y k l m n o p r s t u f kh ts ch sh shch  y  e yu ya"),
        strict=True,
    )
)
_SIGNS = {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x"}


@lru_cache(maxsize=4096)
def ascii_text(text: str) -> str:
    """Return a text in printable ASCII letters that a reader still recognises.

    Accents are left out (`é` is `e`), other alphabets are spelled (`нос` is `nos`, `α` is `alpha`,
    `か` is `ka`), and a sign without a spelling, such as a Chinese character, by its code (`u+5de6`).
    """
    spelled = "".join(_spell(letter) for letter in unicodedata.normalize("NFC", text))
    return " ".join(spelled.split())


def shortened(text: str, length: int) -> str:
    """Return at most `length` letters of a text, with two dots where the rest is left out."""
    return text if len(text) <= length else text[: max(length - 2, 1)] + ".."


def _spell(letter: str) -> str:
    if letter.isascii():
        return letter if letter.isprintable() else " "
    if letter.lower() in _CYRILLIC:
        spelled = _CYRILLIC[letter.lower()]
        return spelled if letter.islower() else spelled.capitalize()
    return _SIGNS.get(letter) or _plain(letter) or _named(letter) or f"u+{ord(letter):04x}"


def _plain(letter: str) -> str:
    """Return what is left of a letter without its accents, if that is ASCII: `ß` is `ss`, `é` is `e`."""
    if letter == "ß":
        return "ss"
    parts = unicodedata.normalize("NFKD", letter)
    kept = "".join(part for part in parts if not unicodedata.combining(part))
    return kept if kept.isascii() and kept.isprintable() else ""


def _named(letter: str) -> str | None:
    """Return the last word of a letter's name in Unicode: `GREEK SMALL LETTER ALPHA` is `alpha`."""
    name = unicodedata.name(letter, "")
    found = re.search(r"(?:LETTER|SYLLABLE|LIGATURE)(?: [A-Z]+)*? ([A-Z]+)(?: WITH .*)?$", name)
    if found is None:
        return None
    word = found.group(1)
    return word if "CAPITAL" in name and len(word) == 1 else word.lower()
