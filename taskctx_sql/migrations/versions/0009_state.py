"""Values by name beside the history, labels of contexts, and kinds of tokens.

Revision: taskctx_0009, after taskctx_0008
"""

from functools import partial

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, functions, verbatim

revision = "taskctx_0009"
down_revision = "taskctx_0008"
branch_labels = None
depends_on = None

_STATE = "taskctx_state"
_LIVE = "removed_in IS NULL"
_MODEL_COLUMNS = {
    "cached_read_tokens": sa.BigInteger,
    "cached_write_tokens": sa.BigInteger,
    "reasoning_tokens": sa.BigInteger,
    "audio_tokens": sa.BigInteger,
    "price_list": sa.Text,
}

# The functions whose names end in this number were not released before they knew of this table.
_FUNCTIONS = 1


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    _create_state(op)
    for name, kind in _MODEL_COLUMNS.items():
        op.add_column("taskctx_models", sa.Column(name, kind, nullable=True))
    op.add_column("taskctx_revisions", sa.Column("changed_state", sa.BigInteger, nullable=True))
    if verbatim.dialect_name(op) == "postgresql":
        functions.replace(partial(verbatim.execute, op), _FUNCTIONS)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    for name in _MODEL_COLUMNS:
        op.drop_column("taskctx_models", name)
    op.drop_column("taskctx_revisions", "changed_state")
    op.drop_table(_STATE)


def _create_state(op: Operations) -> None:
    op.create_table(
        _STATE,
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("added_in", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("removed_in", sa.BigInteger, nullable=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=True),
        sa.Column("saved_at", sa.Double, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("copy_of", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("context_id", "kind", "name", "added_in", name="taskctx_state_pkey"),
    )
    for name, columns, condition, unique in (
        ("live", ["context_id", "kind", "name"], _LIVE, True),
        ("label", ["name", "value", "context_id"], f"kind = 'label' AND {_LIVE}", False),
        ("expires", ["expires_at"], "expires_at IS NOT NULL", False),
    ):
        where = sa.text(condition)
        op.create_index(
            f"taskctx_state_{name}_idx", _STATE, columns, unique=unique, sqlite_where=where, postgresql_where=where
        )
