"""Threads that work until the process ends: a last save may come after the main thread has ended."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from taskctx_sql.errors import ReplacedQueuesError

P = ParamSpec("P")
T = TypeVar("T")


def check_queues() -> None:
    """Raise ReplacedQueuesError if gevent has replaced the queues, but not the threads that wait for them."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("queue") and not gevent.is_module_patched("threading"):
        raise ReplacedQueuesError()


async def on_thread(work: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
    """Call a function on a thread, as ``asyncio.to_thread`` does, even after the main thread has ended."""
    check_queues()
    call = partial(contextvars.copy_context().run, work, *arguments, **keywords)
    try:
        future = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        # The loop's threads accept no more work; this loop belongs to another thread, or to an atexit handler.
        future = asyncio.wrap_future(_on_own_thread(call))
    return await future


def with_fresh_stack(work: Callable[[], T]) -> T:
    """Call a function, and on a RecursionError call it again on a thread of its own, which starts with an empty stack.

    Python counts the nesting of a value and the caller's frames against one limit. Without this, a value written from
    a short stack could not be read from a deep one.
    """
    try:
        return work()
    except RecursionError:
        future = _on_own_thread(work)
    return future.result()


def _on_own_thread(work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    threading.Thread(target=_settle, args=(future, work), name="taskctx-own", daemon=True).start()
    return future


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    """Call a function and pass its result to the future, unless the future was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


class DaemonThreads(ThreadPoolExecutor):
    """An executor for an event loop that lives as long as the process.

    ThreadPoolExecutor refuses work once the main thread has ended, when other threads and ``atexit`` functions still
    save. These threads are daemons, so they do not delay the exit.
    """

    # A subclass only because asyncio requires one; nothing of the base class is used.

    def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._most: Final = max_workers
        self._name: Final = thread_name_prefix
        self._calls: Final[SimpleQueue[Callable[[], None]]] = SimpleQueue()
        self._turn: Final = threading.Lock()
        self._started = 0
        self._unfinished = 0

    def submit(self, work: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
        """Call a function on one of the threads."""
        future: Future[T] = Future()
        call = partial(_settle, future, partial(work, *arguments, **keywords))
        with self._turn:
            self._unfinished += 1
            if self._started < min(self._unfinished, self._most):
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        self._calls.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the threads end with the process."""

    def _work(self) -> Any:
        while True:
            self._calls.get()()
            with self._turn:
                self._unfinished -= 1
