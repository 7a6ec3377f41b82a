"""${message}

Revision: ${up_revision}, after ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    ${upgrades if upgrades else "pass"}


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    ${downgrades if downgrades else "pass"}
