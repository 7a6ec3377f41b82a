"""Notifying other processes of contexts that have grown: NOTIFY on Postgres. On SQLite the file itself shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.concurrency import wait_until_done
from taskctx_sql.sql.plan import Plan, Statement, Step, text

logger: logging.Logger = logging.getLogger(__name__)

CHANNEL: Final = "taskctx"
# Postgres commits transactions with a NOTIFY one after the other, under a lock of the whole server. So saves do not
# notify in their own transactions, and a store notifies at most this often, in seconds.
INTERVAL: Final = 0.05
# Postgres takes 8,000 bytes, and an id has 36.
MAX_IDS: Final = 200


class Notifier:
    """Notifies other processes by sending payloads: at once, then at most once per interval."""

    def __init__(self, send: Callable[[str], Awaitable[Any]]) -> None:
        self._send = send
        self._context_ids: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def notify(self, context_id: str) -> None:
        """Notify soon, in the background. Failures are only logged."""
        self._context_ids.add(context_id)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="taskctx-notifier")

    async def close(self) -> None:
        """Send what is left at once."""
        self._closing.set()
        if self._task is not None:
            await wait_until_done(self._task)

    async def _run(self) -> None:
        try:
            while self._context_ids:
                context_ids, self._context_ids = self._context_ids, set()
                try:
                    await self._send(encode_payload(context_ids))
                except Exception:
                    # Subscribers also poll, and the next save reports a database that is unreachable.
                    logger.debug("could not notify other processes", exc_info=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._closing.wait()
        finally:
            self._task = None


def notify(payload: str) -> Plan[None]:
    """Return the plan that notifies every listener of the database."""
    yield Step(_notify(), {"payload": payload}, reads=True)


def encode_payload(context_ids: Collection[str]) -> str:
    """Return the payload for these contexts; if they are too many, for all contexts."""
    return ",".join(context_ids) if len(context_ids) <= MAX_IDS else ""


def decode_payload(payload: str) -> list[str] | None:
    """Return the contexts of a payload; None for all contexts."""
    return payload.split(",") if payload else None


@cache
def _notify() -> Statement:
    return sa.select(sa.func.pg_notify(CHANNEL, text("payload")))
