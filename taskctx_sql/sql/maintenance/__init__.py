"""Pruning and erasing rows, and checks of a database."""

from taskctx_sql.sql.maintenance.pruner import Pruner
