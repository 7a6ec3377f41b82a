"""For alembic's autogenerate in an application that shares the database."""

from __future__ import annotations

from collections.abc import Mapping

from taskctx_sql.sql.schema.tables import PREFIX


def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Return False for the library's tables, so that alembic does not propose to drop them.

    For ``context.configure(..., include_name=include_name)`` in an application's ``env.py``.

    Args:
        name: A name in the database.
        kind: What has the name: a schema, a table, a column, an index or a constraint.
        parents: Not used.

    Returns:
        False for tables whose names begin with ``taskctx_``, in every schema; True for everything else.
    """
    del parents
    return kind != "table" or name is None or not name.startswith(PREFIX)
