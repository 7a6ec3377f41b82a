"""Reports: their filters and rows, and `collect` and `render` for the report as a page of HTML.

``store.reports`` is a `Reports`; the page "Views" of the docs describes the columns of the rows.
"""

from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.model.report_rows import (
    Activity,
    ContextSize,
    Count,
    ErrorReport,
    FileActivity,
    ModelUsage,
    Outcome,
    RunReport,
    SearchHit,
    Task,
    TaskRun,
    TimelineEntry,
    UserSize,
)
from taskctx_sql.reports.page import Page, collect, render
from taskctx_sql.sql.reports import Report, Reports

__all__ = [
    "Activity",
    "ContextSize",
    "Count",
    "ErrorReport",
    "FileActivity",
    "Filters",
    "ModelUsage",
    "Moment",
    "Outcome",
    "Page",
    "Report",
    "Reports",
    "RunReport",
    "SearchHit",
    "Task",
    "TaskRun",
    "TimelineEntry",
    "UserSize",
    "collect",
    "render",
]
