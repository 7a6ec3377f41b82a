"""Show what each order's models cost, in a view of the shop's over a view of the library's."""

from alembic import op

revision = "shop_0002"
down_revision = "shop_0001"
branch_labels = None
depends_on = "taskctx_0008"


def upgrade() -> None:
    op.execute(
        "CREATE VIEW order_costs AS SELECT orders.id AS order_id, tasks.calls, tasks.cost, tasks.outcome "
        "FROM orders JOIN taskctx_report_tasks AS tasks "
        "ON tasks.user_id = orders.customer AND tasks.chat_id = orders.chat_id"
    )


def downgrade() -> None:
    op.execute("DROP VIEW order_costs")
