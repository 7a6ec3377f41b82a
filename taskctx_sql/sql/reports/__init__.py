"""Reports in SQL over the views of the schema."""

from taskctx_sql.sql.reports.queries import Reports
from taskctx_sql.sql.reports.report import Report

__all__ = ["Report", "Reports"]
