"""Work on threads until the process is gone: a last save may come when the main thread is through."""

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

_Call = Callable[[], None]


def check_queues() -> None:
    """See that threads can be told what to do.

    Raises:
        ReplacedQueuesError: gevent has replaced the queues that they wait at, and not them.
    """
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("queue") and not gevent.is_module_patched("threading"):
        raise ReplacedQueuesError()


async def on_thread(work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
    """Do something on a thread, as ``asyncio.to_thread`` does; also when the main thread is through.

    Raises:
        ReplacedQueuesError: No thread could be told.
    """
    check_queues()
    call = partial(contextvars.copy_context().run, work, *arguments, **named)
    try:
        future = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        # The loop's threads take nothing any more, and this loop is of another thread, or of an atexit handler.
        future = asyncio.wrap_future(_on_its_own_thread(call))
    return await future


def _on_its_own_thread(call: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    threading.Thread(target=_settle, args=(future, call), name="taskctx-late", daemon=True).start()
    return future


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    """Make the call, and give what comes of it to the future, unless it was cancelled before."""
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

    The ordinary one refuses all work as soon as the main thread is through, when other threads and functions that are
    registered with ``atexit`` still save. These threads are daemons, so they hold up nobody's exit.
    """

    # It is one only by name: asyncio takes nothing else. None of its own machinery is used.

    def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
        """Take how many threads there may be, and how to name them."""
        super().__init__(max_workers, thread_name_prefix)
        self._most: Final = max_workers
        self._name: Final = thread_name_prefix
        self._calls: Final[SimpleQueue[_Call]] = SimpleQueue()
        self._turn: Final = threading.Lock()
        self._started = 0
        self._unfinished = 0

    def submit(self, work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Have it done on one of the threads."""
        future: Future[T] = Future()
        call = partial(_settle, future, partial(work, *arguments, **named))
        with self._turn:
            self._unfinished += 1
            if self._started < min(self._unfinished, self._most):
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        self._calls.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: they end with the process."""

    def _work(self) -> Any:
        while True:
            self._calls.get()()
            with self._turn:
                self._unfinished -= 1
