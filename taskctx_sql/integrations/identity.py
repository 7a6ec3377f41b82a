"""Which context a framework's session, thread or task is.

Frameworks identify it by more parts than a user and a chat. The user is the framework's user; the framework's name and
the parts make up the chat's id, and each part is a label, so that contexts can be listed by it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from taskctx_sql import ContextKey

# The user of a framework that knows none.
ANONYMOUS: Final = "anonymous"
# The length of ids and of labels.
_MAX_LENGTH: Final = 255


@lru_cache(maxsize=4_096, typed=True)
def key(framework: str, user_id: str | None, *parts: str) -> ContextKey:
    """Return the key of what a framework identifies by these parts.

    The chat's id is ``framework/part/part``. A "/" or "%" in a part is percent-escaped, so that different parts never
    become the same id. Where it would be longer than an id may be, its tail is a digest of the whole.

    Args:
        framework: The framework's name, such as "openai_agents".
        user_id: The framework's user; `ANONYMOUS` if it is None or empty.
        parts: Such as the app's name and the session's id, from the outer to the inner.

    Raises:
        InvalidIdError: A part has characters that no database accepts, or the user's id is too long.
    """
    return ContextKey(user_id or ANONYMOUS, shorten("/".join([framework, *map(_escape, parts)])))


def child(parent: ContextKey, part: str) -> ContextKey:
    """Return the key of a part of what another key identifies, such as a branch: ``parent/part``."""
    return ContextKey(parent.user_id, shorten(f"{parent.chat_id}/{_escape(part)}"))


def labels(framework: str, **parts: str) -> dict[str, str]:
    """Return the labels of a context: the framework, and each part by its name.

    Args:
        framework: The framework's name.
        parts: The parts, as "session", "thread", "app", "task", "project" or "conversation". What is longer than a
            label may be ends with a digest of the whole.
    """
    return {"framework": framework} | {name: shorten(part) for name, part in parts.items()}


def last_part(chat_id: str, label: str) -> str:
    """Return the innermost part that a chat's id has.

    Args:
        chat_id: The chat's id. In a fork it is another one than its source's, and the labels are the same.
        label: The whole of the part, if the id has only its digest.
    """
    last = chat_id.rpartition("/")[2]
    return label if "%sha256-" in last else unquote(last)


def shorten(text: str) -> str:
    """Return a text as it is if it can be an id or a label, else its beginning and a digest of the whole."""
    if len(text) <= _MAX_LENGTH:
        return text
    # A "%s" is never in an escaped text, so a shortened id equals no other.
    tail = f"%sha256-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return text[: _MAX_LENGTH - len(tail)] + tail


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")
