"""Where alembic begins. `upgrade` of the library passes its connection; alembic's own command passes a URL."""

import asyncio
import os

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError

from taskctx_sql.errors import TaskContextError
from taskctx_sql.sql import schema


def main() -> None:
    """Run the migrations on the connection that was passed, or on a new one."""
    attributes = context.config.attributes
    if context.is_offline_mode():
        if "output" not in attributes:
            raise CommandError("use `taskctx upgrade -d URL --sql`, which reads what the database has")
        schema.print_migrations(
            attributes["connection"],
            attributes["schema"],
            context.configure,
            context.run_migrations,
            attributes["output"],
            attributes["row_level_security"],
        )
        return
    if "connection" in attributes:
        run(attributes["connection"], attributes.get("schema"), attributes.get("row_level_security"))
        return
    arguments = context.get_x_argument(as_dictionary=True)
    url = arguments.get("url") or os.environ.get("TASKCTX_DATABASE_URL")
    if not url:
        raise CommandError("no database given: use alembic -x url=sqlite:///tasks.db ..., or set TASKCTX_DATABASE_URL")
    try:
        asyncio.run(schema.on_connection(url, "migrate", lambda connection: run(connection, arguments.get("schema"))))
    except TaskContextError as error:
        raise CommandError(str(error)) from error


def run(connection: sa.Connection, schema_name: str | None, row_level_security: bool | None = None) -> None:
    """Run the migrations as the library does, which locks, checks and configures."""
    schema.run_migrations(connection, schema_name, context.configure, context.run_migrations, row_level_security)


main()
