"""Forked processes."""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork(renew: Callable[[], None]) -> Callable[[], None]:
    """Call a function in each forked child, as a decorator.

    No other thread exists there: a lock that one of the parent's threads held is never released, and must be renewed.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)
    return renew
