"""A store for plain and for async tests at once: it lives in the library's own event loop, whoever calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from taskctx_sql.concurrency import blocking, is_running, running_loop, wait_until_done
from taskctx_sql.model import ContextKey, ContextSummary, Delta, Difference, Loaded, Revision, Saved, StoredUpdate
from taskctx_sql.stores import Feature, Store

if TYPE_CHECKING:
    from taskctx_sql.sql.reports import Reports
    from taskctx_sql.sql.store import SqlStore

T = TypeVar("T")
_END: Any = object()


class AnyLoopStore(Store):
    """Passes each call on to a store that was opened with a plain ``with``.

    A plain test waits for a call by `blocking`; an async test awaits it, whatever its event loop. `maintenance` and
    `transfer` need a store of the caller's own loop instead.
    """

    def __init__(self, store: SqlStore) -> None:
        """Use a store of the library's loop, which the caller closes."""
        self._store = store
        self._home = blocking(_get_loop())

    @property
    def database_url(self) -> str:
        return self._store.database_url

    @property
    def features(self) -> frozenset[Feature]:
        return self._store.features

    async def load(
        self,
        key: ContextKey,
        /,
        *,
        history_limit: int | None = None,
        revision: int | None = None,
        at: float | None = None,
        max_chars: int | None = None,
        types: Sequence[str] | None = None,
        keep_types: Sequence[str] = (),
    ) -> Loaded:
        selection: dict[str, Any] = {"history_limit": history_limit, "revision": revision, "at": at}
        selection |= {"max_chars": max_chars, "types": types, "keep_types": keep_types}
        return await self._there(self._store.load(key, **selection))

    async def save(self, delta: Delta, /) -> Saved:
        return await self._there(self._store.save(delta))

    async def updates(
        self, key: ContextKey, /, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[StoredUpdate]:
        rows = self._iterate(self._store.updates(key, after=after, before=before, newest_first=newest_first))
        try:
            async for row in rows:
                yield row
        finally:
            await rows.aclose()

    async def contexts(
        self, user_id: str, /, *, after: ContextSummary | None = None, limit: int = 100
    ) -> Sequence[ContextSummary]:
        return await self._there(self._store.contexts(user_id, after=after, limit=limit))

    async def delete(self, key: ContextKey, /) -> bool:
        return await self._there(self._store.delete(key))

    async def close(self) -> None:
        await self._there(self._store.close())

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        return await self._there(self._store.revisions(key, before=before, limit=limit))

    async def difference(self, key: ContextKey, old: int, new: int, /) -> Difference:
        return await self._there(self._store.difference(key, old, new))

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        return await self._there(self._store.fork(key, chat_id, revision=revision))

    def watch(
        self, key: ContextKey, /, *, after: int = 0, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        watch = self._store.watch

        async def begin() -> AsyncGenerator[StoredUpdate, None]:
            return watch(key, after=after, poll_interval=poll_interval)

        if is_running(self._home):
            return watch(key, after=after, poll_interval=poll_interval)
        # At once, so that a wrong argument is reported here.
        return self._iterate(blocking(begin()))

    @property
    def reports(self) -> Reports:
        from taskctx_sql.sql.reports import Reports

        query: Callable[..., Coroutine[Any, Any, Any]] = self._store.query

        async def query_there(*arguments: Any, **options: Any) -> Any:
            return await self._there(query(*arguments, **options))

        return Reports(query_there)

    def __repr__(self) -> str:
        return f"AnyLoopStore({self.database_url!r})"

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        if running_loop("use the store of a test") is self._home:
            return await work
        done: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self._home.create_task(work))
            tasks[0].add_done_callback(partial(_pass_on, done))

        self._home.call_soon_threadsafe(start)
        waiting = asyncio.wrap_future(done)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # It has started by the time that this is called.
            self._home.call_soon_threadsafe(lambda: tasks[0].cancel())
            # A save is finished, and a read has let go of its connection, before the cancellation goes on.
            await wait_until_done(waiting)
            if not waiting.cancelled():
                waiting.exception()
            raise

    async def _iterate(self, rows: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        try:
            while (row := await self._there(_await(anext(rows, _END)))) is not _END:
                yield row
        finally:
            if (close := getattr(rows, "aclose", None)) is not None:
                await self._there(close())


def _pass_on(done: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        done.cancel()
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


async def _await(work: Awaitable[T]) -> T:
    return await work


async def _get_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
