"""Close what was acquired, newest first, whatever the others do."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

Settle = Callable[[Awaitable[Any]], Coroutine[Any, Any, None]]


def _log(name: str, error: Exception) -> None:
    logger.error("resource %r could not be closed: %s", name, error, exc_info=error)


class Resources:
    """What must be closed: ``named`` is what a context shows, and the rest is what was replaced under its name."""

    def __init__(self, report: Callable[[str, Exception], None] = _log) -> None:
        """Start with nothing; ``report`` is told of each resource that could not be closed."""
        self._report = report
        self.named: dict[str, Any] = {}
        self._acquired: list[tuple[str, Any]] = []
        self._replaced: list[Any] = []

    def add(self, name: str, resource: Any) -> None:
        """Take a resource; one that it replaces under its name will be closed as well."""
        if name in self.named and self.named[name] is not resource:
            self._replaced.append(self.named[name])
        self.named[name] = resource
        self._acquired.append((name, resource))

    async def close_all(self, settle: Settle) -> None:
        """Close every resource, and forget it.

        The newest goes first, and each goes once. What was put into ``named`` by hand counts as newest; what was
        taken out of it by hand is left alone. A failure is reported and stops no other. An interruption, such as a
        cancellation, goes on when all are closed.

        Args:
            settle: Waits for what a ``close()`` returned, if that can be awaited.
        """
        interruption: BaseException | None = None
        for name, resource in self._in_closing_order():
            try:
                await _close(resource, settle)
            except Exception as error:
                self._report(name, error)
            except BaseException as error:
                interruption = interruption or error
        if interruption is not None:
            raise interruption

    def close_all_here(self, wait: Callable[[Awaitable[Any]], Any]) -> None:
        """Do what `close_all` does, on the calling thread, which made the resources.

        Args:
            wait: Waits, elsewhere, for what a ``close()`` returned.
        """

        async def settle(result: Awaitable[Any]) -> None:
            wait(result)

        # It never suspends, so one step is all of it.
        with contextlib.suppress(StopIteration):
            self.close_all(settle).send(None)

    def _in_closing_order(self) -> list[tuple[str, Any]]:
        mine = [*self.named.values(), *self._replaced]
        acquired = [(name, resource) for name, resource in self._acquired if _holds(mine, resource)]
        by_hand = [
            (name, resource) for name, resource in self.named.items() if not _holds([r for _, r in acquired], resource)
        ]
        self.named.clear()
        self._acquired, self._replaced = [], []
        order: list[tuple[str, Any]] = []
        for name, resource in reversed(acquired + by_hand):
            if not _holds([r for _, r in order], resource):
                order.append((name, resource))
        return order


def _holds(resources: list[Any], resource: Any) -> bool:
    return any(held is resource for held in resources)


async def _close(resource: Any, settle: Settle) -> None:
    """Call ``aclose()``, or else ``close()``. A resource with neither needs no closing."""
    for method_name in ("aclose", "close"):
        method = getattr(resource, method_name, None)
        if callable(method):
            result = method()
            if inspect.isawaitable(result):
                await settle(result)
            return
