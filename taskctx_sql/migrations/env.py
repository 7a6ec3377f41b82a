"""Where alembic's own command begins, in a checkout; the library itself runs the migrations without this file."""

import asyncio
import os
from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from taskctx_sql.errors import TaskContextError
from taskctx_sql.sql import schema


def main() -> None:
    """Run the migrations on a new connection, as the library does, which locks, checks and configures."""
    if context.is_offline_mode():
        raise CommandError("use `taskctx upgrade -d URL --sql`, which reads what the database has")
    arguments = context.get_x_argument(as_dictionary=True)
    url = arguments.get("url") or os.environ.get("TASKCTX_DATABASE_URL")
    if not url:
        raise CommandError("no database given: use alembic -x url=sqlite:///tasks.db ..., or set TASKCTX_DATABASE_URL")

    def run(connection: sa.Connection) -> None:
        schema.run_migrations(connection, arguments.get("schema"), start)

    try:
        asyncio.run(schema.on_connection(url, "migrate", run))
    except TaskContextError as error:
        raise CommandError(str(error)) from error


def start(**options: Any) -> MigrationContext:
    """Return the context of alembic's command."""
    context.configure(**options)
    return context.get_context()


main()
