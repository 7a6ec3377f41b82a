"""Row-level security on Postgres: a transaction sees only the rows of the user that it has set.

An opt-in, switched by `schema.upgrade`. It is not a revision: the policies are added to the tables that exist, and each
later upgrade adds them to its new tables. The page "Tenants" of the docs describes what it prevents.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from taskctx_sql.errors import InvalidIdError, RowLevelSecurityUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, Step, text
from taskctx_sql.sql.schema import tables, views
from taskctx_sql.sql.schema.checks import exists, qualified

T = TypeVar("T")

SETTING: Final = "taskctx.user_id"
POLICY: Final = "taskctx_tenant"
# In earlier versions a view always shows its owner's rows.
_OLDEST_POSTGRES: Final = 15

# If no user is set it is NULL, or empty after a transaction that had set one; no row belongs to either.
_RLS_USER: Final = f"nullif(current_setting('{SETTING}', true), '')"
OWN_CONTEXT: Final = f"user_id = {_RLS_USER}"
# Looked up for each row by the key of its context: with IN or EXISTS, Postgres may read all of the user's contexts.
OWN_ROW: Final = (
    "(SELECT c.user_id FROM taskctx_contexts c WHERE c.context_id = {table}.context_id)"  # noqa: S608  # a table's name
    f" = {_RLS_USER}"
)


def check_user(user_id: str) -> str:
    """Return a user that can be set: not the empty text, which for Postgres is the same as no user."""
    if not user_id:
        raise InvalidIdError("user_id", user_id, "row-level security cannot distinguish it from no user")
    return user_id


async def set_user(connection: AsyncConnection, user_id: str) -> None:
    """Set the user for the rest of the transaction."""
    await connection.execute(_set_user(), {"user": user_id})


def as_user(plan: Plan[T], rls_user: str | None) -> Plan[T]:
    """Return a plan that sets the user for its transaction first; None sets none.

    By a parameter: accounts of the same role see each other's statements in ``pg_stat_activity``.
    """
    if rls_user is not None:
        yield Step(_set_user(), {"user": rls_user}, reads=True)
    return (yield from plan)


def is_on(connection: sa.Connection, schema: str | None) -> bool:
    """Whether the tables are under row-level security."""
    return not engines.is_sqlite(connection) and bool(
        _scalar(connection, "SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass(:name)", schema)
    )


def is_active(connection: sa.Connection, schema: str | None) -> bool:
    """Whether it applies to the account that is connected: not to the owner, nor with BYPASSRLS."""
    return not engines.is_sqlite(connection) and bool(
        _scalar(connection, "SELECT row_security_active(to_regclass(:name))", schema)
    )


def unguarded(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the library's tables and views that would show everybody's rows."""
    guarded = (
        "SELECT relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = :policy)"
        " OR relkind = 'v' AND 'security_invoker=true' = ANY (coalesce(reloptions, '{}'))"
        " FROM pg_class c WHERE oid = to_regclass(:name)"
    )
    # None for tables and views that a revision does not have.
    return [name for name in names() if _scalar(connection, guarded, schema, name, policy=POLICY) is False]


def check_possible(connection: sa.Connection) -> None:
    """Raise RowLevelSecurityUnavailableError if the database cannot have it."""
    url = engines.mask(connection.engine.url)
    if engines.is_sqlite(connection):
        raise RowLevelSecurityUnavailableError(url, "SQLite has no accounts", "give each user a file, or use Postgres")
    version = connection.dialect.server_version_info or (0,)
    if version < (_OLDEST_POSTGRES,):
        reason = f"the server is PostgreSQL {version[0]}, whose views show everybody's rows"
        raise RowLevelSecurityUnavailableError(url, reason, f"use PostgreSQL {_OLDEST_POSTGRES} or later")
    if connection.scalar(sa.text("SELECT true FROM pg_extension WHERE extname = 'citus'")):
        reason = "Citus does not support policies that read another table"
        raise RowLevelSecurityUnavailableError(url, reason, "use a database without Citus")


def switch_on(connection: sa.Connection, schema: str | None) -> None:
    """Guard the tables and views that are not guarded yet. No row is rewritten."""
    for name in unguarded(connection, schema):
        for statement in guard(name, qualified(connection, schema, name)):
            connection.exec_driver_sql(statement)


def switch_off(connection: sa.Connection, schema: str | None) -> None:
    """Remove the policies, so that every account sees all rows."""
    for name in names():
        quoted = qualified(connection, schema, name)
        if exists(connection, quoted):
            for statement in unguard(name, quoted):
                connection.exec_driver_sql(statement)


def names() -> list[str]:
    """Return the names of what is guarded: the library's tables and views."""
    return [*tables.metadata.tables, *views.metadata.tables]


def guard(name: str, quoted: str) -> Iterator[str]:
    """Yield what guards a table or view, whether it is guarded already or not."""
    if name in views.metadata.tables:
        yield f"ALTER VIEW {quoted} SET (security_invoker = true)"
        return
    own = OWN_CONTEXT if name == tables.contexts.name else OWN_ROW.format(table=name)
    yield f"DROP POLICY IF EXISTS {POLICY} ON {quoted}"
    yield f"CREATE POLICY {POLICY} ON {quoted} USING ({own}) WITH CHECK ({own})"
    yield f"ALTER TABLE {quoted} ENABLE ROW LEVEL SECURITY"


def unguard(name: str, quoted: str) -> Iterator[str]:
    """Yield what removes the guard of a table or view, whether it is guarded or not."""
    if name in views.metadata.tables:
        yield f"ALTER VIEW {quoted} RESET (security_invoker)"
        return
    yield f"ALTER TABLE {quoted} DISABLE ROW LEVEL SECURITY"
    yield f"DROP POLICY IF EXISTS {POLICY} ON {quoted}"


def _scalar(
    connection: sa.Connection, statement: str, schema: str | None, table: str = tables.contexts.name, **more: str
) -> object:
    return connection.scalar(sa.text(statement), {"name": qualified(connection, schema, table), **more})


@cache
def _set_user() -> sa.Select[Any]:
    setting, is_local = sa.literal_column(f"'{SETTING}'", sa.Text), sa.literal_column("true", sa.Boolean)
    return sa.select(sa.func.set_config(setting, text("user"), is_local))
