"""Retention, erasing, and finding what endangers data."""

from taskctx_sql.maintenance.doctor import examine
from taskctx_sql.maintenance.removal import erase, keep_house, prune
from taskctx_sql.maintenance.self_checks import diagnose_context_optimization_issue, diagnose_resource_cleanup_issue

__all__ = [
    "diagnose_context_optimization_issue",
    "diagnose_resource_cleanup_issue",
    "erase",
    "examine",
    "keep_house",
    "prune",
]
