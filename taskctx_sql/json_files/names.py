"""The names of the original's files and folders."""

from __future__ import annotations

import re
import sys
from typing import Final

from taskctx_sql.errors import InvalidIdError
from taskctx_sql.model import ContextKey

PREFIX: Final = "context_history_"
SUFFIX: Final = ".json"
# The limit of the usual file systems.
MAX_NAME_BYTES: Final = 255

# What could leave the folder, cannot be in a name, or would be read as an escape.
_UNSAFE: Final = re.compile(
    r'[\x00-\x1f\x7f/\\:*?"<>|]|%(?=[0-9A-Fa-f]{2})'
    if sys.platform == "win32"
    else r"[\x00-\x1f\x7f/\\]|%(?=[0-9A-Fa-f]{2})"
)
_SET_ASIDE: Final = re.compile(r"(.+)\.unreadable-([0-9]{1,4})", re.DOTALL)
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")


def file_name(key: ContextKey) -> str:
    """Return the name of a context's file: the original's, with unsafe characters as ``%`` and two digits."""
    name = f"{PREFIX}{_escaped(key.chat_id)}{SUFFIX}"
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        reason = f"its file name has {size} bytes, and a file system takes {MAX_NAME_BYTES}"
        raise InvalidIdError("chat_id", key.chat_id, reason)
    return name


def folder_name(user_id: str) -> str:
    """Return the name of a folder for a user's files, with unsafe characters escaped as in `file_name`."""
    # These two and the empty one would be other folders; no escape of another name looks like theirs.
    return {"": "%", ".": "%2E", "..": "%2E%2E"}.get(user_id, _escaped(user_id))


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)


def chat_id(name: str) -> str | None:
    """Return the chat_id that a file name stands for, or None if it is not a history file."""
    if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
        return None
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name[len(PREFIX) : -len(SUFFIX)])


def set_aside_from(name: str) -> tuple[str, int] | None:
    """Return the name that a file had before `set_aside`, and its number; None if it was not set aside."""
    found = _SET_ASIDE.fullmatch(name)
    return None if found is None or chat_id(found[1]) is None else (found[1], int(found[2]))
