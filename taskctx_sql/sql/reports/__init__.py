"""Reports over the views: their queries, rows and filters."""

from taskctx_sql.sql.reports.filters import Filters, in_period
from taskctx_sql.sql.reports.rows import (
    Activity,
    ContextSize,
    ErrorReport,
    FileActivity,
    ModelUsage,
    Task,
    TaskRun,
    TimelineEntry,
)

__all__ = [
    "Activity",
    "ContextSize",
    "ErrorReport",
    "FileActivity",
    "Filters",
    "ModelUsage",
    "Task",
    "TaskRun",
    "TimelineEntry",
    "in_period",
]
