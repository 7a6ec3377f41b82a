"""How much of something a store takes. Past these, engines fail in ways that name nothing."""

from __future__ import annotations

import math
import sys
from typing import Any, Final

from taskctx_sql.errors import InvalidArgumentError, LimitExceededError

# Of the JSON text of one value. In UTF-8 it may be four times as long, and Postgres stops at a gigabyte.
MAX_VALUE_CHARACTERS: Final = 200_000_000
# Of what one save writes: it is in memory several times over meanwhile.
MAX_SAVE_ROWS: Final = 5_000_000
# Of the files that a context tracks at a time: a load brings all of them.
MAX_TRACKED_FILES: Final = 1_000_000
# Of revisions, seqs and counts: what an integer column takes.
MAX_NUMBER: Final = 2**63 - 1


def check_text(text: str, place: str) -> str:
    """Return a value's text.

    Raises:
        LimitExceededError: It is longer than any store takes.
    """
    if len(text) > MAX_VALUE_CHARACTERS:
        remedy = "keep the content in a file, and its path here"
        raise LimitExceededError(f"characters of JSON of {place}", len(text), MAX_VALUE_CHARACTERS, remedy)
    return text


def check_save(rows: int, tracked_files: int) -> None:
    """See that a save is of a size that a store takes.

    Raises:
        LimitExceededError: It has too many rows, or the context tracks too many files.
    """
    if rows > MAX_SAVE_ROWS:
        remedy = "take entries out of memory, and save them in parts"
        raise LimitExceededError("new rows in one save", rows, MAX_SAVE_ROWS, remedy)
    if tracked_files > MAX_TRACKED_FILES:
        remedy = "take files that no longer matter out of file_tracker"
        raise LimitExceededError("files tracked in one context", tracked_files, MAX_TRACKED_FILES, remedy)


def check_number(argument: str, value: Any, least: int, *, optional: bool = False) -> None:
    """See that an argument is a number that a store can be asked for.

    Raises:
        InvalidArgumentError: It is no whole number, or one that no store has.
    """
    if value is None and optional:
        return
    if type(value) is not int or not least <= value <= MAX_NUMBER:
        allowed = f"{'None or ' if optional else ''}a whole number, {least} or more"
        raise InvalidArgumentError(argument, value, f"{allowed}, below 2^63")


def check_real(argument: str, value: Any, allowed: str) -> None:
    """See that an argument is an int or a float that can be compared.

    Raises:
        InvalidArgumentError: It is not; ``allowed`` says what would be.
    """
    # A NaN is not equal to itself.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InvalidArgumentError(argument, value, allowed)


def check_seconds(argument: str, value: Any) -> None:
    """See that an argument is a time that can be waited for.

    Raises:
        InvalidArgumentError: It is not.
    """
    allowed = "a number of seconds, 0 or more"
    check_real(argument, value, allowed)
    # What no float holds, no clock counts.
    if value < 0 or (value > sys.float_info.max and value != math.inf):
        raise InvalidArgumentError(argument, value, allowed)


def check_hashable(argument: str, value: Any) -> None:
    """See that an argument can be a key.

    Raises:
        InvalidArgumentError: It cannot.
    """
    try:
        hash(value)
    except TypeError:
        raise InvalidArgumentError(argument, value, "a string, or another value that can be a key of a dict") from None
