"""On Postgres, the functions that save a context in one call.

Revision: 0007, after 0006
"""

from taskctx_sql.sql.schema import functions, verbatim

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The functions whose names end in this number; those of later numbers come with later revisions.
_VERSION = 1


def upgrade() -> None:
    if verbatim.dialect_name() == "postgresql":
        functions.create(verbatim.execute, _VERSION)


def downgrade() -> None:
    if verbatim.dialect_name() == "postgresql":
        functions.drop(verbatim.execute, _VERSION)
