"""The newest snapshot of a task's context: values by name, of which only what has changed is written."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from taskctx_sql import ContextWriter, StateEntry
from taskctx_sql.errors import StaleContextError

PREFIX: Final = "task_context"
# How many entries of a snapshot's history share a value.
_CHUNK: Final = 100


class Snapshots:
    """Writes the snapshots of one session, each whole, whatever other processes write to the session meanwhile."""

    def __init__(self, writer: ContextWriter) -> None:
        self._writer = writer
        self._turn = asyncio.Lock()
        # Of the values that the store has, as long as nobody else has written since they were read.
        self._digests: dict[str, str] | None = None

    def forget(self) -> None:
        """Take it that somebody else may have written a snapshot."""
        self._digests = None

    async def write(self, context: dict[str, Any], write: Callable[..., Awaitable[Any]]) -> None:
        """Write what differs from the stored snapshot.

        Args:
            context: The task's context, as its ``to_dict`` has it.
            write: Writes to the session; it takes the arguments of `ContextWriter.write`.

        Raises:
            StoreError: The store failed.
        """
        values = _values(context)
        digests = {name: _digest(value) for name, value in values.items()}
        async with self._turn:
            while True:
                revision, known = await self._known()
                changed = {name: values[name] for name in values if known.get(name) != digests[name]}
                gone = sorted(known.keys() - values.keys())
                # After a failure it is unknown what is there.
                self._digests = None
                try:
                    if changed or gone:
                        await write(state=changed, remove_state=gone, if_revision=revision)
                except StaleContextError:
                    # Somebody else wrote, perhaps another snapshot: half of each would be none.
                    continue
                self._digests = digests
                return

    async def _known(self) -> tuple[int, dict[str, str]]:
        """Return the revision, and the digests of the values that it has."""
        if self._digests is not None and self._writer.revision is not None:
            return self._writer.revision, self._digests
        store, key = self._writer.store, self._writer.key
        # Before the values: what is written between both refuses the write.
        revision = (await store.load(key, history_limit=0)).revision
        return revision, {entry.name: _digest(entry.value) for entry in await store.state(key, prefix=PREFIX)}


def read(entries: Iterable[StateEntry]) -> dict[str, Any] | None:
    """Return the snapshot that values make up, or None if there is none."""
    parts = {entry.name: entry.value for entry in entries}
    if PREFIX not in parts:
        return None
    rest: dict[str, Any] = parts.pop(PREFIX)
    return rest | {"context_history": [entry for name in sorted(parts) for entry in parts[name]]}


def _values(context: dict[str, Any]) -> dict[str, Any]:
    history = context.get("context_history", [])
    values = {f"{PREFIX}/{start:08}": history[start : start + _CHUNK] for start in range(0, len(history), _CHUNK)}
    values[PREFIX] = {name: value for name, value in context.items() if name != "context_history"}
    return values


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
