"""What a process knows of a transcript, so that an append is one round trip and writes only what is new."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskctx_sql import Run
from taskctx_sql.integrations.claude_agent_sdk.entries import time_of

if TYPE_CHECKING:
    from claude_agent_sdk import SessionStoreEntry


@dataclass
class Transcript:
    """What this process knows of a transcript, as of its revision.

    Attributes:
        revision: The revision; None if it has to be read.
        base: What the store returned for the last write, by which it knows whether this is still the same context.
        origin: What this transcript has, and no other that is made in its place; None if it is not known.
        seq: The seq of the newest update up to which all entries were read or written.
        uuids: The uuids of all entries up to there, and of later ones that this process wrote.
        is_read: Whether there were no other entries at the revision.
        progress: The state entry of that name: the summary for lists, the ids of the newest messages, and the newest
            time of an entry.
        run: The run of the current turn.
        lock: Held by an append.
    """

    revision: int | None = None
    base: Any = None
    origin: str | None = None
    seq: int = 0
    uuids: set[str] = field(default_factory=set)
    is_read: bool = False
    progress: dict[str, Any] = field(default_factory=dict)
    run: Run | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def uuids_of(entries: Iterable[Any]) -> set[str]:
    """Return the uuids of entries; some have none."""
    return {entry["uuid"] for entry in entries if isinstance(entry.get("uuid"), str)}


def new_entries(entries: Iterable[SessionStoreEntry], known: set[str]) -> list[SessionStoreEntry]:
    """Return the entries whose uuid is not known, one of each; all entries without a uuid are new."""
    found: list[SessionStoreEntry] = []
    seen: set[str] = set()
    for entry in entries:
        if entry.get("uuid") not in known and entry.get("uuid") not in seen:
            found.append(entry)
            seen |= uuids_of([entry])
    return found


def is_newer(entry: SessionStoreEntry, transcript: Transcript) -> bool:
    """Return whether the transcript cannot have this entry, or this process knows already that it does.

    An entry has the same time whenever it is appended.
    """
    if "uuid" not in entry or entry["uuid"] in transcript.uuids:
        return True
    newest = transcript.progress.get("newest")
    return newest is not None and (time_of(entry) or 0.0) > newest
