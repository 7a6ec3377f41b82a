"""Run the shop's migrations, and the library's, on the database that SHOP_DATABASE_URL names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context
from shop import models, settings

from taskctx_sql import schema

OPTIONS = {
    "target_metadata": models.Base.metadata,
    "version_table": "shop_version",
    "include_name": schema.include_name,
    "include_object": schema.include_object,
}

if context.is_offline_mode():
    context.configure(url=settings.database_url(), **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = sa.create_engine(settings.database_url(), poolclass=sa.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()
