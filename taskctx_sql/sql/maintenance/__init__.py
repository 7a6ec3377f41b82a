"""Pruning and erasing rows, and checks of a database."""

from taskctx_sql.sql.maintenance.erase import Pruning

__all__ = [
    "Pruning",
]
