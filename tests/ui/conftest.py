"""An application over each database, filled once, and a browser's requests to it without a network."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from taskctx_sql import Store, open_store
from taskctx_sql.ui.server import application
from tests.benchmarks import large
from tests.conftest import ENGINES, new_database

TASKS = 120
# Longer than any of these databases needs.
PATIENCE = 60.0


def fill(url: str) -> str:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, large.fill(url, TASKS)).result()
    return url


@pytest.fixture(scope="session")
def filled_postgres(postgres_server: str) -> Iterator[str]:
    with new_database(postgres_server) as url:
        yield fill(url)


@pytest.fixture(scope="session")
def filled_sqlite(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("filled") / "tasks.db"
    shutil.copy(sqlite_file, path)
    return fill(f"sqlite:///{path}")


@pytest.fixture(params=ENGINES[:2])
def filled_url(request: pytest.FixtureRequest) -> str:
    """A database of a hundred tasks and more, of each engine in turn."""
    return str(request.getfixturevalue(f"filled_{request.param}"))


@pytest.fixture
async def filled(filled_url: str) -> AsyncIterator[Store]:
    async with open_store(filled_url) as store:
        yield store


@pytest.fixture
async def look(filled: Store) -> AsyncIterator[httpx.AsyncClient]:
    async with client(filled) as found:
        yield found


def client(store: Store, **options: object) -> httpx.AsyncClient:
    """A client of an application without a token."""
    settings = {"token": None, "patience": PATIENCE, **options}
    transport = httpx.ASGITransport(app=application(store, **settings))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640")
