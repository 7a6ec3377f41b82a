"""A store as what it is, if it is a database."""

from __future__ import annotations

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.stores import ContextStore


def as_database(store: ContextStore) -> SqlStore:
    """Return a store as an `SqlStore`.

    Raises:
        InvalidDatabaseUrlError: It is not one.
    """
    if not isinstance(store, SqlStore):
        raise InvalidDatabaseUrlError(store.database_url, "it is not a database")
    return store
