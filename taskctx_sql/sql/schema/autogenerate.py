"""What keeps alembic's autogenerate of an application in the same database from our tables."""

from __future__ import annotations

from collections.abc import Mapping

from taskctx_sql.sql.schema.tables import PREFIX


def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Keep the library's tables out of what alembic compares an application's tables with.

    For ``context.configure(..., include_name=include_name)`` in the application's ``env.py``. Without it, alembic takes
    whatever the application did not declare for a table that it dropped.

    Args:
        name: The name that alembic found in the database.
        kind: Of what: a schema, a table, a column, an index or a constraint.
        parents: Where it is; it makes no difference.

    Returns:
        False for the tables whose names begin with ``taskctx_``, in every schema; True for all else.
    """
    del parents
    return kind != "table" or name is None or not name.startswith(PREFIX)
