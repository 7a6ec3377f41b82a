"""A row for each revision, in place of the result of a run's last save.

Revision: taskctx_0002, after taskctx_0001
"""

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch

revision = "taskctx_0002"
down_revision = "taskctx_0001"
branch_labels = None
depends_on = None

_LAST_SAVE = ("revision", "next_seq", "next_model", "next_position")


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    op.create_table(
        "taskctx_revisions",
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("saved_at", sa.Double, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("save_number", sa.BigInteger, nullable=False),
        sa.Column("next_seq", sa.BigInteger, nullable=False),
        sa.Column("next_model", sa.BigInteger, nullable=False),
        sa.Column("next_position", sa.BigInteger, nullable=False),
        sa.Column("metadata", sa.Text, nullable=True),
        sa.Column("metadata_toggles", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("context_id", "revision", name="taskctx_revisions_pkey"),
        sqlite_with_rowid=False,
    )
    # Of the revisions before this migration only the newest is known.
    op.execute(
        """
        INSERT INTO taskctx_revisions
        SELECT c.context_id, c.revision, c.updated_at, coalesce(r.run_id, ''), coalesce(r.saves, 0),
               c.next_seq, c.next_model, c.next_position, c.metadata, c.metadata_toggles
        FROM taskctx_contexts c
        LEFT JOIN taskctx_runs r ON r.context_id = c.context_id AND r.run_id = (
            SELECT max(l.run_id) FROM taskctx_runs l
            WHERE l.context_id = c.context_id AND l.revision = c.revision AND l.next_seq = c.next_seq
        )
        """
    )
    for column in _LAST_SAVE:
        op.drop_column("taskctx_runs", column)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    for column in _LAST_SAVE:
        op.add_column("taskctx_runs", sa.Column(column, sa.BigInteger, nullable=False, server_default="0"))
    op.execute(
        """
        UPDATE taskctx_runs SET revision = v.revision, next_seq = v.next_seq, next_model = v.next_model,
               next_position = v.next_position
        FROM taskctx_revisions v
        WHERE v.context_id = taskctx_runs.context_id AND v.run_id = taskctx_runs.run_id
              AND v.save_number = taskctx_runs.saves
        """
    )
    op.drop_table("taskctx_revisions")
