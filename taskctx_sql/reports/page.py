"""The reports of a period, or of one task, as a page of HTML that needs nothing but itself: no script, no network."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from taskctx_sql.errors import MissingPackageError
from taskctx_sql.model import ContextKey
from taskctx_sql.plain_text import plain
from taskctx_sql.reports import charts

if TYPE_CHECKING:
    from taskctx_sql.sql.reports import (
        Activity,
        ContextSize,
        ErrorReport,
        FileActivity,
        Filters,
        ModelUsage,
        Task,
        TaskRun,
        TimelineEntry,
    )
    from taskctx_sql.sql.store import SqlStore

T = TypeVar("T")

# Of one task so many updates are shown in its timeline, and so many of them with their text.
TIMELINE: Final = 5_000
SHOWN: Final = 100
# No text is longer than this on the page.
LONGEST: Final = 400
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """What a page shows. ``timeline`` is that of one task, else empty."""

    database_url: str
    user: str | None
    chat: str | None
    since: str | None
    until: str | None
    made_at: datetime
    contexts: int
    tasks: Sequence[Task]
    runs: Sequence[TaskRun]
    models: Sequence[ModelUsage]
    activity: Sequence[Activity]
    files: Sequence[FileActivity]
    errors: Sequence[ErrorReport]
    largest: Sequence[ContextSize]
    timeline: Sequence[TimelineEntry]


async def collect(store: SqlStore, filters: Filters) -> Report:
    """Ask for all that a page shows; ``limit`` is how many rows its tables have."""
    from taskctx_sql.sql.reports import in_period, queries

    user, chat = filters.get("user"), filters.get("chat")
    one = user is not None and chat is not None
    timeline = await queries.timeline(store, ContextKey(user or "", chat or ""), limit=TIMELINE) if one else []
    return Report(
        database_url=store.database_url,
        user=user,
        chat=chat,
        since=_named(filters.get("since")),
        until=_named(filters.get("until")),
        made_at=datetime.now(UTC),
        contexts=await queries.count_contexts(store, **filters),
        tasks=await queries.tasks(store, **filters),
        runs=await queries.runs(store, **filters),
        models=await _whole(queries.models, store, filters),
        activity=await _whole(queries.activity, store, filters),
        files=await queries.files(store, **filters),
        errors=await queries.errors(store, **filters),
        largest=[] if one else await queries.largest(store, **filters),
        timeline=[entry for entry in timeline if in_period(entry.timestamp, filters)],
    )


async def _whole(report: Callable[..., Awaitable[list[T]]], store: SqlStore, filters: Filters) -> list[T]:
    found: list[T] = []
    while rows := await report(store, **{**filters, "limit": _PAGE}, after=found[-1] if found else None):
        found += rows
        if len(rows) < _PAGE:
            break
    return found


def render(report: Report) -> str:
    """Return the page.

    Raises:
        MissingPackageError: The template library is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackageError("jinja2", "report") from error
    # What was recorded is anybody's text: all of it is escaped.
    environment = Environment(
        loader=PackageLoader("taskctx_sql.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters.update(
        when=_when, short=_short, number=_number, compact=_compact, bytes=_bytes, seconds=_seconds
    )
    return environment.get_template("report.html.jinja").render(report=report, **_figures(report))


def _figures(report: Report) -> dict[str, Any]:
    """Return what is computed from the rows."""
    updates, size = _points(report)
    cost: dict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    for use in report.models:
        cost[use.model_id or "(no name)"] += use.cost
        calls[use.model_id or "(no name)"] += use.calls
    return {
        "updates": charts.stacked(updates),
        "growth": charts.growth(size),
        "costs": charts.shares(cost.items()),
        "calls": charts.shares((name, float(count)) for name, count in calls.items()),
        "operations": charts.shares(
            (name, float(count)) for name, count in Counter(file.operation or "" for file in report.files).items()
        ),
        "total": {
            "updates": sum(day.updates for day in report.activity),
            "removed": sum(day.removed for day in report.activity),
            "errors": sum(day.updates for day in report.activity if day.update_type == "error"),
            "bytes": sum(day.bytes for day in report.activity),
            "calls": sum(calls.values()),
            "tokens": sum(use.input_tokens + use.output_tokens for use in report.models),
            "cost": sum(cost.values()),
        },
        "newest": list(report.timeline)[-SHOWN:],
    }


def _points(report: Report) -> tuple[charts.Points, charts.Points]:
    """Return updates and bytes over time: of one task by the second, of a period by the day."""
    updates: dict[tuple[date | float, str], float] = defaultdict(float)
    size: dict[tuple[date | float, str], float] = defaultdict(float)
    if report.timeline:
        for entry in report.timeline:
            if entry.timestamp is not None and 0 <= entry.timestamp < 253402300800:
                updates[entry.timestamp, entry.update_type] += 1
                size[entry.timestamp, ""] += len(entry.data.encode())
    else:
        for row in report.activity:
            if row.day is not None:
                updates[row.day, row.update_type] += row.updates
                size[row.day, ""] += row.bytes
    return updates, size


def _named(moment: date | datetime | float | None) -> str | None:
    """Return what to call the edge of a period."""
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


def _harmless(value: Any) -> Any:
    """Return what stands on the page for a value: a mark of direction in a text would turn its surroundings around."""
    if not isinstance(value, str):
        return value
    text = plain(str(value), keep="\n\t")
    # What a macro made was escaped before.
    return type(value)(text)


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text):,} characters)"


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
