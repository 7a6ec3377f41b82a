"""How a store reaches its database: by SQLAlchemy on any engine, or faster by the driver on an engine of ours."""

from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.backends.open import open_backend
from taskctx_sql.sql.backends.replica import NEVER, Replica, open_replica
from taskctx_sql.sql.backends.shared import Share
