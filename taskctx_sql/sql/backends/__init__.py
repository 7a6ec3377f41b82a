"""How a store reaches its database: one back end for each kind of engine."""

from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.backends.open import open_backend
from taskctx_sql.sql.backends.replica import NEVER, Replica, open_replica
from taskctx_sql.sql.backends.shared import Share
