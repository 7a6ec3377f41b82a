"""Filters for alembic's autogenerate: the library's tables for its own migrations, and without them for others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskctx_sql.sql.schema import tables


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether it is a declared table or index; the indexes of the reports are declared in their migration only."""
    if kind == "index":
        return name in {index.name for table in tables.metadata.tables.values() for index in table.indexes}
    return kind != "table" or (name is not None and name in tables.metadata.tables)


def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Return False for the library's tables, so that alembic does not read them and propose to drop them.

    For ``context.configure(..., include_name=include_name)`` in an application's ``env.py``.

    Args:
        name: A name in the database.
        kind: What has the name: a schema, a table, a column, an index or a constraint.
        parents: The names of what it is in; ``table_name`` for columns, indexes and constraints.

    Returns:
        False for tables whose names begin with ``taskctx_``, in every schema, and for what is in them; True for
        everything else.
    """
    return not _has_prefix(name if kind == "table" else parents.get("table_name"))


def include_object(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Return False for the library's tables, whether alembic found them in the database or in the metadata.

    For ``context.configure(..., include_object=include_object)`` in an application's ``env.py``, beside `include_name`
    if ``target_metadata`` contains the library's tables: then alembic neither drops nor creates them.

    Args:
        item: A table, column, index or constraint of SQLAlchemy's.
        name: Its name.
        kind: What it is.
        reflected: Whether it was found in the database.
        compare_to: What it is compared to, or None.

    Returns:
        False for tables whose names begin with ``taskctx_``, in every schema, and for what is in them; True for
        everything else.
    """
    return not _has_prefix(name if kind == "table" else getattr(getattr(item, "table", None), "name", None))


def _has_prefix(table: str | None) -> bool:
    return table is not None and table.startswith(tables.PREFIX)
