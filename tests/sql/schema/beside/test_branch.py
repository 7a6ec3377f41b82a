"""The library's migrations as a branch of an application's: executed and printed by its alembic."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from taskctx_sql import blocking, schema
from taskctx_sql.errors import (
    ForeignSchemaError,
    SchemaTooNewError,
    UnsupportedEncodingError,
)
from taskctx_sql.sql.schema import HEAD, REVISIONS, tables
from tests.sql.schema.test_printing import everything, in_file
from tests.sql.test_statements import STAND_IN
from tests.support.application import (
    CREATE_ORDERS,
    DROP_ORDERS,
    OURS,
    Application,
    look,
    names,
    run,
    saves,
    versions,
)
from tests.support.psql import psql


def test_the_branch_is_upgraded_and_downgraded_with_the_applications_command(
    url: str, application: Application
) -> None:
    application.list_the_branch()
    application.add_revision("first")
    application.alembic("upgrade", "first")
    assert names(url) == {"orders", "alembic_version"}
    application.alembic("upgrade", "taskctx@head")
    assert names(url) == OURS | {"orders", "alembic_version"}
    assert versions(url) == {"first", HEAD}
    saves(url)
    application.alembic("downgrade", REVISIONS[3])
    assert blocking(schema.current(url)) == REVISIONS[3]
    application.alembic("upgrade", "heads")
    saves(url)
    application.alembic("downgrade", "taskctx@base")
    assert names(url) == {"orders", "alembic_version"}
    assert blocking(schema.current(url)) is None
    application.alembic("upgrade", "heads")
    saves(url)


@pytest.mark.parametrize("found", [REVISIONS[3], HEAD])
def test_the_branch_and_the_librarys_own_command_agree(url: str, application: Application, found: str) -> None:
    application.list_the_branch()
    blocking(schema.upgrade(url, found))
    application.alembic("upgrade", REVISIONS[4])
    assert blocking(schema.current(url)) == max(found, REVISIONS[4])
    blocking(schema.upgrade(url))
    application.alembic("upgrade", "taskctx@head")
    assert versions(url) == versions(url, tables.VERSION_TABLE) == {HEAD}
    saves(url)
    blocking(schema.downgrade(url, REVISIONS[2]))
    application.alembic("downgrade", "taskctx@base")
    assert names(url) == {"alembic_version"}


def test_a_database_with_the_old_names_of_revisions_is_upgraded_by_the_branch(
    url: str, application: Application
) -> None:
    application.list_the_branch()
    blocking(schema.upgrade(url, REVISIONS[3]))
    run(url, f"UPDATE {tables.VERSION_TABLE} SET version_num = '0004'")
    application.alembic("upgrade", "heads")
    saves(url)


def test_the_branch_leaves_a_newer_database_as_it_is(url: str, application: Application) -> None:
    application.list_the_branch()
    blocking(schema.upgrade(url))
    newer = f"taskctx_9999_from_{HEAD[-4:]}"
    run(url, f"UPDATE {tables.VERSION_TABLE} SET version_num = '{newer}'")
    application.alembic("upgrade", "heads")
    assert versions(url) == {HEAD}
    assert blocking(schema.current(url)) == newer
    with pytest.raises(SchemaTooNewError, match=newer):
        application.alembic("downgrade", "taskctx@base")


def test_a_revision_of_the_applications_can_depend_on_the_branch(url: str, application: Application) -> None:
    application.list_the_branch()
    create = (
        'op.execute("CREATE VIEW chats AS SELECT o.id FROM orders o JOIN taskctx_contexts c ON c.chat_id = o.chat_id")'
    )
    application.add_revision(
        "first", [CREATE_ORDERS, create], ['op.execute("DROP VIEW chats")', DROP_ORDERS], depends_on=HEAD
    )
    application.alembic("upgrade", "first")
    saves(url)


def test_the_first_revision_of_an_application_with_the_branch(
    tmp_path: Path, create: Callable[..., Application]
) -> None:
    application = create(f"sqlite:///{tmp_path}/app.db", "generic")
    application.list_the_branch()
    first = {"head": "base", "branch_label": "shop", "version_path": "migrations/versions"}
    application.alembic("revision", message="orders", **first)
    application.alembic("revision", message="totals", head="shop@head")
    own = tmp_path / "migrations" / "versions"
    assert len(list(own.glob("*.py"))) == 2
    application.alembic("upgrade", "heads")
    saves(f"sqlite:///{tmp_path}/app.db")


# Printed by the application's alembic.


def in_database(url: str, name: str = "public") -> Any:
    """Everything that a database has."""
    if not url.startswith("postgres"):
        return in_file(Path(sa.make_url(url).database or ""))

    async def read() -> dict[str, list[str]]:
        connection = await asyncpg.connect(url)
        try:
            return await everything(connection, name)
        finally:
            await connection.close()

    return asyncio.run(read())


def execute(url: str, printed: str) -> None:
    if url.startswith("postgres"):
        asyncio.run(psql(url, printed))
        return
    with sqlite3.connect(sa.make_url(url).database or "") as connection:
        connection.executescript(printed)
    connection.close()


def test_the_branch_is_printed_as_it_is_executed(url: str, application: Application) -> None:
    application.list_the_branch()
    application.add_revision("first")
    printed = application.alembic("upgrade", "heads", sql=True)
    assert names(url) == set()
    execute(url, printed)
    found = in_database(url)
    saves(url)
    assert versions(url) == {"first", HEAD}
    application.alembic("downgrade", "base")
    application.alembic("upgrade", "heads")
    assert in_database(url) == found
    # Whether daily sums are there is not known when it is printed.
    blocking(schema.upgrade(url, sums=True))
    execute(url, application.alembic("downgrade", f"{HEAD}:{REVISIONS[3]}", sql=True))
    assert blocking(schema.sums_backlog(url)) is None
    assert blocking(schema.current(url)) == REVISIONS[3]
    execute(url, application.alembic("upgrade", f"{REVISIONS[3]}:taskctx@head", sql=True))
    saves(url)


def test_the_branch_has_its_tables_in_a_schema(empty_postgres_url: str, on_postgres: Application) -> None:
    url, name = empty_postgres_url, 'My "tasks"'
    on_postgres.list_the_branch(schema=name)
    on_postgres.add_revision("first")
    on_postgres.alembic("upgrade", "heads")
    assert names(url, name) == OURS
    assert names(url) == {"orders", "alembic_version"}
    saves(url, name)
    found = in_database(url, name)
    on_postgres.alembic("downgrade", "base")
    assert names(url, name) == set()
    run(url, "DROP TABLE alembic_version")
    execute(url, on_postgres.alembic("upgrade", "heads", sql=True))
    assert names(url) == {"orders", "alembic_version"}
    saves(url, name)
    assert in_database(url, name) == found


@pytest.mark.parametrize("printed", [False, True])
def test_under_row_level_security_what_the_branch_adds_is_guarded(
    empty_postgres_url: str, on_postgres: Application, printed: bool
) -> None:
    url = empty_postgres_url
    blocking(schema.upgrade(url, row_level_security=True))
    guarded = in_database(url)
    blocking(schema.downgrade(url, "base"))
    on_postgres.list_the_branch()
    on_postgres.alembic("upgrade", REVISIONS[0])
    blocking(schema.upgrade(url, REVISIONS[0], row_level_security=True))
    if printed:
        execute(url, on_postgres.alembic("upgrade", f"{REVISIONS[0]}:heads", sql=True))
    else:
        on_postgres.alembic("upgrade", "heads")
    found = in_database(url)
    assert found["policies"] == guarded["policies"]
    assert [record for record in found["views"] if "'alembic_version" not in record] == guarded["views"]
    assert blocking(schema.row_level_security(url))


def test_the_branch_checks_what_an_upgrade_checks(url: str, application: Application) -> None:
    run(url, "CREATE TABLE taskctx_runs (x TEXT)")
    application.list_the_branch()
    with pytest.raises(ForeignSchemaError, match="taskctx_runs"):
        application.alembic("upgrade", "heads")


def test_the_branch_refuses_a_database_that_cannot_hold_every_text(
    tmp_path: Path, create: Callable[..., Application]
) -> None:
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE yours (x TEXT)")
    connection.close()
    application = create(f"sqlite:///{tmp_path}/app.db", "generic")
    application.list_the_branch()
    with pytest.raises(UnsupportedEncodingError):
        application.alembic("upgrade", "heads")


@pytest.mark.parametrize("printed", [False, True])
def test_where_there_is_citus_the_branch_distributes_each_table(
    empty_postgres_url: str, on_postgres: Application, printed: bool
) -> None:
    url = empty_postgres_url
    execute(url, STAND_IN)
    on_postgres.list_the_branch()
    on_postgres.add_revision("first")
    if printed:
        execute(url, on_postgres.alembic("upgrade", "heads", sql=True))
    else:
        on_postgres.alembic("upgrade", "heads")
    distributed = sa.text("SELECT CAST(logicalrelid AS text) FROM pg_dist_partition")
    assert sorted(look(url, lambda connection: connection.scalars(distributed).all())) == sorted(OURS)
