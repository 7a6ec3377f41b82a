"""The reports of a period, or of one task, as a self-contained HTML page without scripts or network access."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Unpack

from taskctx_sql.errors import MissingPackageError
from taskctx_sql.model import ContextKey, report_rows
from taskctx_sql.model.report_filters import Filters, in_period
from taskctx_sql.plain_text import plain
from taskctx_sql.reports import charts
from taskctx_sql.stores import Store

# The timeline of a task shows at most this many updates, and the text of at most so many.
MAX_TIMELINE: Final = 5_000
MAX_TEXTS: Final = 100
MAX_CHARACTERS: Final = 400
# The reports of which a page has the first rows and the totals; the others are shown whole.
_LIMITED: Final = ("tasks", "runs", "files", "errors", "largest")


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows.

    ``totals`` has `Report.totals` by the name of each report, over every row; ``timeline`` is empty unless the page is
    about one task.
    """

    database_url: str
    user_id: str | None
    chat_id: str | None
    since: str | None
    until: str | None
    created_at: datetime
    limit: int | None
    totals: Mapping[str, Mapping[str, int | float]]
    failed_tasks: int
    failed_runs: int
    unfinished_runs: int
    tasks: Sequence[report_rows.Task]
    runs: Sequence[report_rows.TaskRun]
    models: Sequence[report_rows.ModelUsage]
    activity: Sequence[report_rows.Activity]
    files: Sequence[report_rows.FileActivity]
    errors: Sequence[report_rows.ErrorReport]
    largest: Sequence[report_rows.ContextSize]
    timeline: Sequence[report_rows.TimelineEntry]


async def collect(store: Store, **filters: Unpack[Filters]) -> Page:
    """Return everything that a page shows; ``limit`` is the number of rows in its tables.

    Raises:
        UnsupportedByStoreError: The store is not a database.
    """
    reports = store.reports
    user_id, chat_id = filters.get("user_id"), filters.get("chat_id")
    one_task = user_id is not None and chat_id is not None
    key = ContextKey(user_id or "", chat_id or "")
    unlimited: Filters = {**filters, "limit": None}
    timeline = await reports.timeline(key, limit=MAX_TIMELINE) if one_task else []
    limited = {name: getattr(reports, name)(**filters) for name in _LIMITED}
    return Page(
        database_url=store.database_url,
        user_id=user_id,
        chat_id=chat_id,
        since=_moment(filters.get("since")),
        until=_moment(filters.get("until")),
        created_at=datetime.now(UTC),
        limit=filters.get("limit"),
        failed_tasks=await reports.tasks(outcome="failed", **filters).count(),
        failed_runs=await reports.runs(outcome="failed", **filters).count(),
        unfinished_runs=await reports.runs(outcome="unfinished", **filters).count(),
        totals={name: await report.totals() for name, report in limited.items()},
        **{name: await report for name, report in limited.items()},
        models=await reports.models(**unlimited),
        activity=await reports.activity(**unlimited),
        timeline=[entry for entry in timeline if in_period(entry.timestamp, filters)],
    )


def render(page: Page) -> str:
    """Return a page as HTML.

    Raises:
        MissingPackageError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackageError("jinja2", "report") from error
    # The recorded texts are untrusted: all of them are escaped.
    environment = Environment(
        loader=PackageLoader("taskctx_sql.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    environment.filters.update(
        when=_when, short=_short, number=_number, compact=_compact, bytes=_bytes, seconds=_seconds
    )
    return environment.get_template("report.html.jinja").render(page=page, **_figures(page))


def _figures(page: Page) -> dict[str, Any]:
    """Return the charts, rankings and totals."""
    updates, size = _points(page)
    cost: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    for use in page.models:
        cost[use.model_id or "(no name)"] += use.cost
        calls[use.model_id or "(no name)"] += use.calls
    return {
        "updates": charts.stacked(updates),
        "growth": charts.growth(size),
        "costs": charts.shares(cost.items()),
        "calls": charts.shares(calls.items()),
        "operations": charts.shares(Counter(file.operation or "" for file in page.files).items()),
        "total": {
            "updates": sum(day.updates for day in page.activity),
            "removed": sum(day.removed for day in page.activity),
            "bytes": sum(day.bytes for day in page.activity),
            "calls": sum(calls.values()),
            "input_tokens": sum(use.input_tokens for use in page.models),
            "output_tokens": sum(use.output_tokens for use in page.models),
            "tokens": sum(use.input_tokens + use.output_tokens for use in page.models),
            "cost": sum(cost.values()),
        },
        "newest": list(page.timeline)[-MAX_TEXTS:],
    }


def _points(page: Page) -> tuple[charts.Points, charts.Points]:
    """Return updates and bytes over time: by timestamp for one task, by day for a period."""
    updates: dict[tuple[date | float, str], float] = defaultdict(float)
    size: dict[tuple[date | float, str], float] = defaultdict(float)
    if page.timeline:
        for entry in page.timeline:
            if entry.timestamp is not None and 0 <= entry.timestamp < 253402300800:
                updates[entry.timestamp, entry.update_type] += 1
                size[entry.timestamp, ""] += len(entry.data.encode())
    else:
        for row in page.activity:
            if row.day is not None:
                updates[row.day, row.update_type] += row.updates
                size[row.day, ""] += row.bytes
    return updates, size


def _moment(moment: date | datetime | float | None) -> str | None:
    """Return the beginning or end of a period as text."""
    if isinstance(moment, datetime):
        return moment.strftime("%Y-%m-%d %H:%M")
    if isinstance(moment, date):
        return str(moment)
    return None if moment is None else _when(moment)


def _when(timestamp: float | None) -> str:
    try:
        return "" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(timestamp)


def _escaped(value: Any) -> Any:
    """Return a value without direction marks, which would reverse the text around it."""
    if not isinstance(value, str):
        return value
    # Of the same type: what a macro returned is already escaped.
    return type(value)(plain(str(value), keep="\n\t"))


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ... ({len(text):,} characters)"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def _bytes(value: float) -> str:
    units = iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def _compact(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.2f} {letter}"
    return _number(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value < 120:
        return f"{value:.2f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
