"""Limits of what a store accepts. Beyond them, engines fail with errors that do not name the cause."""

from __future__ import annotations

import math
import sys
from typing import Any, Final

from taskctx_sql.errors import InvalidArgumentError, LimitExceededError

# The JSON text of one value. In UTF-8 it may be four times as long, and Postgres accepts a gigabyte.
MAX_VALUE_CHARACTERS: Final = 200_000_000
# The rows of one save, which are in memory several times meanwhile.
MAX_SAVE_ROWS: Final = 5_000_000
# The files that a context tracks; each load reads all of them.
MAX_TRACKED_FILES: Final = 1_000_000
# Revisions, seqs and counts: the largest value of an integer column.
MAX_NUMBER: Final = 2**63 - 1


def check_text(text: str, place: str) -> str:
    """Return the text of a value, or raise LimitExceededError if it is longer than any store accepts."""
    if len(text) > MAX_VALUE_CHARACTERS:
        remedy = "keep the content in a file, and its path here"
        raise LimitExceededError(f"characters of JSON of {place}", len(text), MAX_VALUE_CHARACTERS, remedy)
    return text


def check_save(rows: int, tracked_files: int) -> None:
    """Raise LimitExceededError if a save has too many rows or tracked files."""
    if rows > MAX_SAVE_ROWS:
        remedy = "take entries out of memory, and save them in parts"
        raise LimitExceededError("new rows in one save", rows, MAX_SAVE_ROWS, remedy)
    if tracked_files > MAX_TRACKED_FILES:
        remedy = "take files that no longer matter out of file_tracker"
        raise LimitExceededError("files tracked in one context", tracked_files, MAX_TRACKED_FILES, remedy)


def check_number(argument: str, value: Any, least: int, *, optional: bool = False) -> None:
    """Raise InvalidArgumentError if an argument is not a whole number within the range of a store."""
    if value is None and optional:
        return
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        allowed = f"{'None or ' if optional else ''}a whole number, {least} or more"
        raise InvalidArgumentError(argument, value, f"{allowed}, below 2^63")


def check_real(argument: str, value: Any, allowed: str) -> None:
    """Raise InvalidArgumentError if an argument is not an int or a float that can be compared."""
    # A NaN is not equal to itself.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InvalidArgumentError(argument, value, allowed)


def check_seconds(argument: str, value: Any) -> None:
    """Raise InvalidArgumentError if an argument is not a duration in seconds."""
    allowed = "a number of seconds, 0 or more"
    check_real(argument, value, allowed)
    # Larger than any float.
    if value < 0 or (value > sys.float_info.max and value != math.inf):
        raise InvalidArgumentError(argument, value, allowed)


def check_hashable(argument: str, value: Any) -> None:
    """Raise InvalidArgumentError if an argument is not hashable."""
    try:
        hash(value)
    except TypeError:
        raise InvalidArgumentError(argument, value, "a string, or another value that can be a key of a dict") from None
