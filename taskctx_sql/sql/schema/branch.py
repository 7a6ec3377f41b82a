"""What surrounds each migration when alembic runs it: in the library's own run, or as a branch of an application's.

An application can list the library's migrations in its ``version_locations``, and then runs them with its own
``env.py`` and its own version table. There each migration also locks, checks and guards, as the library's own run does
once for all, and keeps the library's version table. So everything else finds the revision where it always is, and a
migration that was run by ``taskctx upgrade`` already is left out.

The migrations use the operations that they are given: the functions of ``alembic.op`` belong to the application's run,
in which the library may be called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

import alembic.op
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.schema import CreateTable

from taskctx_sql.sql.schema import daily_sums, tables, verbatim
from taskctx_sql.sql.schema.checks import REVISIONS, found_revision, is_at_least, is_newer_and_usable
from taskctx_sql.sql.schema.migrations import changing
from taskctx_sql.sql.schema.printing import after_migration, before_migration

# An option of the application's alembic: on Postgres, the schema of the tables.
SCHEMA_OPTION: Final = "taskctx_schema"

Migration = Callable[[Operations], None]

_own: ContextVar[Operations | None] = ContextVar("taskctx_operations", default=None)


@contextmanager
def own_run(context: MigrationContext) -> Iterator[None]:
    """Let migrations in the block use this context, whose run has seen to everything else."""
    token = _own.set(Operations(context))
    try:
        yield
    finally:
        _own.reset(token)


def upgrades_to(revision: str) -> Callable[[Migration], Callable[..., None]]:
    """Make a function the `upgrade` of a revision."""

    def decorate(migration: Migration) -> Callable[..., None]:
        @wraps(migration)
        def upgrade(**_: Any) -> None:
            _run(migration, revision, is_upgrade=True)

        return upgrade

    return decorate


def downgrades_from(revision: str) -> Callable[[Migration], Callable[..., None]]:
    """Make a function the `downgrade` of a revision."""

    def decorate(migration: Migration) -> Callable[..., None]:
        @wraps(migration)
        def downgrade(**_: Any) -> None:
            _run(migration, revision, is_upgrade=False)

        return downgrade

    return decorate


def _run(migration: Migration, revision: str, *, is_upgrade: bool) -> None:
    own = _own.get()
    if own is not None:
        if not is_upgrade:
            _drop_sums(own, None)
        migration(own)
        return
    op = Operations(alembic.op.get_context())
    schema = _schema(op)
    if op.get_context().as_sql:
        _print(op, migration, revision, is_upgrade=is_upgrade)
        return
    connection = op.get_bind()
    if is_upgrade and is_newer_and_usable(found_revision(connection, schema)):
        return
    with changing(connection, schema) as found:
        # An upgrade has nothing to do if the database has the revision, and a downgrade if it has it no more.
        if is_at_least(found, revision) != is_upgrade:
            if not is_upgrade:
                _drop_sums(op, schema)
            migration(op)
            _write_revision(op, revision, is_upgrade=is_upgrade)


def _drop_sums(op: Operations, schema: str | None) -> None:
    """Drop the daily sums: their triggers need columns that older revisions do not have."""
    connection = op.get_bind()
    for statement in daily_sums.changes(connection, schema, None, downgraded=True):
        verbatim.execute(op, statement)


def _print(op: Operations, migration: Migration, revision: str, *, is_upgrade: bool) -> None:
    surrounded = verbatim.dialect_name(op) == "postgresql"
    schema = _schema(op)
    if surrounded:
        for statement in before_migration(schema, revision, op.get_context().dialect):
            verbatim.execute(op, statement)
    if not is_upgrade:
        # Whether they are there is not known before it is executed.
        for statement in daily_sums.drops(verbatim.dialect_name(op)):
            verbatim.execute(op, statement)
    migration(op)
    _write_revision(op, revision, is_upgrade=is_upgrade)
    if surrounded:
        for statement in after_migration(schema):
            verbatim.execute(op, statement)


def _schema(op: Operations) -> str | None:
    config = op.get_context().config
    found = None if config is None else config.get_alembic_option(SCHEMA_OPTION)
    return str(found) if found else None


def _write_revision(op: Operations, revision: str, *, is_upgrade: bool) -> None:
    """Keep the library's version table, which is in the first schema of the search path."""
    before = REVISIONS.index(revision) - 1
    if before >= 0:
        now = revision if is_upgrade else REVISIONS[before]
        verbatim.execute(op, f"UPDATE {tables.VERSION_TABLE} SET version_num = '{now}'")  # noqa: S608  # our own names
    elif is_upgrade:
        create = CreateTable(tables.version(None), if_not_exists=True)
        verbatim.execute(op, str(create.compile(dialect=op.get_context().dialect)))
        verbatim.execute(op, f"INSERT INTO {tables.VERSION_TABLE} (version_num) VALUES ('{revision}')")  # noqa: S608
    else:
        verbatim.execute(op, f"DROP TABLE {tables.VERSION_TABLE}")
