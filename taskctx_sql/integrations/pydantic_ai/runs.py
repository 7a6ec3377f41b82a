"""What is known of the harness's runs that this process writes to, so that each write is one statement."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from weakref import WeakValueDictionary

from taskctx_sql import ContextKey, ContextUpdate, ContextWriter, Saved, Store
from taskctx_sql.errors import LostContextError, StaleContextError
from taskctx_sql.integrations import recording

# How many runs are remembered.
_REMEMBERED: Final = 1000
# The names of a run's values: its record, and the idempotency keys of snapshots that are no longer kept.
RECORD: Final = "run"
SNAPSHOT_KEYS: Final = "snapshot/"
# A message's place among all that snapshots of its run have had, in its metadata.
PLACE: Final = "place"


@dataclass
class Snapshot:
    """A snapshot that is kept: its seq, its state, and its idempotency key."""

    seq: int
    state: str
    key: str | None


@dataclass
class StoredRun:
    """A run as it is stored; at first, one that is not."""

    writer: ContextWriter
    revision: int = 0
    is_registered: bool = False
    started_at: float = 0.0
    event_keys: set[str] = field(default_factory=set)
    snapshot_keys: set[str] = field(default_factory=set)
    snapshots: list[Snapshot] = field(default_factory=list)
    # The places of messages, by their digests.
    places: dict[str, int] = field(default_factory=dict)

    def new_places(self, digests: Iterable[str]) -> dict[str, int]:
        """Return places for the messages that have none yet."""
        new = [found for found in digests if found not in self.places]
        first = 1 + max(self.places.values(), default=-1)
        return dict(zip(new, range(first, first + len(new)), strict=True))


# What is to be written to a run, as arguments of `ContextWriter.write`; None for nothing.
Content = Callable[[StoredRun], dict[str, Any] | None]
Note = Callable[[StoredRun, Saved], None]


class Runs:
    """The runs that were written to last."""

    def __init__(self, store: Store) -> None:
        """Write to a store."""
        self._store = store
        self._runs: OrderedDict[ContextKey, StoredRun] = OrderedDict()
        self._locks: WeakValueDictionary[ContextKey, asyncio.Lock] = WeakValueDictionary()

    async def write(self, key: ContextKey, content: Content, note: Note | None = None) -> StoredRun:
        """Write to a run, whose state decides what.

        Args:
            key: The run's context.
            content: Returns what is written. If another program wrote to the run meanwhile, it is asked again.
            note: Notes what was written.

        Returns:
            The run as it is stored then.
        """
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            run = self._runs.pop(key, None) or StoredRun(ContextWriter(self._store, key))
            while (given := content(run)) is not None:
                try:
                    saved = await run.writer.write(**given, if_revision=run.revision)
                except (StaleContextError, LostContextError):
                    run = await self._read(key)
                    continue
                # After any other error it is read again: whether it was written is not known.
                run.revision = saved.revision
                if note is not None:
                    note(run, saved)
                break
            self._runs[key] = run
            if len(self._runs) > _REMEMBERED:
                self._runs.popitem(last=False)
            return run

    async def _read(self, key: ContextKey) -> StoredRun:
        loaded = await self._store.load(key)
        run = StoredRun(ContextWriter(self._store, key), loaded.revision)
        if not loaded.revision:
            return run
        for entry in await self._store.state(key, RECORD):
            run.is_registered, run.started_at = True, datetime.fromisoformat(entry.value["started_at"]).timestamp()
        run.snapshot_keys.update(
            entry.name.removeprefix(SNAPSHOT_KEYS) for entry in await self._store.state(key, prefix=SNAPSHOT_KEYS)
        )
        for stored in loaded.updates:
            self._note(run, stored.seq, stored.update)
        return run

    @staticmethod
    def _note(run: StoredRun, seq: int, update: ContextUpdate) -> None:
        if update.update_type == recording.MESSAGE:
            run.places[digest(update.data)] = update.metadata[PLACE]
            return
        key = update.data.get("idempotency_key")
        if update.update_type == recording.CHECKPOINT:
            run.snapshots.append(Snapshot(seq, update.data["state"], key))
        keys = run.snapshot_keys if update.update_type == recording.CHECKPOINT else run.event_keys
        if key is not None:
            keys.add(key)


def digest(message: Any) -> str:
    """Return what tells a message from others."""
    return hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()


def ranges(places: Iterable[int]) -> list[list[int]]:
    """Return numbers as ranges of neighbors, first and last: most snapshots have all messages so far."""
    found: list[list[int]] = []
    for place in places:
        if found and place == found[-1][1] + 1:
            found[-1][1] = place
        else:
            found.append([place, place])
    return found
