"""Errors of a database's schema."""

from __future__ import annotations

from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.errors.stores import StoreError


class SchemaError(StoreError):
    """This version of the library cannot use the schema of the database."""


class SchemaMissingError(SchemaError):
    """The database has no tables of this library."""

    def __init__(self, database_url: str, schema: str | None = None) -> None:
        upgrade = shell_command("upgrade", database_url=database_url, schema=schema)
        super().__init__(f"{database_url} has no taskctx tables yet: run {upgrade}")
        self.database_url: str = database_url
        self.schema: str | None = schema


class SchemaTooOldError(SchemaError):
    """The schema of the database is older than this version of the library."""

    def __init__(self, database_url: str, found: str, needed: str, schema: str | None = None) -> None:
        upgrade = shell_command("upgrade", database_url=database_url, schema=schema)
        super().__init__(f"the schema of {database_url} is at {found}, this version needs {needed}: run {upgrade}")
        self.database_url: str = database_url
        self.schema: str | None = schema
        self.found: str = found
        self.needed: str = needed


class SchemaTooNewError(SchemaError):
    """The schema of the database was created by a newer version of the library."""

    def __init__(self, database_url: str, found: str, known: str) -> None:
        super().__init__(
            f"the schema of {database_url} is at {found}, which this version (it knows {known}) does not know: "
            "run `pip install --upgrade taskctx_sql`"
        )
        self.database_url: str = database_url
        self.found: str = found
        self.known: str = known


class ForeignSchemaError(SchemaError):
    """The database has tables with our names that this library did not create."""

    def __init__(self, database_url: str, tables: list[str]) -> None:
        super().__init__(
            f"{database_url} has {', '.join(tables)} but no taskctx_alembic_version: they were not created by "
            "this library. Use another database, or on Postgres another schema="
        )
        self.database_url: str = database_url
        self.tables: list[str] = tables


class UnsupportedEncodingError(SchemaError):
    """The character set of the database cannot hold every text. Nothing was changed."""

    def __init__(self, database_url: str, found: str) -> None:
        super().__init__(
            f"{database_url} has the character set {found}, which cannot hold every text: "
            "create a database with UTF8, on Postgres with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
        self.database_url: str = database_url
        self.found: str = found


class NotADatabaseError(SchemaError):
    """The file is not a SQLite database."""

    def __init__(self, database_url: str) -> None:
        super().__init__(f"{database_url} is not a SQLite database: check the path; the file was not changed")
        self.database_url: str = database_url


class RowLevelSecurityUnavailableError(SchemaError):
    """Row-level security cannot be switched on in this database. Nothing was changed."""

    def __init__(self, database_url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{database_url} cannot have row-level security: {reason}: {remedy}")
        self.database_url: str = database_url
        self.reason: str = reason
        self.remedy: str = remedy


class DailySumsUnavailableError(SchemaError):
    """The database cannot have daily sums. Nothing was changed."""

    def __init__(self, database_url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{database_url} cannot have daily sums: {reason}: {remedy}")
        self.database_url: str = database_url
        self.reason: str = reason
        self.remedy: str = remedy


class SearchIndexUnavailableError(SchemaError):
    """The database cannot have a search index. Nothing was changed."""

    def __init__(self, database_url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{database_url} cannot have a search index: {reason}: {remedy}")
        self.database_url: str = database_url
        self.reason: str = reason
        self.remedy: str = remedy
