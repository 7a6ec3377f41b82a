"""Characters of an address that nobody sees: from a file with Windows line ends, a web page, a word processor."""

from __future__ import annotations

import unicodedata
from typing import Final

# Controls, formats, spaces other than the plain one, and the ends of lines and paragraphs.
_CATEGORIES: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
# Letters and symbols by their category that show nothing.
_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# Controls have no name of their own in Unicode.
_CONTROLS: Final = {"\0": "NUL", "\t": "TAB", "\n": "LINE FEED", "\r": "CARRIAGE RETURN", "\x1b": "ESCAPE"}


def invisible_at(text: str) -> int | None:
    """Return where the first invisible character of a text is, None without one. A space counts only at an end."""
    for index, character in enumerate(text):
        if character == " ":
            if index in (0, len(text) - 1):
                return index
        elif is_invisible(character):
            return index
    return None


def is_invisible(character: str) -> bool:
    """Whether a character other than the plain space shows nothing."""
    if character.isprintable():
        return character in _BLANKS
    # Others that cannot be printed stand for bytes, or are unknown to this version of Python.
    return unicodedata.category(character) in _CATEGORIES


def name_of(character: str) -> str:
    """Return how Unicode calls a character, as ``U+200B (ZERO WIDTH SPACE)``."""
    name = _CONTROLS.get(character) or unicodedata.name(character, "CONTROL CHARACTER")
    return f"U+{ord(character):04X} ({name})"
