"""A store that fails on demand, in front of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from taskctx_sql import ContextKey, Feature, Store
from taskctx_sql.errors import StoreFailedError
from taskctx_sql.model import (
    ContextSummary,
    Delta,
    Difference,
    Loaded,
    OpenCall,
    Revision,
    Saved,
    StateEntry,
    StoredUpdate,
    Write,
)
from taskctx_sql.reports import Report, Reports, SearchHit


class FaultyStore(Store):
    """Passes everything on; a save fails before or after it was written, once for each fault in ``faults``."""

    def __init__(self, behind: Store) -> None:
        self.behind = behind
        self.faults: list[str] = []
        self.deltas: list[Delta] = []
        self.slow = 0.0

    @property
    def database_url(self) -> str:
        return self.behind.database_url

    @property
    def features(self) -> frozenset[Feature]:
        return self.behind.features

    async def load(self, key: ContextKey, /, **how: Any) -> Loaded:
        return await self.behind.load(key, **how)

    async def save(self, delta: Delta, /) -> Saved:
        self.deltas.append(delta)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            raise StoreFailedError("save", self.database_url, "a fault before the write")
        if fault == "lost before":
            raise StoreFailedError("save", self.database_url, "a fault, nothing written", outcome_unknown=True)
        saved = await self.behind.save(delta)
        await asyncio.sleep(self.slow)
        if fault == "lost after":
            raise StoreFailedError("save", self.database_url, "a fault after the write", outcome_unknown=True)
        return saved

    async def write(self, key: ContextKey, /, **content: Any) -> Saved:
        return await self.save(Write(key, **content).delta())

    async def write_together(self, writes: Sequence[Write], /) -> list[Saved]:
        return await self.behind.write_together(writes)

    async def state(self, key: ContextKey, /, *names: str, **which: Any) -> Sequence[StateEntry]:
        return await self.behind.state(key, *names, **which)

    async def data(self, key: ContextKey, /, **which: Any) -> list[Any]:
        return await self.behind.data(key, **which)

    async def label(self, key: ContextKey, /, **labels: Any) -> int:
        return (await self.write(key, **labels)).revision

    async def pop_update(self, key: ContextKey, /, **which: Any) -> StoredUpdate | None:
        return await self.behind.pop_update(key, **which)

    async def clear_updates(self, key: ContextKey, /, **which: Any) -> int:
        return await self.behind.clear_updates(key, **which)

    async def open_calls(self, key: ContextKey | None = None, /, **which: Any) -> Sequence[OpenCall]:
        return await self.behind.open_calls(key, **which)

    async def close_calls(self, key: ContextKey, /, **how: Any) -> Sequence[OpenCall]:
        return await self.behind.close_calls(key, **how)

    def updates(self, key: ContextKey, /, **bounds: Any) -> AsyncIterator[StoredUpdate]:
        return self.behind.updates(key, **bounds)

    async def revisions(self, key: ContextKey, /, **which: Any) -> Sequence[Revision]:
        return await self.behind.revisions(key, **which)

    async def difference(self, key: ContextKey, old: int, new: int, /, **how: Any) -> Difference:
        return await self.behind.difference(key, old, new, **how)

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        return await self.behind.fork(key, chat_id, revision=revision)

    def watch(self, key: ContextKey, /, **how: Any) -> AsyncGenerator[StoredUpdate, None]:
        return self.behind.watch(key, **how)

    @property
    def reports(self) -> Reports:
        return self.behind.reports

    async def contexts(
        self,
        user_id: str | None,
        /,
        *,
        after: ContextSummary | None = None,
        limit: int = 100,
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        updated_since: float | None = None,
        state: Sequence[str] | None = (),
    ) -> Sequence[ContextSummary]:
        return await self.behind.contexts(
            user_id,
            after=after,
            limit=limit,
            labels=labels,
            title=title,
            updated_since=updated_since,
            state=state,
        )

    async def delete(self, key: ContextKey, /) -> bool:
        return await self.behind.delete(key)

    def search(self, text: str, /, **options: Any) -> Report[SearchHit]:
        return self.behind.search(text, **options)

    async def search_backlog(self) -> int | None:
        return await self.behind.search_backlog()

    async def ping(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # the protocol's name
        await self.behind.ping(timeout=timeout)

    async def close(self) -> None:
        await self.behind.close()
