"""The pytest plugin of taskctx_sql: fixtures for a store and a clock of each test.

A module of its own, outside the package: every pytest run where the package is installed imports it, and it imports the
package only when a test asks for one of the fixtures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from taskctx_sql import UnopenedStore
    from taskctx_sql.testing import AnyLoopStore, Clock
    from taskctx_sql.testing.databases import PostgresDatabases, SqliteDatabases

_KINDS: Final = ("memory", "file", "postgres")
_VARIABLE: Final = "TASKCTX_TEST_DATABASE_URL"

pytest.register_assert_rewrite("taskctx_sql.testing")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says where the databases of tests are."""
    where = f"memory or file, by SQLite, or postgres, on the server of {_VARIABLE}; if that is set, postgres by default"
    group = parser.getgroup("taskctx", "taskctx_sql")
    group.addoption("--taskctx-database", choices=_KINDS, help=f"The database of each test: {where}.")
    parser.addini("taskctx_database", f"The database of each test: {where}.", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what is configured wrongly before any test runs."""
    kind = _kind(config)
    if kind not in _KINDS:
        raise pytest.UsageError(f"taskctx_database = {kind} is not allowed: set it to {', '.join(_KINDS)}")
    if kind == "postgres" and not os.environ.get(_VARIABLE):
        raise pytest.UsageError(
            f"taskctx_database is postgres, and {_VARIABLE} is not set: "
            "set it to the address of a server, such as postgresql://user@host/postgres"
        )


def _kind(config: pytest.Config) -> str:
    chosen = config.getoption("--taskctx-database") or config.getini("taskctx_database")
    return str(chosen or ("postgres" if os.environ.get(_VARIABLE) else "memory"))


@pytest.fixture(scope="session")
def _taskctx_databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqliteDatabases | PostgresDatabases]:
    from taskctx_sql.errors import TaskContextError
    from taskctx_sql.testing.databases import PostgresDatabases, SqliteDatabases

    kind = _kind(request.config)
    databases: SqliteDatabases | PostgresDatabases
    if kind == "postgres":
        try:
            # With the name of a worker of pytest-xdist.
            databases = PostgresDatabases(os.environ[_VARIABLE], os.environ.get("PYTEST_XDIST_WORKER", "main"))
        except TaskContextError as error:
            # Without a traceback, which would show the password.
            pytest.fail(f"{_VARIABLE}: {error}", pytrace=False)
    else:
        databases = SqliteDatabases(tmp_path_factory.mktemp("taskctx"), in_memory=kind == "memory")
    yield databases
    databases.close()


@pytest.fixture
def taskctx_database_url(
    _taskctx_databases: SqliteDatabases | PostgresDatabases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a database of this test alone, at the newest schema and with nothing in it."""
    folder = tmp_path_factory.mktemp("taskctx") if _taskctx_databases.needs_folder else None
    with _taskctx_databases.new(folder) as url:
        yield url


@pytest.fixture
def taskctx_open(taskctx_database_url: str) -> Callable[..., UnopenedStore]:
    """Opens a store on this test's database, as `open_store` does, with its options."""
    from functools import partial

    from taskctx_sql import open_store

    return partial(open_store, taskctx_database_url)


@pytest.fixture
def taskctx_store(taskctx_open: Callable[..., Any]) -> Iterator[AnyLoopStore]:
    """An open store of this test. An async test awaits its calls, a plain one waits for them by `blocking`."""
    from taskctx_sql.testing import AnyLoopStore

    with taskctx_open() as store:
        yield AnyLoopStore(store)


@pytest.fixture
def taskctx_clock() -> Iterator[Clock]:
    """The time of this test, which stands still until the test sets or advances it."""
    from taskctx_sql import clock
    from taskctx_sql.testing import Clock

    with clock.replaced(made := Clock()):
        yield made
