"""Where a context is kept: in the caller's store, at a URL, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final

from taskctx_sql.concurrency import running_loop
from taskctx_sql.errors import UnsupportedByStoreError
from taskctx_sql.locations import anchored, is_json_address
from taskctx_sql.opening import open_store
from taskctx_sql.stores import ContextStore, Feature, RevisionStore

# For errors: what needs a store with revisions, and what such a store keeps.
SHOW_STATES: Final = ("show earlier states", Feature.REVISIONS.value)


class Storage:
    """Where a context is kept: in an open store, whose owner closes it, or at a URL, opened when needed."""

    def __init__(self, store: ContextStore | None = None, url: str | None = None) -> None:
        self.store: ContextStore | None = store
        url = url if store is None else None
        # A later change of the working directory makes no difference. The URL may also be an engine.
        self._url = anchored(url) if isinstance(url, str) else url
        self._opened: ContextStore | None = None
        self._turn: asyncio.Lock | None = None
        self._turn_loop: asyncio.AbstractEventLoop | None = None

    def another(self) -> Storage:
        """Return the same storage for another context."""
        return Storage(self.store, self._url)

    async def enter(self) -> None:
        """Open the URL, until `leave`."""
        if self.store is None and self._url is not None:
            if is_json_address(self._url):
                await self._open_folder(self._url)
            else:
                self._opened = await open_store(self._url)

    async def leave(self) -> None:
        """Close what `enter` opened."""
        store, self._opened = self._opened, None
        if store is not None:
            await store.close()

    @property
    def ready(self) -> ContextStore | None:
        """The store, if it is open already."""
        return self._opened if self.store is None else self.store

    def used(self) -> AbstractAsyncContextManager[ContextStore | None]:
        """Yield the open store, or one opened for this call, or None if there is none."""
        if (ready := self.ready) is not None or self._url is None:
            return nullcontext(ready)
        return self._used_folder(self._url) if is_json_address(self._url) else open_store(self._url)

    @asynccontextmanager
    async def required(self, doing: str, feature: str) -> AsyncIterator[ContextStore]:
        """Yield the store; without one, what is to be done is unsupported."""
        async with self.used() as store:
            if store is None:
                raise UnsupportedByStoreError(doing, "a context without a store", feature)
            yield store

    @asynccontextmanager
    async def with_revisions(self) -> AsyncIterator[RevisionStore]:
        """Yield the store, which must keep revisions."""
        doing, feature = SHOW_STATES
        async with self.required(doing, feature) as store:
            if Feature.REVISIONS not in store.features or not isinstance(store, RevisionStore):
                raise UnsupportedByStoreError(doing, store.database_url, feature)
            yield store

    @asynccontextmanager
    async def _used_folder(self, url: str) -> AsyncIterator[ContextStore]:
        yield await self._open_folder(url)

    async def _open_folder(self, url: str) -> ContextStore:
        # It holds nothing open, and only this object knows which saves it wrote.
        self.store = await open_store(url)
        return self.store

    def in_turn(self) -> asyncio.Lock:
        """Return the lock that admits one save or load of a context at a time."""
        loop = running_loop("save or load a context")
        if self._turn is None or self._turn_loop is not loop:
            self._turn, self._turn_loop = asyncio.Lock(), loop
        return self._turn
