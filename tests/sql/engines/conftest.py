"""What the drivers were told."""

from __future__ import annotations

import functools
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa

from taskctx_sql import ConnectionOptions
from taskctx_sql.sql import engines
from tests.sql.engines.connects import Connects


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Connects:
    """Returns what the driver of an address is told when it connects, with its name."""
    got: dict[str, Any] = {}

    async def connect_psycopg(**settings: Any) -> None:
        got.update(settings)
        raise psycopg.OperationalError

    @functools.wraps(asyncpg.connect)
    async def connect_asyncpg(**settings: Any) -> None:
        got.update(settings)
        got.setdefault("hosts", []).append((settings.get("host"), settings.get("port")))
        raise OSError

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect_psycopg)
    monkeypatch.setattr(asyncpg, "connect", connect_asyncpg)
    for variable in ("PGAPPNAME", "PGOPTIONS"):
        monkeypatch.delenv(variable, raising=False)

    async def ask(url: str, options: ConnectionOptions | None = None, **more: Any) -> dict[str, Any]:
        got.clear()
        parsed = engines.parse_url(url, options or ConnectionOptions())
        engine = engines.create_engine(parsed, options or ConnectionOptions(), **more)
        with pytest.raises((sa.exc.DBAPIError, OSError)):
            await engine.connect()
        await engine.dispose()
        return {"driver": engine.driver, **got}

    return ask
