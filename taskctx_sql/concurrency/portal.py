"""The blocking interface: an event loop on a thread of its own runs async work for sync code."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from typing import Any, Final, TypeVar, overload

from taskctx_sql.concurrency.daemon_threads import DaemonThreads, check_queues
from taskctx_sql.errors import ReplacedQueuesError

T = TypeVar("T")

# Libraries that may replace threads, and the function that tells whether they did.
_PATCHERS: Final = {"gevent.monkey": "is_module_patched", "eventlet.patcher": "is_monkey_patched"}
# As many as asyncio's default executor.
_WORKERS: Final = min(32, (os.cpu_count() or 1) + 4)

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
        RuntimeError: It was called on that event loop, which would wait for itself; or while the interpreter shuts
            down; or gevent or eventlet has replaced the threads.
    """
    _check(work)
    return _iterate(work) if isinstance(work, AsyncIterator) else _run(_await(work))


def _check(work: object) -> None:
    """Raise RuntimeError if work cannot be waited for here."""
    if (refusal := _refusal()) is not None:
        if isinstance(work, Coroutine):
            # It never started; this avoids a warning about that.
            work.close()
        raise RuntimeError(refusal)


def _refusal() -> str | None:
    """Return the reason why nothing can be waited for here, or None."""
    if sys.is_finalizing():
        # The loop's thread has stopped by then: waiting for it would never end.
        return (
            "the interpreter is ending, and nothing can be saved or closed any more: "
            "leave the context before, or in a function that is registered with atexit"
        )
    if _is_our_thread():
        return "blocking() was called on the loop that it waits for: use await there"
    for name, is_patched in _PATCHERS.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module, is_patched)("threading" if name.startswith("gevent") else "thread"):
            return (
                f"{name.partition('.')[0]} has replaced the threads, and the event loop of plain `with` needs real "
                "ones: use threads or processes for workers, or `async with` in an asyncio program"
            )
    try:
        check_queues()
    except ReplacedQueuesError as error:
        return str(error)
    return None


def _run(work: Coroutine[Any, Any, T]) -> T:
    # The next row may be requested at another time or on another thread than the first.
    _check(work)
    future = asyncio.run_coroutine_threadsafe(work, _running_loop())
    try:
        return future.result()
    except BaseException:
        # An interruption, such as Ctrl-C: the work is cancelled, and completes or rolls back.
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
        # A generator is also closed when the interpreter shuts down, but the loop's thread has stopped by then.
        if close is not None and not sys.is_finalizing():
            _run(_await(close()))


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _owner
    with _start:
        # A forked child has the variable, but not the thread.
        if _loop is None or _owner != os.getpid():
            loop = asyncio.new_event_loop()
            loop.set_default_executor(DaemonThreads(max_workers=_WORKERS, thread_name_prefix="taskctx-blocking"))
            # A daemon, so that a store that was not closed does not prevent the exit.
            threading.Thread(target=loop.run_forever, name="taskctx-blocking", daemon=True).start()
            _loop, _owner = loop, os.getpid()
        return _loop
