"""Where alembic begins. The library's own upgrade() hands its connection in; alembic's command names a URL."""

import asyncio
import os

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError

from taskctx_sql.errors import TaskContextError
from taskctx_sql.sql.schema import migrate


def main() -> None:
    """Run the migrations on the connection that was handed in, or on one of our own."""
    attributes = context.config.attributes
    if context.is_offline_mode():
        raise CommandError("these migrations look at the database, so --sql is not offered")
    if "connection" in attributes:
        run(attributes["connection"], attributes.get("schema"), attributes.get("row_level_security"))
        return
    arguments = context.get_x_argument(as_dictionary=True)
    url = arguments.get("url") or os.environ.get("TASKCTX_DATABASE_URL")
    if not url:
        raise CommandError("name the database: alembic -x url=sqlite:///tasks.db ..., or set TASKCTX_DATABASE_URL")
    try:
        asyncio.run(migrate.on_connection(url, "migrate", lambda connection: run(connection, arguments.get("schema"))))
    except TaskContextError as error:
        raise CommandError(str(error)) from error


def run(connection: sa.Connection, schema_name: str | None, row_level_security: bool | None = None) -> None:
    """Hand over to the library, which locks, checks and configures."""
    migrate.run_migrations(connection, schema_name, context.configure, context.run_migrations, row_level_security)


main()
