"""Threads that work until the process is gone: a last save may come when the main thread is through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Call = Callable[[], None]


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

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(*arguments, **named)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

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
