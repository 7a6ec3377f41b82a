"""Text for people: stored text without control characters, and never a formula to a spreadsheet; counts."""

from __future__ import annotations

from typing import Final

# How a formula begins in a spreadsheet, including full-width forms.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain(text: str, keep: str = "") -> str:
    """Return a text with control characters, direction marks and the like escaped, except those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def spreadsheet_cell(text: str) -> str:
    """Return a text that no spreadsheet reads as a formula: an apostrophe precedes one that could be."""
    text = plain(text)
    return f"'{text}" if text.lstrip(" '\"").startswith(_FORMULA) or text.startswith(("\\t", "\\r", "\\n")) else text


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 context", "2,000 entries"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"
