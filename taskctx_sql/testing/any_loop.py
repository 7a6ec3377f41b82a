"""A store for plain and for async tests at once: it lives in the library's own event loop, whoever calls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from taskctx_sql.concurrency import blocking, is_running, running_loop, wait_until_done
from taskctx_sql.model import (
    ContextKey,
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
from taskctx_sql.stores import Feature, Store

if TYPE_CHECKING:
    from taskctx_sql.model.search import SearchHit
    from taskctx_sql.sql.reports import Report, Reports
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
        self,
        key: ContextKey,
        /,
        *,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
        types: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StoredUpdate]:
        which: dict[str, Any] = {"newest_first": newest_first, "types": types, "limit": limit}
        rows = self._iterate(self._store.updates(key, after=after, before=before, **which))
        try:
            async for row in rows:
                yield row
        finally:
            await rows.aclose()

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
        return await self._there(
            self._store.contexts(
                user_id,
                after=after,
                limit=limit,
                labels=labels,
                title=title,
                updated_since=updated_since,
                state=state,
            )
        )

    async def delete(self, key: ContextKey, /) -> bool:
        return await self._there(self._store.delete(key))

    async def ping(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # the protocol's name
        await self._there(self._store.ping(timeout=timeout))

    async def close(self) -> None:
        await self._there(self._store.close())

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        return await self._there(self._store.revisions(key, before=before, limit=limit))

    async def difference(self, key: ContextKey, old: int, new: int, /, *, limit: int | None = None) -> Difference:
        return await self._there(self._store.difference(key, old, new, limit=limit))

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        return await self._there(self._store.fork(key, chat_id, revision=revision))

    async def write(self, key: ContextKey, /, **content: Any) -> Saved:
        return await self._there(self._store.write(key, **content))

    async def write_together(self, writes: Sequence[Write], /) -> list[Saved]:
        return await self._there(self._store.write_together(writes))

    async def state(self, key: ContextKey, /, *names: str, **which: Any) -> Sequence[StateEntry]:
        return await self._there(self._store.state(key, *names, **which))

    async def data(
        self, key: ContextKey, /, *, types: Sequence[str] | None = None, limit: int | None = None
    ) -> list[Any]:
        return await self._there(self._store.data(key, types=types, limit=limit))

    async def label(self, key: ContextKey, /, **labels: Any) -> int:
        return await self._there(self._store.label(key, **labels))

    async def pop_update(self, key: ContextKey, /, *, types: Sequence[str] | None = None) -> StoredUpdate | None:
        return await self._there(self._store.pop_update(key, types=types))

    async def clear_updates(self, key: ContextKey, /, *, types: Sequence[str] | None = None) -> int:
        return await self._there(self._store.clear_updates(key, types=types))

    async def open_calls(self, key: ContextKey | None = None, /, *, user_id: str | None = None) -> Sequence[OpenCall]:
        return await self._there(self._store.open_calls(key, user_id=user_id))

    async def close_calls(self, key: ContextKey, /, *, error: str = "interrupted") -> Sequence[OpenCall]:
        return await self._there(self._store.close_calls(key, error=error))

    def watch(
        self, key: ContextKey, /, *, after: int = 0, created_at: float | None = None, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        watch = self._store.watch

        async def begin() -> AsyncGenerator[StoredUpdate, None]:
            return watch(key, after=after, created_at=created_at, poll_interval=poll_interval)

        if is_running(self._home):
            return watch(key, after=after, created_at=created_at, poll_interval=poll_interval)
        # At once, so that a wrong argument is reported here.
        return self._iterate(blocking(begin()))

    @property
    def reports(self) -> Reports:
        from taskctx_sql.sql.reports import Reports

        reports = self._store.reports
        return Reports(self._query_there, reports._engine, reports._schema)

    def search(self, text: str, /, **options: Any) -> Report[SearchHit]:
        found = copy(self._store.search(text, **options))
        found._query = self._query_there
        return found

    async def search_backlog(self) -> int | None:
        return await self._there(self._store.search_backlog())

    async def _query_there(self, *arguments: Any, **options: Any) -> Any:
        query: Callable[..., Coroutine[Any, Any, Any]] = self._store.query
        return await self._there(query(*arguments, **options))

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
