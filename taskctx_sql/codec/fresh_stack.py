"""Enough stack for deeply nested values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from taskctx_sql.concurrency import on_own_thread

T = TypeVar("T")


def with_fresh_stack(work: Callable[[], T]) -> T:
    """Call a function, and on a RecursionError call it again on a thread of its own, which starts with an empty stack.

    Python counts the nesting of a value and the caller's frames against one limit. Without this, a value written from
    a short stack could not be read from a deep one.
    """
    try:
        return work()
    except RecursionError:
        future = on_own_thread(work)
    return future.result()
