"""What is searched for, and the SELECT of the updates among which it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.search import SearchHit, SearchOrder, Words, check_order, parse_words
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.reports.clauses import in_period, of_owner
from taskctx_sql.sql.schema import contexts, updates

# Of the hits, the newest first.
ORDER: Final = ("-timestamp", "context_id", "-seq")


@dataclass(frozen=True, slots=True)
class Question:
    """What is searched for, as it was given."""

    text: str
    filters: Filters
    update_type: str | None = None
    order: SearchOrder = "newest"
    case_sensitive: bool = False
    after: SearchHit | None = None

    def words(self) -> Words:
        """Check what was given, and return the words."""
        if self.update_type is not None and not isinstance(self.update_type, str):
            raise InvalidArgumentError("update_type", self.update_type, "a string")
        check_order(self.order)
        return parse_words(self.text, case_sensitive=self.case_sensitive)

    def of_owner(self) -> list[sa.ColumnElement[bool]]:
        """Check the filters, and return the conditions for the user and the chat."""
        return of_owner(contexts, self.filters)


def select_hits(question: Question, found: sa.FromClause | None = None) -> sa.Select[Any]:
    """Return the SELECT of the updates that the filters leave, as the columns of a hit.

    They are read from ``found``, which joins updates and contexts, or from all of them.
    """
    removed = sa.case((updates.c.removed_in.is_(None), 0), else_=1).label("removed")
    columns = (
        *(updates.c.context_id, contexts.c.user_id, contexts.c.chat_id, updates.c.seq, updates.c.timestamp),
        *(updates.c.update_type, updates.c.data, removed),
    )
    if found is None:
        found = sa.join(updates, contexts, updates.c.context_id == contexts.c.context_id)
    statement = sa.select(*columns).select_from(found).where(*question.of_owner(), incomplete.is_there())
    statement = statement.where(*in_period(updates, question.filters, "timestamp", "timestamp"))
    if question.update_type is None:
        return statement
    return statement.where(updates.c.update_type == row_codec.column_text(question.update_type))
