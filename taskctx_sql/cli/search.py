"""The command ``search``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from taskctx_sql.cli import options, output, reports, tables
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.stores import opened_store
from taskctx_sql.cli.tables import Column
from taskctx_sql.model.search import ORDERS, SearchHit, SearchOrder

# How much of a snippet precedes the first match in a table, whose columns are narrow.
_BEFORE: Final = 12
# What is left out of a table first has the highest rank.
_COLUMNS: Final = {
    "timestamp": Column("when (UTC)", "value", 2),
    "user_id": Column("user", "id", 3),
    "chat_id": Column("chat", "id", 1),
    "title": Column("title", "text", 6),
    "seq": Column("seq", "number", 4),
    "update_type": Column("type", "id", 5),
    "snippet": Column("text", "text", least=24),
}
_NAMES: Final = (
    *("context_id", "user_id", "chat_id", "title", "seq", "timestamp", "timestamp_utc", "update_type", "removed"),
    *("rank", "snippet", "matches", "data"),
)


@command()
@click.argument("text")
@options.filter_options
@click.option("--type", "update_type", metavar="TYPE", help="Only updates of this type.")
@click.option("--order", type=click.Choice(ORDERS), default="newest", show_default=True, help="Which come first.")
@click.option("--case-sensitive", is_flag=True, help="Distinguish upper and lower case.")
@options.rows_format_option
@options.asynchronous
async def search(
    text: str,
    database_url: str | None,
    schema: str | None,
    update_type: str | None,
    order: SearchOrder,
    case_sensitive: bool,
    form: str,
    limit: int | None,
    **filters: Any,
) -> None:
    """Search the data of all updates, including removed ones.

    Prints the updates that have all words of TEXT in their data, newest first. Words in double quotes are found as they
    stand there. Exit code 1: there are none.

    \b
    taskctx search refused --type error --since 7d
    taskctx search '"is refused" port' --order relevance
    """
    limit = limit or (reports.ROWS if form == "table" else None)
    only = {"update_type": update_type, "order": order, "case_sensitive": case_sensitive, **filters}
    async with opened_store(database_url, schema) as store:
        if form == "table" and await store.search_backlog() is None:
            output.note("no search index: each update is read; `taskctx upgrade --search` builds one")
        found = store.search(text, limit=limit, **only)
        hits = await found
        if form == "json":
            output.print_json([_object(hit) for hit in hits])
        elif form == "csv":
            output.print_csv(_NAMES, [list(_object(hit).values()) for hit in hits])
        else:
            _print_table(hits, len(hits) if len(hits) < (limit or 0) else await found.count(), filters)
    if not hits:
        sys.exit(1)


def _print_table(hits: Sequence[SearchHit], count: int, filters: dict[str, Any]) -> None:
    # A column in which every row has the same is not needed, nor one that no row has.
    shown = [name for name in _COLUMNS if not filters.get(name) and (name != "title" or any(hit.title for hit in hits))]
    cells = [[_cell(hit, name) for name in shown] for hit in hits]
    is_cut = len(hits) < count
    heading = f"found: {len(hits):,} of {count:,}" if is_cut else f"found: {count:,}"
    remedy = "use a wider terminal, --format json or --format csv"
    tables.print_table(heading, [_COLUMNS[name] for name in shown], cells, remedy=remedy)
    if is_cut:
        tables.print_line(f"{count - len(hits):,} more: --limit {count} shows all.")


def _cell(hit: SearchHit, name: str) -> str:
    if name == "snippet":
        return _marked_snippet(hit)
    value = getattr(hit, name)
    if name == "timestamp":
        return "" if value is None else output.time_text(value)
    return f"{value:,}" if isinstance(value, int) else value or ""


def _marked_snippet(hit: SearchHit) -> tables.Marked:
    """Return the snippet from shortly before its first match."""
    first = hit.matches[0][0] if hit.matches else 0
    begin = max(0, first - _BEFORE)
    head = "…" if begin else ""
    matches = [(start - begin + len(head), end - begin + len(head)) for start, end in hit.matches]
    return tables.Marked(f"{head}{hit.snippet[begin:]}", matches)


def _object(hit: SearchHit) -> dict[str, Any]:
    """Return a hit for JSON and CSV: its time also as text, and its data as what it is."""
    special = {"timestamp_utc": output.utc_text(hit.timestamp), "data": output.stored_json(hit.data)}
    return {name: special[name] if name in special else getattr(hit, name) for name in _NAMES}
