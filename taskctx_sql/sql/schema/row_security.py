"""Row-level security on Postgres: a transaction sees only the rows of the user that it names.

An opt-in, switched by `schema.upgrade`. It is no revision: the policies are put on whatever tables there are, and each
later upgrade gives them to the tables that it adds. docs/tenants.md says what it guards against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from taskctx_sql.errors import InvalidIdError, RowLevelSecurityUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables, views

if TYPE_CHECKING:
    import asyncpg

SETTING: Final = "taskctx.user_id"
_POLICY: Final = "taskctx_tenant"
# Before it, a view has no way but to show its owner's rows to everybody.
_OLDEST_POSTGRES: Final = 15

# Where nobody was named it is NULL, or empty after a transaction that named somebody: no row belongs to either.
_NAMED: Final = f"nullif(current_setting('{SETTING}', true), '')"
_OWN_CONTEXT: Final = f"user_id = {_NAMED}"
# Asked for each row by the key of its context: with IN or EXISTS all of the user's contexts would be read at times.
_OWN_ROW: Final = (
    "(SELECT c.user_id FROM taskctx_contexts c WHERE c.context_id = {table}.context_id)"  # noqa: S608  # a table's name
    f" = {_NAMED}"
)


# Whom a transaction names.


def check_user(user_id: str) -> str:
    """Return a user that can be named.

    Raises:
        InvalidIdError: It is the empty text, which a setting that names nobody has, too.
    """
    if not user_id:
        raise InvalidIdError("user_id", user_id, "row-level security cannot tell it from nobody")
    return user_id


async def set_user(connection: AsyncConnection, user_id: str) -> None:
    """Name the user for the rest of the transaction."""
    await connection.execute(sa.select(sa.func.set_config(SETTING, user_id, True)))


async def set_user_on(connection: asyncpg.Connection, user_id: str) -> None:
    """Do it on a connection of the driver's own.

    As a parameter: accounts of the same role see each other's statements in ``pg_stat_activity``.
    """
    await connection.execute("SELECT set_config($1, $2, true)", SETTING, user_id)


# Whether it is on.


def is_on(connection: sa.Connection, schema: str | None) -> bool:
    """Whether the tables are under row-level security."""
    return not engines.is_sqlite(connection) and bool(
        _ask(connection, "SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass(:name)", schema)
    )


def is_active(connection: sa.Connection, schema: str | None) -> bool:
    """Whether it holds for the account that is connected: not for the owner, nor for who has BYPASSRLS."""
    return not engines.is_sqlite(connection) and bool(
        _ask(connection, "SELECT row_security_active(to_regclass(:name))", schema)
    )


def unguarded(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the tables and views of ours that would show everybody's rows."""
    guarded = (
        "SELECT relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = :policy)"
        " OR relkind = 'v' AND 'security_invoker=true' = ANY (coalesce(reloptions, '{}'))"
        " FROM pg_class c WHERE oid = to_regclass(:name)"
    )
    names = [*tables.metadata.tables, *views.metadata.tables]
    # None for what a revision does not have.
    return [name for name in names if _ask(connection, guarded, schema, name, policy=_POLICY) is False]


# Switching it.


def check_possible(connection: sa.Connection) -> None:
    """See that the database can have it.

    Raises:
        RowLevelSecurityUnavailableError: It cannot; the error says why, and what to do.
    """
    address = engines.mask(str(connection.engine.url))
    if engines.is_sqlite(connection):
        raise RowLevelSecurityUnavailableError(
            address, "SQLite has no accounts", "give each user a file, or use Postgres"
        )
    found = connection.dialect.server_version_info or (0,)
    if found < (_OLDEST_POSTGRES,):
        reason = f"the server is PostgreSQL {found[0]}, whose views show everybody's rows"
        raise RowLevelSecurityUnavailableError(address, reason, f"use PostgreSQL {_OLDEST_POSTGRES} or later")
    if _ask(connection, "SELECT true FROM pg_extension WHERE extname = 'citus'", None):
        reason = "Citus does not take policies that look into another table"
        raise RowLevelSecurityUnavailableError(address, reason, "use a database without Citus")


def switch_on(connection: sa.Connection, schema: str | None) -> None:
    """Guard the tables and views that are not guarded yet. No row is rewritten."""
    for name in unguarded(connection, schema):
        quoted = _qualified(connection, schema, name)
        if name in views.metadata.tables:
            connection.exec_driver_sql(f"ALTER VIEW {quoted} SET (security_invoker = true)")
            continue
        own = _OWN_CONTEXT if name == tables.contexts.name else _OWN_ROW.format(table=name)
        connection.exec_driver_sql(f"DROP POLICY IF EXISTS {_POLICY} ON {quoted}")
        connection.exec_driver_sql(f"CREATE POLICY {_POLICY} ON {quoted} USING ({own}) WITH CHECK ({own})")
        connection.exec_driver_sql(f"ALTER TABLE {quoted} ENABLE ROW LEVEL SECURITY")


def switch_off(connection: sa.Connection, schema: str | None) -> None:
    """Show every account all rows again."""
    for name in (*tables.metadata.tables, *views.metadata.tables):
        if _ask(connection, "SELECT to_regclass(:name) IS NOT NULL", schema, name):
            quoted = _qualified(connection, schema, name)
            if name in views.metadata.tables:
                connection.exec_driver_sql(f"ALTER VIEW {quoted} RESET (security_invoker)")
                continue
            connection.exec_driver_sql(f"ALTER TABLE {quoted} DISABLE ROW LEVEL SECURITY")
            connection.exec_driver_sql(f"DROP POLICY IF EXISTS {_POLICY} ON {quoted}")


def _ask(
    connection: sa.Connection, question: str, schema: str | None, table: str = tables.contexts.name, **more: str
) -> object:
    named = {"name": _qualified(connection, schema, table)} if ":name" in question else {}
    return connection.scalar(sa.text(question), {**named, **more})


def _qualified(connection: sa.Connection, schema: str | None, table: str) -> str:
    preparer = connection.dialect.identifier_preparer
    return f"{preparer.quote(schema)}.{table}" if schema else table
