"""Room for nested values, whatever the caller's stack left of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def with_fresh_stack(work: Callable[[], T]) -> T:
    """Do the work, again on a thread of its own if the caller's stack left too little room for it.

    Python counts a value's nesting and the caller's frames against one limit, so that what was written under a
    short stack could not be read under a long one.
    """
    try:
        return work()
    except RecursionError:
        outcome: list[T] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # handed to the caller, below
                failure.append(error)

        thread = threading.Thread(target=run, name="taskctx-codec")
        thread.start()
        thread.join()
        if failure:
            raise failure[0] from None
        return outcome[0]
