"""The tables, declared once for all engines. The migrations create exactly these; a test compares them.

Every key begins with ``context_id``, which is derived from user and chat: concurrent first writers compute the same
one, and the tables can be distributed over machines by it. There are no foreign keys: they would cost a quarter of the
write speed, and the rows of a context are only ever erased together.

Revisions: a row is part of the context in revision R when ``added_in <= R`` and not ``removed_in <= R``.

Columns hold values that SQL can compute with. Where a column cannot hold a value exactly (a NUL in a path, a timestamp
that is no float), it holds the nearest readable form, and ``exact`` the value itself, as JSON.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

VERSION_TABLE: Final = "taskctx_alembic_version"
PREFIX: Final = "taskctx_"

metadata: Final = sa.MetaData(
    naming_convention={"pk": "%(table_name)s_pkey", "ix": "%(table_name)s_%(column_0_N_name)s_idx"}
)


def version(schema: str | None) -> sa.Table:
    """Return the table of the revision, as alembic declares it."""
    number = sa.Column("version_num", sa.String(32), nullable=False)
    key = sa.PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc")
    return sa.Table(VERSION_TABLE, sa.MetaData(), number, key, schema=schema)


# Compared and ordered by its bytes, on every engine: SQLite does so by itself.
BYTES: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _float(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


contexts: Final = sa.Table(
    "taskctx_contexts",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    _text("user_id"),
    _text("chat_id"),
    _text("metadata"),
    _text("metadata_toggles"),
    _number("revision"),
    _number("next_seq"),
    _number("next_model"),
    _number("next_position"),
    _float("created_at"),
    _float("updated_at"),
    # Rows of earlier revisions than this were pruned.
    _number("pruned_until", nullable=True),
    # For a user's contexts in the order of their creation, which never changes, so saves do not write to the index.
    sa.Index(None, "user_id", "created_at", "context_id"),
    # The same for everybody's.
    sa.Index(None, "created_at", "context_id"),
)

updates: Final = sa.Table(
    "taskctx_updates",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _float("timestamp", nullable=True),
    _text("update_type"),
    _text("data"),
    _text("metadata"),
    _text("exact", nullable=True),
    _number("added_in"),
    _number("removed_in", nullable=True),
    _text("run_id"),
    # The original seq, if a restore or a fork wrote the update again.
    _number("copy_of", nullable=True),
)

files: Final = sa.Table(
    "taskctx_files",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    # A digest of the path: a path may have 4,096 bytes, and a Postgres index entry at most 2,700.
    sa.Column("path_id", sa.Text, primary_key=True),
    sa.Column("added_in", sa.BigInteger, primary_key=True, autoincrement=False),
    _number("removed_in", nullable=True),
    _number("position"),
    _text("path"),
    _text("operation", nullable=True),
    _text("source", nullable=True),
    _float("timestamp", nullable=True),
    _text("state", nullable=True),
    _text("exact", nullable=True),
    _text("run_id"),
    # The revision that first added this version, if a restore wrote it again.
    _number("copy_of", nullable=True),
    # Allows a path one version at a time.
    sa.Index(
        "taskctx_files_live_idx",
        *("context_id", "path_id"),
        unique=True,
        sqlite_where=sa.text("removed_in IS NULL"),
        postgresql_where=sa.text("removed_in IS NULL"),
    ),
)

models: Final = sa.Table(
    "taskctx_models",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("model_id", nullable=True),
    _text("provider_id", nullable=True),
    _text("mode", nullable=True),
    _float("timestamp", nullable=True),
    # Those of input and output are all of them; the others are parts of these.
    _number("input_tokens", nullable=True),
    _number("output_tokens", nullable=True),
    _number("cached_read_tokens", nullable=True),
    _number("cached_write_tokens", nullable=True),
    _number("reasoning_tokens", nullable=True),
    _number("audio_tokens", nullable=True),
    _float("cost", nullable=True),
    # What the cost was estimated from, such as "genai-prices 0.2.3"; NULL if it was not.
    _text("price_list", nullable=True),
    _float("duration", nullable=True),
    _text("exact", nullable=True),
    _number("added_in"),
    _number("removed_in", nullable=True),
    _text("run_id"),
    _number("copy_of", nullable=True),
)

_LIVE: Final = "removed_in IS NULL"
_CHILD: Final = f"parent_id IS NOT NULL AND {_LIVE}"

# Values by name beside the history, one version of each at a time, and labels, which contexts are found by.
state: Final = sa.Table(
    "taskctx_state",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    # "state" or "label".
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", BYTES, primary_key=True),
    sa.Column("added_in", sa.BigInteger, primary_key=True, autoincrement=False),
    _number("removed_in", nullable=True),
    _text("value"),
    _float("expires_at", nullable=True),
    _float("saved_at"),
    _text("run_id"),
    # The revision that first added this version, if a restore wrote it again.
    _number("copy_of", nullable=True),
    # Of the label "parent": the id of the context that it names.
    _text("parent_id", nullable=True),
    sa.Index(
        "taskctx_state_live_idx",
        *("context_id", "kind", "name"),
        unique=True,
        sqlite_where=sa.text(_LIVE),
        postgresql_where=sa.text(_LIVE),
    ),
    sa.Index(
        "taskctx_state_label_idx",
        *("name", "value", "context_id"),
        sqlite_where=sa.text(f"kind = 'label' AND {_LIVE}"),
        postgresql_where=sa.text(f"kind = 'label' AND {_LIVE}"),
    ),
    sa.Index(
        "taskctx_state_expires_idx",
        "expires_at",
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    ),
    sa.Index(
        "taskctx_state_parent_idx",
        *("parent_id", "context_id"),
        sqlite_where=sa.text(_CHILD),
        postgresql_where=sa.text(_CHILD),
    ),
)

runs: Final = sa.Table(
    "taskctx_runs",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    _float("started_at"),
    _float("ended_at", nullable=True),
    _text("outcome", nullable=True),
    _text("error", nullable=True),
    # The number of this run's last save: a retry of it finds the number here, and writes nothing.
    _number("saves"),
)

revisions: Final = sa.Table(
    "taskctx_revisions",
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    _float("saved_at"),
    # The save, and the next numbers after it: a retry of the save returns the same result.
    _text("run_id"),
    _number("save_number"),
    _number("next_seq"),
    _number("next_model"),
    _number("next_position"),
    # The new values, if they changed.
    _text("metadata", nullable=True),
    _text("metadata_toggles", nullable=True),
    # How many updates were added and removed. NULL: as many as next_seq shows, and none.
    _number("added", nullable=True),
    _number("removed", nullable=True),
    # How many named values and labels were set or removed. NULL: none.
    _number("changed_state", nullable=True),
    # The operation, if it was no ordinary save, and the revision and chat that were its source.
    _text("operation", nullable=True),
    _number("source_revision", nullable=True),
    _text("source_chat_id", nullable=True),
    # The rows are small, and are inserted in the order of their key.
    sqlite_with_rowid=False,
)
