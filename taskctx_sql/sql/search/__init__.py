"""The search for texts in the data of updates."""

from taskctx_sql.sql.search.indexed import backlog
from taskctx_sql.sql.search.question import Question
from taskctx_sql.sql.search.search import Search
from taskctx_sql.sql.search.terms import match_expression

__all__ = ["Question", "Search", "backlog", "match_expression"]
