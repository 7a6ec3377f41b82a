"""What was stored is data: it moves no cursor, colors nothing, turns no line around, and is no formula."""

from __future__ import annotations

from typing import Final

# What a spreadsheet takes for the beginning of a formula, the wide forms included.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain(text: str, keep: str = "") -> str:
    """Return a text without control characters, marks of direction and the like, which are shown escaped.

    Args:
        text: The text.
        keep: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def spreadsheet_cell(text: str) -> str:
    """Return a text as one that no spreadsheet takes for a formula: where it could, it has an apostrophe before it."""
    text = plain(text)
    return f"'{text}" if text.lstrip(" '\"").startswith(_FORMULA) or text.startswith(("\\t", "\\r", "\\n")) else text
