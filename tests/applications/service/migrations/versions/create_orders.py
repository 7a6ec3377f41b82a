"""Create the orders."""

import sqlalchemy as sa
from alembic import op

revision = "shop_0001"
down_revision = None
branch_labels = ("shop",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer", sa.String(255), nullable=False),
        sa.Column("chat_id", sa.String(255), nullable=False, unique=True),
    )


def downgrade() -> None:
    op.drop_table("orders")
