"""What all errors have in common."""

from __future__ import annotations

from typing import Any


class TaskContextError(Exception):
    """Base of all of the library's errors. They pickle with all of their attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by the arguments, which are only the message.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[TaskContextError], args: tuple[Any, ...], facts: dict[str, Any]) -> TaskContextError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


def shown(value: object, most: int = 200) -> str:
    """Return a value as messages show it, even if its ``repr`` raises."""
    try:
        # A lone surrogate could not be printed.
        text = repr(value).encode("utf-8", "backslashreplace").decode()
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else f"{text[:most]}..."


def add_note(error: BaseException, failure: BaseException, doing: str) -> None:
    """Note on ``error``, which is the one raised, that something else failed after it."""
    error.add_note(f"and {doing} failed too: {type(failure).__name__}: {failure}")
