"""Lists: each is a report, a page at a time, in which every name leads to what it names."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctx_sql.model import ContextKey
from taskctx_sql.model.report_rows import CALL_OUTCOMES, OUTCOMES, column_fields
from taskctx_sql.pages.links import LISTS
from taskctx_sql.pages.parts import Parts
from taskctx_sql.pages.scales import counted_up_to
from taskctx_sql.pages.selection import Selection
from taskctx_sql.plain_text import spreadsheet_cell
from taskctx_sql.sql.reports import Report, Reports
from taskctx_sql.sql.row_codec import context_id
from taskctx_sql.stores import Store

ROWS: Final = 50
# More rows than this are not counted, and fewer where most rows that are looked at do not count.
MAX_COUNT: Final = 10_000
MAX_FILTERED: Final = 1_000
_FILTERS: Final = ("outcome", "title", "model", "tool", "path")
# These add up: counting their rows takes as long as reading them.
_ADDED_UP: Final = ("models", "tools", "costs", "users")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a list.

    Attributes:
        name: The field of a row.
        heading: What stands above it.
        kind: How its values are shown, a macro of the template.
        is_sorted: Whether the list can be sorted by it.
        is_minor: Whether it is left out where the window is narrow.
    """

    name: str
    heading: str
    kind: str
    is_sorted: bool = True
    is_minor: bool = False


@dataclass(frozen=True, slots=True)
class List:
    """A kind of list: its columns, what it can be narrowed by, and the report."""

    columns: Sequence[Column]
    filters: Sequence[str]
    report: Callable[[Reports, Selection, dict[str, Any]], Report[Any]]
    outcomes: Sequence[str] = ()


def _column(name: str, heading: str, kind: str = "number") -> Column:
    """Return a column: a minus before its name is for one that is not sorted by, and ~ for a minor one."""
    plain_name = name.lstrip("~-")
    return Column(plain_name, heading, kind, is_sorted="-" not in name, is_minor="~" in name)


_TASK: Final = (_column("-chat_id", "Task", "task"), _column("~user_id", "User", "user"))
_OUTCOME: Final = _column("outcome", "Outcome", "outcome")
_COST: Final = _column("cost", "Cost", "cost")
_TOKENS: Final = (_column("~input_tokens", "Tokens in"), _column("~output_tokens", "Tokens out"))
_ERROR: Final = _column("-error", "Error", "text")

_LISTS: Final[dict[str, List]] = {
    "tasks": List(
        (
            *(_column("created_at", "Began", "time"), *_TASK, _OUTCOME, _COST, _column("~calls", "Model calls")),
            *(_column("~updates", "Updates"), _column("~errors", "Errors"), _column("~runs", "Runs")),
            *(_column("~-duration", "Lasted", "seconds"), _column("~updated_at", "Saved", "time")),
        ),
        ("title", "outcome", "label", "model", "tool", "user"),
        lambda reports, chosen, filters: reports.tasks(
            outcome=chosen.outcome,  # type: ignore[arg-type]  # the report checks it
            labels=dict(chosen.labels) or None,
            title=chosen.title,
            model=chosen.model,
            tool=chosen.tool,
            begun=chosen.begun,
            **filters,
        ),
        OUTCOMES,
    ),
    "runs": List(
        (
            *(_column("started_at", "Began", "time"), *_TASK, _OUTCOME, _column("duration", "Lasted", "seconds")),
            *(_COST, _column("~calls", "Model calls"), *_TOKENS, _column("~saves", "Saves"), _ERROR),
        ),
        ("outcome", "user"),
        lambda reports, chosen, filters: reports.runs(outcome=chosen.outcome, **filters),  # type: ignore[arg-type]
        OUTCOMES,
    ),
    "calls": List(
        (
            *(_column("started_at", "Began", "time"), _column("name", "Tool", "tool"), *_TASK, _OUTCOME),
            *(_column("duration", "Took", "seconds"), _ERROR),
        ),
        ("tool", "outcome", "user"),
        lambda reports, chosen, filters: reports.calls(
            outcome=chosen.outcome,  # type: ignore[arg-type]
            tool=chosen.tool,
            **filters,
        ),
        CALL_OUTCOMES,
    ),
    "models": List(
        (
            *(_column("day", "Day", "day"), _column("model_id", "Model", "model")),
            *(_column("~provider_id", "Provider", "text"), _column("~mode", "Mode", "text"), _column("calls", "Calls")),
            *(*_TOKENS, _column("~cached_read_tokens", "Cached"), _COST),
        ),
        ("user",),
        lambda reports, chosen, filters: reports.models(**filters),
    ),
    "tools": List(
        (
            *(_column("name", "Tool", "tool"), _column("calls", "Calls", "calls")),
            *(_column("failures", "Failed", "failed_calls"), _column("open", "Open", "open_calls")),
            *(_column("p50", "Half within", "seconds"), _column("p95", "95 % within", "seconds")),
        ),
        ("user",),
        lambda reports, chosen, filters: reports.tools(**filters),
    ),
    "errors": List(
        (
            *(_column("timestamp", "When", "time"), _column("~kind", "Kind", "text"), *_TASK),
            _column("message", "Message", "text"),
        ),
        ("user",),
        lambda reports, chosen, filters: reports.errors(**filters),
    ),
    "files": List(
        (
            *(_column("timestamp", "When", "time"), _column("path", "File", "path")),
            *(_column("operation", "Last operation", "text"), _column("~source", "By", "text")),
            *(_column("~model_id", "Model before it", "model"), *_TASK),
        ),
        ("path", "user"),
        lambda reports, chosen, filters: reports.files(path=chosen.path, **filters),
    ),
    "costs": List(
        (
            *(_column("name", "What", "cost_of"), _COST, _column("calls", "Model calls"), *_TOKENS),
            *(_column("~cached_read_tokens", "Cached"), _column("~failures", "Failed"), _column("tasks", "Tasks")),
        ),
        ("by", "user"),
        lambda reports, chosen, filters: _costs(reports, chosen.by or "task", filters),
    ),
    "users": List(
        (
            *(_column("user_id", "User", "user"), _column("contexts", "Tasks"), _column("updates", "Updates")),
            *(_column("failed_runs", "Failed runs"), _column("~created_at", "Began", "time")),
            _column("updated_at", "Saved", "time"),
        ),
        (),
        lambda reports, chosen, filters: reports.active_users(**filters),
    ),
}


def _costs(reports: Reports, by: str, filters: dict[str, Any]) -> Report[Any]:
    """Return the costs by something; by a label, its name follows: "label:team"."""
    kind, _, label = by.partition(":")
    return reports.costs(kind, label=label or None, **filters)  # type: ignore[arg-type]  # the report checks it


@dataclass(frozen=True, slots=True)
class ListView:
    """A page of a list.

    Attributes:
        name: The name of the list.
        selection: What is listed.
        kind: Its columns and filters.
        rows: The rows of the page; None if they are still being read.
        count: How many rows there are, up to ``most``; None if they are still being counted.
        titles: The titles of the rows' tasks, by context id.
    """

    name: str
    selection: Selection
    kind: List
    rows: Sequence[Any] | None
    count: int | None
    titles: Mapping[str, str]

    @property
    def heading(self) -> str:
        """The heading."""
        return LISTS[self.name]

    @property
    def first(self) -> int:
        """The number of the page's first row."""
        return (self.selection.page - 1) * ROWS + 1

    @property
    def most(self) -> int:
        """How many rows are counted at the most."""
        return most_counted(self.selection)

    @property
    def is_last(self) -> bool:
        """Whether no page follows."""
        if self.count is None or self.count >= self.most:
            return self.rows is not None and len(self.rows) < ROWS
        return self.first + ROWS > self.count

    @property
    def count_text(self) -> str:
        """The number of rows."""
        return counted_up_to(self.count, self.most)

    @property
    def is_pending(self) -> bool:
        """Whether some of it is still being read."""
        return self.rows is None or self.count is None

    def title(self, row: Any) -> str:
        """Return the title of the task that a row is about, or its chat."""
        return self.titles.get(_context_id(row)) or str(row.chat_id)

    def by(self, column: Column) -> Selection:
        """Return the selection that is sorted by a column; by the one that it is sorted by, the other way round."""
        return self.selection.but(sort=f"-{column.name}" if self.selection.sort == column.name else column.name)


def most_counted(selection: Selection) -> int:
    """Return how many rows of a list are counted at the most."""
    return MAX_FILTERED if any(getattr(selection, name) is not None for name in _FILTERS) else MAX_COUNT


async def collect_list(
    store: Store, name: str, selection: Selection, at: datetime, parts: Parts, *, rows: int = ROWS
) -> ListView:
    """Return a page of a list, of so many rows.

    Raises:
        InvalidArgumentError: It cannot be sorted, or narrowed, by what the selection says.
        UnsupportedByStoreError: The store is not a database.
    """
    report = _report(store, name, selection, at)
    # The moment is left out: the last 24 hours are the same list a second later.
    key = (name, selection)

    async def page() -> Sequence[Any]:
        return await report.read_page(selection.page, rows)

    async def counted() -> int:
        return await report.count(at_most=most_counted(selection))

    async def count_part() -> int | None:
        return await parts.get(("count", name, selection.but(sort=None)), counted)

    count: int | None
    if name in _ADDED_UP:
        found = await parts.get(("rows", *key), page)
        is_whole = found is not None and selection.page == 1 and len(found) < rows
        count = None if found is None else len(found) if is_whole else await count_part()
    else:
        found, count = await asyncio.gather(parts.get(("rows", *key), page), count_part())
    ids = {_context_id(row) for row in found or ()} - {""}
    titles = await store.reports.titles(sorted(ids), user_id=selection.user) if ids else {}
    return ListView(name, selection, _LISTS[name], found, count, titles)


def _context_id(row: Any) -> str:
    """Return the id of the task that a row is about, or nothing."""
    if hasattr(row, "context_id"):
        return str(row.context_id)
    is_task = getattr(row, "user_id", None) is not None and getattr(row, "chat_id", None) is not None
    return context_id(ContextKey(row.user_id, row.chat_id)) if is_task else ""


async def csv_lines(store: Store, name: str, selection: Selection, at: datetime) -> AsyncIterator[str]:
    """Yield a list as CSV, all of its pages, in which a spreadsheet takes no text for a formula."""
    report = _report(store, name, selection, at)
    names = [field.name for field in column_fields(report.row_type)]
    lines = [_csv_line(names)]
    async for row in report:
        lines.append(_csv_line([_csv_cell(getattr(row, name)) for name in names]))
        if len(lines) == 1000:
            yield "".join(lines)
            lines = []
    yield "".join(lines)


def _report(store: Store, name: str, selection: Selection, at: datetime) -> Report[Any]:
    filters: dict[str, Any] = {**selection.filters(at), "sort": selection.sort}
    return _LISTS[name].report(store.reports, selection, filters)


def _csv_line(cells: Sequence[Any]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(cells)
    return written.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return spreadsheet_cell(value) if isinstance(value, str) else value
