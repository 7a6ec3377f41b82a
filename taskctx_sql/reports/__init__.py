"""Reports: their filters and rows.

``store.reports`` is a `Reports`; the page "Views" of the docs describes the columns of the rows.
"""

from taskctx_sql.model.context_rows import (
    ContextMetadata,
    ContextTotals,
    LastRun,
    ModelUse,
    NamedValue,
    TimelineEntry,
    TrackedFile,
)
from taskctx_sql.model.cost_rows import Cost, CostBy, ModelSpeed, OpenRun
from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.model.report_rows import (
    ActiveUser,
    Activity,
    CallOutcome,
    ContextSize,
    Count,
    Day,
    ErrorReport,
    FileActivity,
    ModelUsage,
    Outcome,
    RunReport,
    Task,
    TaskRun,
    ToolCall,
    ToolUsage,
    UpdateRow,
    UserSize,
)
from taskctx_sql.model.search import SearchHit, SearchOrder
from taskctx_sql.model.tree_rows import Tree, TreeNode
from taskctx_sql.sql.reports import Report, Reports

__all__ = [
    "ActiveUser",
    "Activity",
    "CallOutcome",
    "ContextMetadata",
    "ContextSize",
    "ContextTotals",
    "Cost",
    "CostBy",
    "Count",
    "Day",
    "ErrorReport",
    "FileActivity",
    "Filters",
    "LastRun",
    "ModelSpeed",
    "ModelUsage",
    "ModelUse",
    "Moment",
    "NamedValue",
    "OpenRun",
    "Outcome",
    "Report",
    "Reports",
    "RunReport",
    "SearchHit",
    "SearchOrder",
    "Task",
    "TaskRun",
    "TimelineEntry",
    "ToolCall",
    "ToolUsage",
    "TrackedFile",
    "Tree",
    "TreeNode",
    "UpdateRow",
    "UserSize",
]
