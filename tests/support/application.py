"""An application with migrations of its own: what `alembic init` writes, with models and a first revision."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from taskctx_sql import blocking, open_store, schema, task_context
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import HEAD, tables

MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    chat_id: Mapped[str]
    total: Mapped[int | None]
"""

REVISION = """\
import sqlalchemy as sa
from alembic import op

from taskctx_sql import schema

revision = "{name}"
down_revision = {after!r}
branch_labels = None
depends_on = {depends_on!r}


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
"""

# Without the column that a model has meanwhile.
_COLUMNS = 'sa.Column("id", sa.Integer, primary_key=True), sa.Column("chat_id", sa.String, nullable=False)'
CREATE_ORDERS = f'op.create_table("orders", {_COLUMNS})'
DROP_ORDERS = 'op.drop_table("orders")'


# What the guide to alembic tells an application to add.
UPGRADE = "schema.upgrade_connection(op.get_bind())"
UPGRADE_TO = 'schema.upgrade_connection(op.get_bind(), "taskctx_0007")'
DOWNGRADE = 'schema.downgrade_connection(op.get_bind(), "base")'
AWAITED = "await schema.upgrade(connection)"
CALLED = "schema.upgrade_connection(connection)"
FILTER_NAMES = "include_name=schema.include_name"
FILTER_OBJECTS = "include_object=schema.include_object"
MERGED = ("target_metadata = Base.metadata", "target_metadata = [Base.metadata, schema.metadata]")


class Application:
    """A folder with alembic.ini, migrations/ and models."""

    def __init__(self, folder: Path, database_url: str, template: str) -> None:
        """Create it by `alembic init`; the template is one of alembic's: "generic" or "async"."""
        self.folder, self.is_async = folder, template == "async"
        self._output = StringIO()
        command.init(self._config(), str(folder / "migrations"), template=template)
        # Each application of a test run has models of its own.
        self.models = f"models_{uuid.uuid4().hex}"
        (folder / f"{self.models}.py").write_text(MODELS)
        url = driver_url(database_url, is_async=self.is_async).render_as_string(hide_password=False)
        self.edit("alembic.ini", ("driver://user:pass@localhost/dbname", url.replace("%", "%%")))
        self.edit(
            "migrations/env.py",
            # It would switch the loggers of the test run off.
            ("fileConfig(config.config_file_name)", "pass"),
            ("target_metadata = None", f"from {self.models} import Base\n\ntarget_metadata = Base.metadata"),
            ("from alembic import context", "from alembic import context\n\nfrom taskctx_sql import schema"),
        )

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace texts in a file of it."""
        path = self.folder / name
        text = path.read_text()
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        path.write_text(text)

    def configure(self, *options: str) -> None:
        """Add options to each call of `context.configure` in env.py."""
        before = "target_metadata=target_metadata"
        self.edit("migrations/env.py", (before, ", ".join((before, *options))))

    def list_the_branch(self, schema: str | None = None) -> None:
        """Let it have the library's migrations in its `version_locations`, with the tables in a schema."""
        locations = "\n    ".join(("", "%(here)s/migrations/versions", "taskctx_sql:migrations/versions"))
        option = "" if schema is None else f"\ntaskctx_schema = {schema}"
        branch = f"path_separator = newline\nversion_locations ={locations}{option}"
        self.edit("alembic.ini", ("path_separator = os", branch))

    def add_revision(
        self,
        name: str,
        upgrade: Sequence[str] = (CREATE_ORDERS,),
        downgrade: Sequence[str] = (DROP_ORDERS,),
        *,
        after: str | None = None,
        depends_on: str | None = None,
    ) -> None:
        """Write a revision of its own."""
        bodies = {"upgrade": "\n    ".join(upgrade), "downgrade": "\n    ".join(downgrade)}
        text = REVISION.format(name=name, after=after, depends_on=depends_on, **bodies)
        (self.folder / "migrations" / "versions" / f"{name}.py").write_text(text)

    def alembic(self, name: str, *arguments: str, **options: object) -> str:
        """Run a command of alembic's, and return what it printed."""
        sys.modules.pop(self.models, None)
        getattr(command, name)(self._config(), *arguments, **options)
        printed = self._output.getvalue()
        self._output.seek(0)
        self._output.truncate()
        return printed

    def _config(self) -> Config:
        return Config(str(self.folder / "alembic.ini"), stdout=self._output, output_buffer=self._output)


def driver_url(database_url: str, *, is_async: bool) -> sa.URL:
    """Return a database's URL for an engine of the application's, with a driver of either kind."""
    if is_async:
        return engines.parse_url(database_url)
    url = sa.make_url(database_url)
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")


OURS = {*tables.metadata.tables, tables.VERSION_TABLE}


def look(url: str, question: Callable[[sa.Connection], Any]) -> Any:
    engine = sa.create_engine(driver_url(url, is_async=False))
    with engine.connect() as connection:
        found = question(connection)
    engine.dispose()
    return found


def run(url: str, statement: str) -> None:
    def execute_and_commit(connection: sa.Connection) -> None:
        connection.execute(sa.text(statement))
        connection.commit()

    look(url, execute_and_commit)


def names(url: str, schema_name: str | None = None) -> set[str]:
    return set(look(url, lambda connection: sa.inspect(connection).get_table_names(schema=schema_name)))


def versions(url: str, table: str = "alembic_version") -> set[str]:
    return set(look(url, lambda connection: connection.scalars(sa.text(f"SELECT version_num FROM {table}")).all()))


def saves(url: str, schema_name: str | None = None) -> None:
    """The library works there, and finds nothing to upgrade."""
    assert blocking(schema.current(url, schema=schema_name)) == HEAD
    with (
        open_store(url, schema=schema_name) as store,
        task_context({"user_id": "u", "chat_id": "c"}, store=store) as context,
    ):
        context.add_context_update("message", "hello")
    assert blocking(schema.upgrade_sql(url, schema=schema_name)) == ""
