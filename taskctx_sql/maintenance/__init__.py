"""Maintaining a store: removing old data permanently, erasing a user's data, and checking for risks.

    from taskctx_sql import Retention, maintenance

    pruned = await maintenance.prune(store, Retention(max_age=90 * 86_400))

From code without ``async``: ``blocking(maintenance.prune(...))``.
"""

from taskctx_sql.maintenance.erase import erase
from taskctx_sql.maintenance.examine import examine
from taskctx_sql.maintenance.prune import prune, prune_periodically
from taskctx_sql.model import Examination, Finding, Level, Pruned, PruneProgress, Receipt, Retention

__all__ = [
    "Examination",
    "Finding",
    "Level",
    "PruneProgress",
    "Pruned",
    "Receipt",
    "Retention",
    "erase",
    "examine",
    "prune",
    "prune_periodically",
]
