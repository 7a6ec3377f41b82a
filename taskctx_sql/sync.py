"""The sync face: one event loop on a thread of its own, to which sync code forwards."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from typing import Any, TypeVar, overload

T = TypeVar("T")

_start = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0


@overload
def blocking(work: AsyncIterator[T]) -> Iterator[T]: ...
@overload
def blocking(work: Awaitable[T]) -> T: ...
def blocking(work: Awaitable[Any] | AsyncIterator[Any]) -> Any:
    """Wait for async work from sync code, and return what it returns.

    ``blocking(context.save())`` saves; ``for row in blocking(store.updates(key))`` reads. The work runs on the
    library's own event loop, where everything opened with a plain ``with`` lives. The thread that calls waits.

    Raises:
        RuntimeError: It was called from that very loop, which would wait for itself.
    """
    if isinstance(work, AsyncIterator):
        return _iterate(work)
    if _is_our_thread():
        if isinstance(work, Coroutine):
            work.close()
        raise RuntimeError("blocking() was called on the loop that it waits for: use await there")
    return _run(_await(work))


def _run(work: Coroutine[Any, Any, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, _running_loop())
    try:
        return future.result()
    except BaseException:
        # An interruption, such as Ctrl-C: what is under way is told, and finishes or undoes its work.
        future.cancel()
        raise


def _is_our_thread() -> bool:
    try:
        return asyncio.get_running_loop() is _loop
    except RuntimeError:
        return False


async def _await(work: Awaitable[T]) -> T:
    return await work


def _iterate(work: AsyncIterator[T]) -> Iterator[T]:
    end = object()
    try:
        while (item := _run(_await(anext(work, end)))) is not end:
            yield item  # type: ignore[misc]  # anext's default is told apart by identity
    finally:
        close = getattr(work, "aclose", None)
        if close is not None:
            _run(_await(close()))


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _owner
    with _start:
        # After a fork the child has the variable, but not the thread.
        if _loop is None or _owner != os.getpid():
            loop = asyncio.new_event_loop()
            # A daemon, so that a store that nobody closed does not keep the interpreter from its exit.
            threading.Thread(target=loop.run_forever, name="taskctx-blocking", daemon=True).start()
            _loop, _owner = loop, os.getpid()
        return _loop
