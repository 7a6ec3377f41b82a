"""Close acquired resources, newest first; a failure stops no other."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

logger: logging.Logger = logging.getLogger(__name__)


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

    async def close_all(self, wait: Callable[[Awaitable[Any]], Any] | None = None) -> None:
        """Close every resource once, newest first, and forget it.

        Resources that were added to ``named`` directly count as newest; those that were removed from it are not closed.
        A failure is reported and stops no other. An interruption, such as a cancellation, is raised when all are
        closed. If a ``close()`` returns an awaitable, it is awaited, or passed to ``wait``.
        """
        interruption: BaseException | None = None
        for name, resource in self._in_closing_order():
            try:
                result = _close(resource)
                if inspect.isawaitable(result):
                    await result if wait is None else wait(result)
            except Exception as error:
                self._report(name, error)
            except BaseException as error:
                interruption = interruption or error
        if interruption is not None:
            raise interruption

    def close_all_here(self, wait: Callable[[Awaitable[Any]], Any]) -> None:
        """Do what `close_all` does on the calling thread, which created the resources."""
        # It never suspends, so a single send completes it.
        with contextlib.suppress(StopIteration):
            self.close_all(wait).send(None)

    def _in_closing_order(self) -> list[tuple[str, Any]]:
        mine = set(map(id, [*self.named.values(), *self._replaced]))
        acquired = [(name, resource) for name, resource in self._acquired if id(resource) in mine]
        known = {id(resource) for _, resource in acquired}
        by_hand = [(name, resource) for name, resource in self.named.items() if id(resource) not in known]
        self.named.clear()
        self._acquired, self._replaced = [], []
        order: dict[int, tuple[str, Any]] = {}
        for name, resource in reversed(acquired + by_hand):
            order.setdefault(id(resource), (name, resource))
        return list(order.values())


def _close(resource: Any) -> Any:
    """Call ``aclose()``, or else ``close()``, if the resource has one."""
    for method_name in ("aclose", "close"):
        method = getattr(resource, method_name, None)
        if callable(method):
            return method()
    return None
