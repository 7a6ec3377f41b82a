"""What a short way past SQLAlchemy for reads promises, on both engines."""

from __future__ import annotations

from typing import Protocol, TypeVar

from taskctx_sql.sql.plan import Plan

T = TypeVar("T")


class Reader(Protocol):
    """A short way for reads. One that is cancelled is given up at once, and leaves nothing behind."""

    async def read(self, plan: Plan[T], rls_user: str | None) -> T:
        """Carry out steps that only read, and return what they return.

        Args:
            plan: What to read.
            rls_user: The user that the transaction is to name; None where nobody has to be named.

        Raises:
            Exception: What the driver raised.
            TaskContextError: What the steps raise.
        """

    async def close(self) -> None:
        """Give everything back, when what was asked is read."""

    def abandon(self) -> None:
        """Let it end by itself: for a store that nobody closed. Callable from anywhere."""
