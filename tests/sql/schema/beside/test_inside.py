"""The library is upgraded inside a migration run of an application: from a revision, or from env.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import blocking, schema
from taskctx_sql.errors import InvalidArgumentError, InvalidDatabaseUrlError
from tests.support.application import (
    AWAITED,
    CALLED,
    CREATE_ORDERS,
    DOWNGRADE,
    DROP_ORDERS,
    FILTER_NAMES,
    FILTER_OBJECTS,
    MERGED,
    OURS,
    UPGRADE,
    UPGRADE_TO,
    Application,
    names,
    saves,
    versions,
)

OLDER = UPGRADE_TO.replace("0007", "0003")
MIGRATE = """\
def migrate() -> None:
    if not context.is_offline_mode():
        schema.upgrade_connection(context.get_bind())
    context.run_migrations()
"""


def test_a_revision_of_the_applications_upgrades_the_library_and_goes_on(url: str, application: Application) -> None:
    application.add_revision("first", [UPGRADE_TO, CREATE_ORDERS, UPGRADE, OLDER], [DOWNGRADE, DROP_ORDERS])
    application.add_revision(
        "second",
        ['op.add_column("orders", sa.Column("total", sa.Integer))'],
        ['op.drop_column("orders", "total")'],
        after="first",
    )
    application.alembic("upgrade", "head")
    assert names(url) == OURS | {"orders", "alembic_version"}
    assert versions(url) == {"second"}
    saves(url)
    application.alembic("downgrade", "base")
    assert names(url) == {"alembic_version"}
    application.alembic("upgrade", "head")
    saves(url)


def test_what_a_revision_does_after_our_upgrade_is_in_the_same_transaction(url: str, application: Application) -> None:
    application.add_revision("first", [UPGRADE, CREATE_ORDERS, "raise KeyError(1)"])
    with pytest.raises(KeyError):
        application.alembic("upgrade", "head")
    # On SQLite alembic creates its own table before the transaction of the revision.
    assert names(url) in (set(), {"alembic_version"})
    application.add_revision("first", [UPGRADE, CREATE_ORDERS])
    application.alembic("upgrade", "head")
    saves(url)


@pytest.mark.parametrize("application", ["generic", "async"], indirect=True)
@pytest.mark.parametrize("place", ["before", "inside"])
def test_env_py_upgrades_the_library_before_the_applications_migrations(
    url: str, application: Application, place: str
) -> None:
    application.add_revision("first")
    if place == "inside":
        # In the transaction that alembic begins.
        application.edit(
            "migrations/env.py",
            ("        context.run_migrations()\n", "        migrate()\n"),
            ("def run_migrations_offline", f"{MIGRATE}\n\ndef run_migrations_offline"),
        )
    elif application.is_async:
        application.edit(
            "migrations/env.py",
            (
                "        await connection.run_sync(do_run_migrations)",
                f"        {AWAITED}\n        await connection.run_sync(do_run_migrations)",
            ),
        )
    else:
        application.edit(
            "migrations/env.py",
            (
                "as connection:\n        context.configure(",
                f"as connection:\n        {CALLED}\n        context.configure(",
            ),
        )
    application.alembic("upgrade", "head")
    application.alembic("upgrade", "head")
    assert names(url) == OURS | {"orders", "alembic_version"}
    saves(url)
    assert "CREATE TABLE orders" in application.alembic("upgrade", "head", sql=True)
    application.alembic("downgrade", "base")
    assert names(url) == OURS | {"alembic_version"}


def test_a_revision_that_upgrades_the_library_cannot_be_printed(application: Application) -> None:
    application.add_revision("first", [UPGRADE, CREATE_ORDERS])
    with pytest.raises(InvalidArgumentError, match="offline mode"):
        application.alembic("upgrade", "head", sql=True)


def test_the_async_functions_name_those_for_a_connection_that_is_not_async() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        given: Any = connection
        for attempt in (schema.upgrade(given), schema.downgrade(given, "base")):
            with pytest.raises(InvalidDatabaseUrlError, match=r"schema\.upgrade_connection"):
                blocking(attempt)
    engine.dispose()


def test_the_page_shows_what_is_tested_here(tmp_path: Path, create: Callable[..., Application]) -> None:
    application = create(f"sqlite:///{tmp_path}/app.db", "generic")
    application.list_the_branch()
    shown = [UPGRADE_TO, DOWNGRADE, *(f"{option}," for option in (FILTER_NAMES, FILTER_OBJECTS)), MERGED[1]]
    shown += [AWAITED, CALLED]
    shown += [line for line in (tmp_path / "alembic.ini").read_text().splitlines() if ":migrations" in line]
    page = (Path(__file__).parents[4] / "docs" / "pages" / "guides" / "alembic.md").read_text()
    assert [line for line in shown if line.strip() not in page] == []
