"""Enough stack for deeply nested values."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def with_fresh_stack(work: Callable[[], T]) -> T:
    """Call a function, and on a RecursionError call it again on a thread of its own, which starts with an empty stack.

    Python counts the nesting of a value and the caller's frames against one limit. Without this, a value written from
    a short stack could not be read from a deep one.
    """
    try:
        return work()
    except RecursionError:
        outcome: list[T] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:  # raised below
                failure.append(error)

        thread = threading.Thread(target=run, name="taskctx-codec")
        thread.start()
        thread.join()
        if failure:
            raise failure[0] from None
        return outcome[0]
