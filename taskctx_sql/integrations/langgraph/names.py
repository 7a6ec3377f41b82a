"""The names of a thread's entries. An entry's order by name is its order by checkpoint, and by place in a list.

So one range has checkpoints with their writes, which come right after them.

    checkpoint/<namespace>/<checkpoint>                     a checkpoint without its large values
    checkpoint/<namespace>/<checkpoint>!<task>/<token>      writes of a task that await the next checkpoint
    channel/<namespace>/<channel>/<version>                 a channel's value
    list/<namespace>/<channel>/<growth>/<place>/<token>     elements of a channel that is a list
    thread                                                  the thread's id, if it is too long for a label

Those of items, whose namespaces have several labels, none of them empty:

    item/<label>/<label>//<key>                             an item
    vector/<label>/<label>//<key>                           the vectors of its texts
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from taskctx_sql.random_ids import new_token

THREAD: Final = "thread"
# Of an entry's name, in bytes, with at most four parts of others' making.
_MAX_PART = 450
# Between a checkpoint's id and its writes. No id has it, or a character below it: both are escaped.
_MARK: Final = "!"
_UP_TO_MARK: Final = re.compile("[\x01-!]")


def checkpoint(namespace: str, checkpoint_id: str = "") -> str:
    """Return the name of a checkpoint; without an id, what those of a namespace begin with."""
    escaped = _UP_TO_MARK.sub(lambda found: f"%{ord(found[0]):02X}", _part(checkpoint_id))
    return f"checkpoint/{_part(namespace)}/{escaped}"


def writes(namespace: str, checkpoint_id: str) -> str:
    """Return what the names of a checkpoint's writes begin with."""
    return checkpoint(namespace, checkpoint_id) + _MARK


def through(namespace: str, checkpoint_id: str) -> str:
    """Return a name that sorts after a checkpoint and its writes, and before the next checkpoint."""
    return checkpoint(namespace, checkpoint_id) + chr(ord(_MARK) + 1)


def checkpoint_of(name: str) -> str:
    """Return the name of the checkpoint that an entry of a checkpoint or of writes belongs to."""
    kind, namespace, rest = name.split("/", 2)
    return f"{kind}/{namespace}/{rest.partition(_MARK)[0]}"


def is_checkpoint(name: str) -> bool:
    """Whether a name is that of a checkpoint."""
    return name.startswith("checkpoint/") and checkpoint_of(name) == name


def task(namespace: str, checkpoint_id: str, task_id: str) -> str:
    """Return a new name for writes of a task. Those that one program makes sort as they are made."""
    return f"{writes(namespace, checkpoint_id)}{_part(task_id)}/{time.time_ns():016x}{new_token(8)}"


def channel(namespace: str, channel_name: str, version: object) -> str:
    """Return the name of a channel's value."""
    return f"channel/{_part(namespace)}/{_part(channel_name)}/{_part(str(version))}"


def growths(namespace: str, channel_name: str) -> str:
    """Return what the names of a list's elements begin with."""
    return f"list/{_part(namespace)}/{_part(channel_name)}/"


def place(growth_name: str, start: int, token: str = "") -> str:
    """Return the name of elements of a growth, or what all from this place on come after."""
    return f"{growth_name}{start:010}/{token}"


def items(namespace: Sequence[str], kind: str = "item") -> str:
    """Return what the names of all items below a namespace begin with."""
    return _items(tuple(namespace), kind)


@lru_cache(maxsize=1_024)
def _items(namespace: tuple[str, ...], kind: str) -> str:
    return "".join(f"{part}/" for part in (kind, *map(_part, namespace)))


def item(namespace: tuple[str, ...], key: str, kind: str = "item") -> str:
    """Return the name of an item, or of its vectors."""
    return f"{items(namespace, kind)}/{_part(key)}"


def after(name: str) -> str:
    """Return a name that sorts after this one and all that begin with it and a "/"."""
    return f"{name}0"


def _part(text: str) -> str:
    if text.isascii() and len(text) <= _MAX_PART and not ("/" in text or "%" in text or "\x00" in text):
        # As most are: the rest would leave it as it is.
        return text
    escaped = text.replace("%", "%25").replace("/", "%2F").replace("\x00", "%00")
    encoded = escaped.encode("utf-8", "surrogatepass")
    readable = encoded.decode("utf-8", "replace")
    if len(encoded) <= _MAX_PART and readable == escaped:
        return escaped
    # A "%s" is never in an escaped part, so a shortened one equals no other.
    return f"{readable[:100]}%sha256-{hashlib.sha256(encoded).hexdigest()}"
