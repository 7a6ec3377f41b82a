"""One version of a tracked file at a time: where concurrent writers left two, the later one ends the earlier.

Revision: taskctx_0005, after taskctx_0004
"""

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch

revision = "taskctx_0005"
down_revision = "taskctx_0004"
branch_labels = None
depends_on = None

_INDEX = "taskctx_files_live_idx"


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    # In earlier revisions as well, since a restore copies their rows.
    op.execute(
        """
        UPDATE taskctx_files SET removed_in = later.began
        FROM (SELECT context_id, path_id, added_in,
                     lead(added_in) OVER (PARTITION BY context_id, path_id ORDER BY added_in) AS began
              FROM taskctx_files) AS later
        WHERE later.context_id = taskctx_files.context_id AND later.path_id = taskctx_files.path_id
              AND later.added_in = taskctx_files.added_in
              AND (taskctx_files.removed_in IS NULL OR taskctx_files.removed_in > later.began)
              AND later.began IS NOT NULL
        """
    )
    live = sa.text("removed_in IS NULL")
    columns = ["context_id", "path_id"]
    op.create_index(_INDEX, "taskctx_files", columns, unique=True, sqlite_where=live, postgresql_where=live)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    op.drop_index(_INDEX, "taskctx_files")
