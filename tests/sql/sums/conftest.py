"""Stores with daily sums, of which nothing but a test brings them up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from taskctx_sql import SqlStore, schema
from taskctx_sql.maintenance import erase
from taskctx_sql.sql.backends import catch_up
from tests.conftest import new_database
from tests.sql.sums.comparing import USERS, fold


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def own_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of these tests, where they ask for everybody's costs."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('sums') / 'tasks.db'}"
        return
    with new_database(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
async def store(own_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqlStore]:
    """A store with sums, which it does not bring up to date by itself."""
    monkeypatch.setattr(catch_up, "IDLE", 1e9)
    await schema.upgrade(own_url, sums=True)
    # With another option than other stores of a test, which would share what brings sums up to date.
    opened = await SqlStore.open(own_url, retry_seconds=5)
    for user in USERS:
        await erase(opened, user)
    while await fold(opened, 100):
        pass
    yield opened
    await opened.close()
