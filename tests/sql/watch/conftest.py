"""What the tests of watching share."""

from __future__ import annotations

import sys

import pytest

from taskctx_sql.sql import watch
from tests.conftest import DATABASES, wide
from tests.support.connections import with_driver


@pytest.fixture(params=["asyncpg", *wide("psycopg")])
def listening_url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    """The address of a Postgres for each driver."""
    return with_driver(f"postgresql+{request.param}", postgres_url)


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store that can be watched."""
    return str(request.param)


@pytest.fixture
def only_notifications(monkeypatch: pytest.MonkeyPatch) -> float:
    """A poll interval with which nobody polls."""
    monkeypatch.setattr(sys.modules[watch.follow.__module__], "FIRST_PAUSE", 600.0)
    return 600.0
