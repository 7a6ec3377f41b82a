"""Fixtures: a real Postgres that the tests bring with them, and one store of each kind to run a test over."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore, Store, open_store, schema
from taskctx_sql.sql import engines
from tests.integrations import frameworks
from tests.support import accounts, citus, connections, pgbouncer, postgres
from tests.support.connections import Connection
from tests.support.postgres import Server
from tests.support.programs import Programs
from tests.support.waiting import SOON

T = TypeVar("T")
Opener = Callable[..., AbstractAsyncContextManager[Store]]

settings.register_profile(
    "tests",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tests")

# A Citus does not install with pip, so it is tested where one is named. If that one is away, the tests fail.
CITUS_URL = os.environ.get("TASKCTX_TEST_CITUS_URL", "")
ON_CITUS = ["citus"] if CITUS_URL else []
collect_ignore = [] if CITUS_URL else ["sql/schema/test_citus.py"]


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many workers as there are cores, and one more: the tests wait most of their time."""
    return 2 * (os.cpu_count() or 1) + 1


def wide(*values: Any) -> list[Any]:
    """Parameters that the ordinary run leaves out."""
    return [pytest.param(value, marks=pytest.mark.wide) for value in values]


# The fixtures of the kinds of connections that are reached in another way than the plain one.
URLS = {
    "schema": "schema_url",
    "pgbouncer": "pgbouncer_url",
    "pgbouncer asyncpg": "pgbouncer_url",
    "row-level security": "tenant_url",
    "citus": "citus_url",
}
ENGINES = ("sqlite", "postgres", *wide(*ON_CITUS))
STORES = ("json", *ENGINES)
# Kinds of connections other than an address of the library's, for what shows the contract of stores.
ELSEWHERE = ("sqlite engine", *(kind for kind in connections.ON_POSTGRES if kind != connections.PLAIN))
# These share their driver with one kind, and the way to it with another; chaos and exploration take them always.
_LIKE_OTHERS = ("sqlite engine", "postgres engine", "psycopg", "pgbouncer asyncpg")
if not os.environ.get("TASKCTX_TEST_EVERY_CONNECTION"):
    ELSEWHERE = tuple(kind for kind in ELSEWHERE if kind not in _LIKE_OTHERS)
DATABASES = ("sqlite", "postgres", *wide(*ELSEWHERE, *ON_CITUS))
ON_POSTGRES = ("postgres", *wide(*(kind for kind in ELSEWHERE if kind != "sqlite engine"), *ON_CITUS))
# For what depends on the engine and the driver alone.
DRIVERS = ("json", "sqlite", "postgres", *wide(*(kind for kind in ELSEWHERE if kind not in URLS), *ON_CITUS))
# The thread of the sync face lives as long as the process; an event loop's own workers end with the loop.
EXPECTED_THREADS = ("MainThread", "taskctx-blocking", "asyncio_")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a Postgres: the one that is named, or one of our own. A named one that is away fails the tests."""
    named = os.environ.get("TASKCTX_TEST_POSTGRES_URL")
    if named:
        yield named
        return
    with Server() as server:
        yield server.url


def run_on_a_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run it on a thread: a test that has a loop may be the first that needs a database."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()


@contextmanager
def new_database(server: str, *, row_level_security: bool = False) -> Iterator[str]:
    """Yield a database at the newest schema. At the end nobody may be connected to it."""
    url = run_on_a_thread(postgres.create_database(server))
    run_on_a_thread(schema.upgrade(url, row_level_security=row_level_security or None))
    yield url
    left = run_on_a_thread(postgres.connections_left(server, url))
    run_on_a_thread(postgres.drop_database(server, url))
    assert left == 0, "the tests left connections open"


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of this test run."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def schema_url(postgres_url: str) -> str:
    """The database of this test run, where the tables are in a schema of choice, too."""
    run_on_a_thread(schema.upgrade(postgres_url, schema=connections.SCHEMA))
    return postgres_url


@pytest.fixture(scope="session")
def guarded_url(postgres_server: str) -> Iterator[str]:
    """One under row-level security, as its owner sees it: whole."""
    with new_database(postgres_server, row_level_security=True) as url:
        yield url


@pytest.fixture(scope="session")
def tenant_url(guarded_url: str) -> Iterator[str]:
    """The same, as the application's account sees it: one user at a time."""
    url = run_on_a_thread(accounts.create(guarded_url))
    yield url
    run_on_a_thread(accounts.drop(guarded_url, url))


@pytest.fixture
async def tenant_store(tenant_url: str) -> AsyncIterator[SqlStore]:
    """A store of the application's account."""
    opened = await SqlStore.open(tenant_url, retry_seconds=5)
    yield opened
    await opened.close()


@pytest.fixture
async def mine(user: str, tenant_store: SqlStore) -> ContextKey:
    """A context of the one who asks, with rows in each table."""
    return await accounts.filled(tenant_store, ContextKey(f"mine-{user}", "c1"))


@pytest.fixture
async def theirs(user: str, tenant_store: SqlStore) -> ContextKey:
    """A context of somebody else."""
    return await accounts.filled(tenant_store, ContextKey(f"theirs-{user}", "c1"))


def pytest_report_header() -> list[str]:
    return [
        f"pgbouncer: {pgbouncer.BINARY or 'not installed, so the wide tests behind it are skipped'}",
        f"integrations not installed: {', '.join(frameworks.missing()) or 'none'}",
        "citus: " + (engines.mask(CITUS_URL) if CITUS_URL else "TASKCTX_TEST_CITUS_URL names none: it is not tested"),
    ]


@pytest.fixture(scope="session")
def pgbouncer_url(postgres_url: str) -> Iterator[str]:
    """The database behind a pgbouncer in transaction mode, with fewer connections than the tests ask for."""
    with pgbouncer.running(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def citus_url() -> Iterator[str]:
    """A database of this test run on the Citus that is named, at the newest schema."""
    with asyncio.Runner() as runner:
        database = citus.new_database(CITUS_URL)
        url = runner.run(database.__aenter__())
        runner.run(schema.upgrade(url))
        yield url
        left = runner.run(postgres.connections_left(CITUS_URL, url))
        runner.run(database.__aexit__(None, None, None))
    assert left == 0, "the tests left connections open"


@pytest.fixture
async def empty_postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A database with nothing in it."""
    async with postgres.new_database(postgres_server, upgraded=False) as url:
        yield url


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file at the newest schema, to be copied: a copy takes a tenth of the time that an upgrade takes."""
    path = tmp_path_factory.mktemp("sqlite") / "tasks.db"
    run_on_a_thread(schema.upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The address of a store of that kind, with nothing of this test in it."""
    if kind == "json":
        return f"json:///{tmp_path}/tasks"
    return connection_of(kind, tmp_path, request).address


@pytest.fixture
def reopened(kind: str, address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Opener:
    """Opens a store of that kind, with the options of `open_store`; the same as the others of this test."""
    return partial(open_store, address) if kind == "json" else connection_of(kind, tmp_path, request).store


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each database in turn, at the newest schema."""
    return connection_of(str(request.param), tmp_path, request).address


def connection_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Connection:
    """The connection of one kind, to a database of this test run or to a file in the folder."""
    if kind not in connections.ON_SQLITE:
        return Connection(kind, str(request.getfixturevalue(URLS.get(kind, "postgres_url"))))
    path = folder / "tasks.db"
    if not path.exists():
        shutil.copy(request.getfixturevalue("sqlite_file"), path)
    return Connection(kind, f"sqlite:///{path}")


@pytest.fixture
async def store(reopened: Opener) -> AsyncIterator[Store]:
    """An open store of each kind in turn."""
    async with reopened() as opened:
        yield opened


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with our settings, that the test can listen to."""
    made = engines.create_engine(engines.parse_url(database_url))
    yield made
    await made.dispose()


@pytest.fixture
async def sql_store(engine: AsyncEngine) -> AsyncIterator[SqlStore]:
    opened = await SqlStore.open(engine, retry_seconds=5)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    """What starts Python programs in little time."""
    with Programs() as running:
        yield running


@pytest.fixture
def user() -> str:
    """A user that no other test has, since all tests share one Postgres."""
    return f"user-{uuid.uuid4().hex[:12]}"


class Clock:
    """A clock that moves a millisecond whenever somebody looks."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of this test."""
    return Clock()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours from outside reaches a test."""
    for name in list(os.environ):
        if name.startswith("AIECS_") or (name.startswith("TASKCTX_") and not name.startswith("TASKCTX_TEST_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in a folder of its own, and leaves no thread, and no file elsewhere."""
    monkeypatch.chdir(tmp_path)
    before, running = set(Path(__file__).parent.parent.iterdir()), set(threading.enumerate())
    # Commands that run in this process set it up for themselves.
    logger = logging.getLogger("taskctx_sql")
    level, handlers = logger.level, logger.handlers
    yield
    logger.setLevel(level)
    logger.handlers = handlers
    gc.collect()
    # A driver does not wait for its threads' end, which takes a moment on a busy machine.
    until = time.monotonic() + SOON
    while left := [one.name for one in {*threading.enumerate()} - running if not one.name.startswith(EXPECTED_THREADS)]:
        assert time.monotonic() < until, f"threads left behind: {left}"
        time.sleep(0.01)
    tools = {".hypothesis", ".pytest_cache", "__pycache__", "taskctx_sql.egg-info"}
    # Of the checks that CI runs at the same time.
    tools |= {".import_linter_cache", ".mypy_cache", ".ruff_cache"}
    assert {path.name for path in set(Path(__file__).parent.parent.iterdir()) - before} <= tools


def pytest_collection_finish() -> None:
    """Let each test's own collection of garbage leave out what is there before the first one."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Leave what outlives a test out of the next collections, which took longer from test to test."""
    yield
    # Otherwise held until later, the fixtures' values would be kept for good.
    getattr(item, "funcargs", {}).clear()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_left_at_the_end() -> Iterator[None]:
    """What outlives its test is collected at the end of the run, where it warns if it was not closed."""
    yield
    gc.unfreeze()
    gc.collect()
