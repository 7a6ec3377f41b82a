"""Contexts, updates, both trackers and runs.

Revision: taskctx_0001, the first
"""

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch

revision = "taskctx_0001"
down_revision = None
branch_labels = "taskctx"
depends_on = None


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    op.create_table(
        "taskctx_contexts",
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("chat_id", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("metadata_toggles", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("next_seq", sa.BigInteger, nullable=False),
        sa.Column("next_model", sa.BigInteger, nullable=False),
        sa.Column("next_position", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("context_id", name="taskctx_contexts_pkey"),
    )
    op.create_index(
        "taskctx_contexts_user_id_created_at_context_id_idx",
        "taskctx_contexts",
        ["user_id", "created_at", "context_id"],
    )
    op.create_table(
        "taskctx_updates",
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("timestamp", sa.Double, nullable=True),
        sa.Column("update_type", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("exact", sa.Text, nullable=True),
        sa.Column("added_in", sa.BigInteger, nullable=False),
        sa.Column("removed_in", sa.BigInteger, nullable=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("context_id", "seq", name="taskctx_updates_pkey"),
    )
    op.create_table(
        "taskctx_files",
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("path_id", sa.Text, nullable=False),
        sa.Column("added_in", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("removed_in", sa.BigInteger, nullable=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=True),
        sa.Column("source", sa.Text, nullable=True),
        sa.Column("timestamp", sa.Double, nullable=True),
        sa.Column("state", sa.Text, nullable=True),
        sa.Column("exact", sa.Text, nullable=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("context_id", "path_id", "added_in", name="taskctx_files_pkey"),
    )
    op.create_table(
        "taskctx_models",
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("model_id", sa.Text, nullable=True),
        sa.Column("provider_id", sa.Text, nullable=True),
        sa.Column("mode", sa.Text, nullable=True),
        sa.Column("timestamp", sa.Double, nullable=True),
        sa.Column("input_tokens", sa.BigInteger, nullable=True),
        sa.Column("output_tokens", sa.BigInteger, nullable=True),
        sa.Column("cost", sa.Double, nullable=True),
        sa.Column("duration", sa.Double, nullable=True),
        sa.Column("exact", sa.Text, nullable=True),
        sa.Column("added_in", sa.BigInteger, nullable=False),
        sa.Column("removed_in", sa.BigInteger, nullable=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("context_id", "seq", name="taskctx_models_pkey"),
    )
    op.create_table(
        "taskctx_runs",
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=True),
        sa.Column("outcome", sa.Text, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("saves", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("next_seq", sa.BigInteger, nullable=False),
        sa.Column("next_model", sa.BigInteger, nullable=False),
        sa.Column("next_position", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("context_id", "run_id", name="taskctx_runs_pkey"),
    )


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    op.drop_table("taskctx_runs")
    op.drop_table("taskctx_models")
    op.drop_table("taskctx_files")
    op.drop_table("taskctx_updates")
    op.drop_index("taskctx_contexts_user_id_created_at_context_id_idx", "taskctx_contexts")
    op.drop_table("taskctx_contexts")
