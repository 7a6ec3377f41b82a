"""On Postgres, the functions that save a context in one call.

Revision: taskctx_0007, after taskctx_0006
"""

from functools import partial

from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, functions, verbatim

revision = "taskctx_0007"
down_revision = "taskctx_0006"
branch_labels = None
depends_on = None

# The functions whose names end in this number; those of later numbers come with later revisions.
_VERSION = 1


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    if verbatim.dialect_name(op) == "postgresql":
        functions.create(partial(verbatim.execute, op), _VERSION)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    if verbatim.dialect_name(op) == "postgresql":
        functions.drop(partial(verbatim.execute, op), _VERSION)
