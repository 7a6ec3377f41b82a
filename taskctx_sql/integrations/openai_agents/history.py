"""The history of a session: its items are updates of a context, and each turn is a run."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, cast
from weakref import WeakValueDictionary

from agents import TResponseInputItem
from agents.memory import SessionSettings
from agents.memory.session_settings import coerce_session_settings

from taskctx_sql import ContextKey, ContextWriter, RunOutcome, Saved, Store, StoredUpdate
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.openai_agents.errors import SessionClosedError
from taskctx_sql.integrations.openai_agents.items import FRAMEWORK, ITEM_TYPES, is_user_message
from taskctx_sql.integrations.openai_agents.turn import Turn
from taskctx_sql.integrations.opening import StoreSource

# The usage of a turn has the seq of the user's message in its name, which no other update ever has.
USAGE: Final = "usage/"


class History:
    """The items of a conversation. See `ContextSession`."""

    def __init__(
        self,
        session_id: str,
        store: Store | str,
        *,
        user_id: str | None = None,
        key: ContextKey | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        """Name the conversation and where it is kept. Nothing is read or written yet.

        Args:
            session_id: The conversation's id.
            store: An open store, which stays open; or a database URL, which is opened when it is first needed.
            user_id: Whose conversation it is; "anonymous" by default.
            key: The context that it is kept in, instead of the one that the two ids name.
            session_settings: Such as how many items are returned by default.

        Raises:
            TypeError: The settings have a field that the SDK does not know.
            InvalidIdError: An id cannot identify a context.
        """
        self.session_id: str = session_id
        self.session_settings: SessionSettings | None = coerce_session_settings(session_settings or {})
        self.key: ContextKey = identity.key(FRAMEWORK, user_id, session_id) if key is None else key
        self._source = StoreSource(store)
        self._closed = False
        self._writer: ContextWriter | None = None
        self._turn = Turn()
        # Whether the context has its labels, as far as this session knows.
        self._is_labelled = False
        # A run that hooks saw before the message of the user that it is about.
        self._next_run: object | None = None
        self._runs: WeakValueDictionary[int, object] = WeakValueDictionary()

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the newest items, the oldest of them first.

        Args:
            limit: How many; by default as the session's settings say, else all.

        Raises:
            StoreError: The store failed.
        """
        return await self._items(await self._current_key(), limit)

    async def add_items(self, items: Sequence[TResponseInputItem]) -> None:
        """Append items in one transaction. A message of the user begins a turn.

        Raises:
            StoreError: The store failed. Whether the items were appended is not known; none or all of them were.
        """
        store = await self._store()
        if not items:
            return
        key = await self._current_key()
        if any(map(is_user_message, items)):
            await self._end_turn()
            self._turn.run, self._next_run = self._next_run, None
        turn = self._turn
        ends = turn.ends_with(items)
        saved = await self._write(
            store,
            key,
            updates=list(map(turn.update, items)),
            state=_usage(turn),
            outcome="completed" if ends else None,
        )
        turn.written(items, saved.first_seq)
        turn.has_ended = ends
        if ends and turn.run is not None:
            self._turn = Turn()

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the newest item out of the conversation, and return it; None if there is none.

        Of several callers at once, each gets another item. The record keeps what was taken out.

        Raises:
            StoreError: The store failed.
        """
        store = await self._store()
        key = await self._current_key()
        found = await store.pop_update(key, types=ITEM_TYPES)
        while found is not None and not recording.is_item(found.update):
            found = await store.pop_update(key, types=ITEM_TYPES)
        if found is not None and found.seq == self._turn.seq:
            self._turn.seq = None
        return None if found is None else cast(TResponseInputItem, found.update.data)

    async def clear_session(self) -> None:
        """Take all items out of the conversation. The record keeps them.

        Raises:
            StoreError: The store failed.
        """
        store = await self._store()
        await self._end_turn()
        await store.clear_updates(self.key, types=ITEM_TYPES)

    async def close(self, error: BaseException | None = None) -> None:
        """End the turn, and close the store if this session opened it. Closing twice is harmless.

        Args:
            error: Why the turn failed; None if it did not.

        Raises:
            StoreError: The store failed.
        """
        if not self._closed:
            self._closed = True
            await self._end_turn(error)
        await self._source.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(error)

    async def record(self, **content: Any) -> None:
        """Write to the current branch's context as a part of the turn.

        Args:
            content: The arguments of `ContextWriter.write`.

        Raises:
            StoreError: The store failed.
        """
        if self._turn.has_ended:
            # What follows the end of a turn, such as its usage, still belongs to it.
            content.setdefault("outcome", "completed")
        await self._write(await self._store(), await self._current_key(), **content)

    def see_run(self, run: object) -> Turn:
        """Note that hooks see an agent's run, and return the turn that it belongs to."""
        turn, self._runs[id(run)] = self._turn, run
        if turn.run is not run and self._next_run is not run:
            if turn.run is None and not turn.is_answered:
                turn.run = run
            else:
                # When a run is streamed, hooks see it before the session gets the message.
                self._next_run = run
        return turn

    def _has_seen(self, run: object) -> bool:
        return self._runs.get(id(run)) is run

    async def _items(self, key: ContextKey, limit: int | None) -> list[TResponseInputItem]:
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        store = await self._store()
        found = await recording.items(store, key, ITEM_TYPES, limit=None if limit is None else max(limit, 0))
        self._is_labelled = self._is_labelled or (bool(found) and key == self.key)
        return found

    async def _rows(self, key: ContextKey) -> list[StoredUpdate]:
        store = await self._store()
        return [row async for row in store.updates(key, types=ITEM_TYPES) if recording.is_item(row.update)]

    async def _store(self) -> Store:
        if self._closed:
            raise SessionClosedError(self.session_id)
        return await self._source.get()

    async def _current_key(self) -> ContextKey:
        """Return the context of the branch that is written to."""
        return self.key

    async def _write(self, store: Store, key: ContextKey, **content: Any) -> Saved:
        writer = self._writer
        if writer is None or writer.key != key or writer.store is not store:
            writer = self._writer = ContextWriter(store, key)
        # A branch has the labels that it was created with. Writing labels again does no harm.
        if not self._is_labelled and key == self.key:
            content["labels"] = identity.labels(FRAMEWORK, session=self.session_id)
        try:
            saved = await writer.write(resume=self._turn.has_ended, **content)
        except BaseException:
            # The context may have been deleted.
            self._is_labelled = False
            raise
        self._is_labelled = self._is_labelled or "labels" in content
        return saved

    async def _end_turn(self, error: BaseException | None = None) -> None:
        """End the run of the turn that was written to last, and begin a new turn."""
        turn, self._turn = self._turn, Turn()
        writer = self._writer
        if writer is None or writer.store is not await self._source.get():
            return
        failure = f"{type(error).__name__}: {error}" if error is not None else turn.failure
        outcome: RunOutcome = "completed" if failure is None else "failed"
        if usage := _usage(turn):
            await writer.write(state=usage, outcome=outcome, error=failure)
        else:
            await writer.end(outcome, failure)


def _usage(turn: Turn) -> dict[str, Any]:
    """Return the usage of a finished turn, as it is written; empty if there is none, or it has been written."""
    return {} if turn.usage is None or turn.seq is None else {usage_name(turn.seq): turn.usage}


def usage_name(seq: int) -> str:
    """Return the name of the usage of the turn that begins with this seq: the names are in the order of the turns."""
    return f"{USAGE}{seq:019d}"
