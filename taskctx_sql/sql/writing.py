"""What a store writes to contexts, loaded or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from taskctx_sql.errors import InvalidArgumentError, StaleContextError
from taskctx_sql.model import (
    ContextKey,
    Delta,
    FileChange,
    NewUpdate,
    Run,
    Saved,
    StateChange,
    StoredUpdate,
    Write,
)
from taskctx_sql.sql import load
from taskctx_sql.sql.database import OpenDatabase
from taskctx_sql.sql.retry import ROWS_A_SECOND
from taskctx_sql.sql.save import SaveRequest


class Writing(OpenDatabase):
    """The calls of an `SqlStore` that write."""

    async def save(self, delta: Delta, /) -> Saved:
        """See `Store.save`."""
        request = await self._request(delta)
        extra = request.count_rows() / ROWS_A_SECOND
        try:
            saved = await self._retrying.run("save", partial(self._backend.save, request), extra=extra)
        except StaleContextError as error:
            self._note(delta.key, error.found)
            raise
        self._saved(request, saved)
        return saved

    async def write(
        self,
        key: ContextKey,
        /,
        *,
        updates: Sequence[NewUpdate] = (),
        models: Sequence[Mapping[str, Any]] = (),
        files: Sequence[FileChange] = (),
        state: Mapping[str, Any] | Sequence[StateChange] = (),
        remove_state: Sequence[str] = (),
        remove_updates: Sequence[int] = (),
        labels: Mapping[str, str | None] | None = None,
        title: str | None = None,
        parent: str | None = None,
        if_revision: int | None = None,
        run: Run | None = None,
    ) -> Saved:
        """See `Store.write`."""
        # In the order of the fields.
        content = (updates, models, files, state, remove_state, remove_updates, labels, title, parent)
        return await self._save_once(Write(key, *content, if_revision, run).delta())

    async def write_together(self, writes: Sequence[Write], /) -> list[Saved]:
        """See `Store.write_together`."""
        keys = [write.key for write in writes]
        if len(set(keys)) < len(keys):
            raise InvalidArgumentError("writes", keys, "one write for each context")
        if len(writes) < 2:
            # With saves of others, which one transaction takes together.
            return [await self._save_once(write.delta()) for write in writes]
        requests = [await self._request(write.delta()) for write in writes]
        extra = sum(request.count_rows() for request in requests) / ROWS_A_SECOND
        saved = await self._retrying.run("save", partial(self._backend.save_all, requests), extra=extra)
        for request, result in zip(requests, saved, strict=True):
            request.delta.sent = None
            self._saved(request, result)
        return saved

    async def label(
        self,
        key: ContextKey,
        /,
        *,
        title: str | None = None,
        parent: str | None = None,
        labels: Mapping[str, str | None] | None = None,
    ) -> int:
        """See `Store.label`."""
        return (await self.write(key, title=title, parent=parent, labels=labels)).revision

    async def pop_update(self, key: ContextKey, /, *, types: Sequence[str] | None = None) -> StoredUpdate | None:
        """See `Store.pop_update`."""
        plan = partial(load.newest_update, self.engine_name, key, types)
        while True:
            # From the primary: the write is refused if anything has changed since.
            revision, found = await self._read("read", plan, key.user_id)
            if found is None:
                return None
            try:
                await self.write(key, remove_updates=[found.seq], if_revision=revision)
            except StaleContextError:
                continue
            return found

    async def clear_updates(self, key: ContextKey, /, *, types: Sequence[str] | None = None) -> int:
        """See `Store.clear_updates`."""
        plan = partial(load.current_seqs, self.engine_name, key, types)
        while True:
            revision, found = await self._read("read", plan, key.user_id)
            if not found:
                return 0
            delta = Write(key, remove_updates=found, if_revision=revision).delta()
            delta.operation, delta.dropped = "truncate", delta.removed_updates
            try:
                await self._save_once(delta)
            except StaleContextError:
                continue
            return len(found)

    async def _save_once(self, delta: Delta) -> Saved:
        """Save a delta that nobody else has, so that it is not saved again."""
        saved = await self.save(delta)
        # What is sent refers to the delta: the two would stay in memory until Python looks for such circles.
        delta.sent = None
        return saved

    async def _request(self, delta: Delta) -> SaveRequest:
        """Return a delta as it is written."""
        rls_user = self._begin("save", delta.key.user_id)
        request = await SaveRequest.of(delta, strict=self._strict, rls_user=rls_user)
        # Even if the caller never learns that it was written.
        self._note(delta.key, request.base.revision + request.step)
        return request

    def _saved(self, request: SaveRequest, saved: Saved) -> None:
        """Let readers know of what was written."""
        self._note(request.delta.key, saved.revision)
        self._backend.catch_up()
        if request.updates:
            self._subscriptions.deliver([request.context_id])
            self._backend.notify(request.context_id)
