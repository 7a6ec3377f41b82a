"""Stored text for terminals and spreadsheets: without control characters, and never a formula."""

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
