import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.utils.visualization_text import ascii_text, shortened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("left_ear (tip)", "left_ear (tip)"),
        ("n\u00e9z", "nez"),
        ("Gr\u00f6\u00dfe", "Grosse"),
        ("\u0141\u00f3d\u017a", "Lodz"),
        ("\u0153il", "oeil"),
        ("\u041d\u043e\u0441", "Nos"),
        ("\u03b1\u03b2", "alphabeta"),
        ("\u5de6\u76ee", "u+5de6u+76ee"),
        ("\u304b\u306a", "kana"),
        ("a\n\tb", "a b"),
        ("", ""),
    ],
)
def test_letters_become_the_closest_ascii(text: str, expected: str) -> None:
    assert ascii_text(text) == expected


@given(st.text(max_size=20))
def test_any_text_becomes_printable_ascii(text: str) -> None:
    spelled = ascii_text(text)
    assert spelled.isascii()
    assert spelled.isprintable()
    assert spelled.count("?") <= text.count("?") + text.count("\uff1f") + sum(ord(c) > 127 for c in text)


@given(st.text(st.characters(min_codepoint=0x100), max_size=20))
def test_no_letter_becomes_a_run_of_question_marks(text: str) -> None:
    assert "???" not in ascii_text(text) or "\ufe56" in text or "\uff1f" in text or "\u2047" in text


def test_a_long_text_is_cut_with_dots() -> None:
    assert shortened("landmark", 8) == "landmark"
    assert shortened("landmarks", 8) == "landma.."
