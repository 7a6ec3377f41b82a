"""The identity of a context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from taskctx_sql.errors import InvalidIdError

# As UTF-8 this is at most 1,020 bytes, so that an index entry of both ids fits every engine.
MAX_ID_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class ContextKey:
    """The user and the chat that identify a context.

    Strings are compared exactly, without folding case or look-alikes. Whole numbers and UUIDs become their text, as in
    the names of JSON files. Each id has at most `MAX_ID_LENGTH` characters.

    Raises:
        InvalidIdError: An id is of another type, too long, or has characters that no database accepts.
    """

    user_id: str
    chat_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_id", _checked_id("user_id", self.user_id))
        object.__setattr__(self, "chat_id", _checked_id("chat_id", self.chat_id))

    def __str__(self) -> str:
        return f"({self.user_id!r}, {self.chat_id!r})"


def _checked_id(field: str, value: object) -> str:
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidIdError(field, value, f"it is a {type(value).__name__}, and ids are strings")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidIdError(field, value, f"it has {len(value)} characters, and the limit is {MAX_ID_LENGTH}")
    if "\x00" in value or (not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise InvalidIdError(field, value, "NUL and lone surrogates cannot be kept in a database")
    return str.__str__(value)
