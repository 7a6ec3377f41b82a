"""Close acquired resources, newest first; a failure stops no other."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger: logging.Logger = logging.getLogger(__name__)

Settle = Callable[[Awaitable[Any]], Coroutine[Any, Any, None]]


def _log(name: str, error: Exception) -> None:
    logger.error("resource %r could not be closed: %s", name, error, exc_info=error)


class Resources:
    """Resources to close: ``named`` are those a context shows; others were replaced under their name."""

    def __init__(self, report: Callable[[str, Exception], None] = _log) -> None:
        """Start with nothing; ``report`` is called for each resource that could not be closed."""
        self._report = report
        self.named: dict[str, Any] = {}
        self._acquired: list[tuple[str, Any]] = []
        self._replaced: list[Any] = []

    def add(self, name: str, resource: Any) -> None:
        """Add a resource; one that it replaces under its name will be closed, too."""
        if name in self.named and self.named[name] is not resource:
            self._replaced.append(self.named[name])
        self.named[name] = resource
        self._acquired.append((name, resource))

    async def close_all(self, settle: Settle) -> None:
        """Close every resource once, newest first, and forget it.

        Resources that were added to ``named`` directly count as newest; those that were removed from it are not closed.
        A failure is reported and stops no other. An interruption, such as a cancellation, is raised when all are
        closed.

        Args:
            settle: Awaits what a ``close()`` returned, if it is awaitable.
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
        """Do what `close_all` does on the calling thread, which created the resources.

        Args:
            wait: Waits for the awaitable that a ``close()`` returned.
        """

        async def settle(result: Awaitable[Any]) -> None:
            wait(result)

        # It never suspends, so a single send completes it.
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
    """Call ``aclose()``, or else ``close()``, if the resource has one."""
    for method_name in ("aclose", "close"):
        method = getattr(resource, method_name, None)
        if callable(method):
            result = method()
            if inspect.isawaitable(result):
                await settle(result)
            return
