"""Contexts from one database to another, row by row as they are: removed ones, runs and revisions too.

A context is invisible in the target until all of it is there; one that is there already moves on in one step. So
copying can be interrupted and done again, and whoever writes to the target meanwhile is never overwritten.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, Final

from taskctx_sql.moved import Moved, Outcome, Progress
from taskctx_sql.sql import transfer
from taskctx_sql.sql.steps import Steps
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import FILES, MODELS, PARTS, REVISIONS, RUNS, UPDATES, Context, Part, Row

# How many rows a page has at first, and about how many characters it may have.
PAGE: Final = 500
PAGE_TEXT: Final = 4_000_000
LARGEST_PAGE: Final = 5_000
CONTEXTS_PAGE: Final = 200

_ELSEWHERE: Final = "it was changed in the target while it was copied: copy it again when nobody writes to it there"


async def contexts(store: SqlStore, user_id: str | None = None, chat_id: str | None = None) -> AsyncGenerator[Context]:
    """Return the contexts of a database, or of one user, or one chat of that user."""
    after = ""
    while True:
        page = await store.read("list", partial(transfer.contexts_page, after, CONTEXTS_PAGE, user_id, chat_id))
        for context in page:
            yield context
        if len(page) < CONTEXTS_PAGE:
            return
        after = page[-1].ident


async def pages(
    store: SqlStore, part: Part, context: Context, *, first: int = 1, since: int = 0
) -> AsyncGenerator[list[Row]]:
    """Return the rows of a context as it was at its revision, some at a time, in the order of their keys.

    Args:
        store: Where it is.
        part: Which rows.
        context: Whose, and in which revision.
        first: The first seq, for rows that have one.
        since: Only those of later revisions, for others.
    """
    size = PAGE
    if part.by_number:
        end = context.next_seq if part is UPDATES else int(context.named["next_model"])
        while first < end:
            high = min(first + size, end)
            page = await store.read(
                "read", partial(transfer.numbered_page, part, context.ident, first, high, context.revision)
            )
            first, size = high, _next_size(page, size)
            if page:
                yield page
        return
    after: Row | None = None
    while True:
        page = await store.read(
            "read", partial(transfer.keyed_page, part, context.ident, after, size, since, context.revision)
        )
        if page:
            yield page
        if len(page) < size:
            return
        after, size = part.place(page[-1]), _next_size(page, size)


def _next_size(page: list[Row], size: int) -> int:
    """Return how many rows to read next, so that pages of long rows stay small."""
    text = sum(len(value) for row in page for value in row if isinstance(value, str))
    wanted = size * PAGE_TEXT // text if text else LARGEST_PAGE
    return max(1, min(wanted, size * 4, LARGEST_PAGE))


async def copy_context(source: SqlStore, target: SqlStore, context: Context, moved: Moved, tell: Progress) -> bool:
    """Bring one context to the target, and note in ``moved`` what was done. Return whether it is there now."""
    there = await target.read("copy", partial(transfer.context, context.key))
    if there is None:
        await target.write("copy", partial(transfer.begin, target.engine_name, context))
        there = await target.read("copy", partial(transfer.context, context.key))
    outcome, reason = await _compare_heads(source, target, context, there)
    if there is None or outcome == "refused":
        moved.outcomes["refused"] += 1
        moved.tell(context.key, reason)
        return False
    complete = True
    if outcome != "unchanged":
        complete = await _bring(source, target, context, there, moved, tell)
    if complete:
        complete = await _bring_runs(source, target, context, there if outcome == "unchanged" else context)
    if not complete:
        outcome = "refused"
        moved.tell(context.key, _ELSEWHERE)
    moved.outcomes[outcome] += 1
    return complete


async def _compare_heads(
    source: SqlStore, target: SqlStore, context: Context, there: Context | None
) -> tuple[Outcome, str]:
    """Tell what is to be done, and if it is nothing, why."""
    if there is None:
        return "refused", "it was deleted from the target while it was copied"
    if there.created_at != context.created_at:
        return "refused", "the target has another context of that user and chat, made at another time"
    if there.revision == 0:
        return ("added" if context.revision else "unchanged"), ""
    common = min(context.revision, there.revision)
    here = await source.read("copy", partial(transfer.revision_identity, context.ident, common))
    also = await target.read("copy", partial(transfer.revision_identity, context.ident, common))
    if here is None or here != also:
        return "refused", f"both sides have changed: their revisions {common} are not the same"
    return ("extended" if there.revision < context.revision else "unchanged"), ""


async def _bring(
    source: SqlStore, target: SqlStore, context: Context, there: Context, moved: Moved, tell: Progress
) -> bool:
    """Write what the target does not have yet, and then show it. Return False if somebody else saved there."""
    for part in (UPDATES, MODELS, FILES, REVISIONS):
        # First, since a path has one version at a time.
        if part.has_revisions and not await _bring_removals(source, target, part, context, there):
            return False
        first = 1 + await target.read("copy", partial(transfer.last_seq, part, context.ident)) if part.by_number else 1
        async for page in pages(source, part, context, first=first, since=there.revision):
            new = await target.write("copy", partial(transfer.write_rows, part, there, page))
            if new is None:
                return False
            if part is UPDATES:
                moved.added += new
                tell(str(context.key), new, None)
    return await target.write("copy", partial(transfer.finish, there, context))


async def _bring_removals(source: SqlStore, target: SqlStore, part: Part, context: Context, there: Context) -> bool:
    """Mark what left since the target saw it. What is written after this is marked already."""
    after: Row = (0,) if part.by_number else ("", 0)
    while True:
        page = await source.read(
            "read",
            partial(transfer.removals_page, part, context.ident, there.revision, context.revision, after, PAGE),
        )
        if page and await target.write("copy", partial(transfer.write_removals, part, there, page)) is None:
            return False
        if len(page) < PAGE:
            return True
        after = page[-1][:-1]


async def _bring_runs(source: SqlStore, target: SqlStore, context: Context, there: Context) -> bool:
    async for page in pages(source, RUNS, context):
        write = partial(transfer.write_runs, target.engine_name, there, page)
        if await target.write("copy", write) is None:
            return False
    return True


async def verify_context(source: SqlStore, target: SqlStore, context: Context, moved: Moved, tell: Progress) -> None:
    """Read a context from both sides, as it was when it was copied, and note every difference in ``moved``."""
    there = await target.read("verify", partial(transfer.context, context.key))
    if there is None or there.revision < context.revision:
        moved.tell(context.key, "it is not in the target")
        return
    if there.revision == context.revision and not there.is_same(context):
        moved.tell(context.key, "the context's own row is not the same in the target")
    for part in PARTS:
        async for page in pages(source, part, context):
            low, high = part.place(page[0]), part.place(page[-1])
            other = await target.read("verify", _same_page(part, context, page, low, high))
            equal = len(page) if page == other else _report(part, context, page, other, moved)
            if part is UPDATES:
                moved.verified = (moved.verified or 0) + equal
                tell(str(context.key), equal, None)


def _same_page(part: Part, context: Context, page: list[Row], low: Row, high: Row) -> Callable[[], Steps[list[Row]]]:
    if part.by_number:
        return partial(transfer.numbered_page, part, context.ident, low[0], high[0] + 1, context.revision)
    return partial(transfer.keyed_page_between, part, context.ident, low[0], high[0], context.revision)


def _report(part: Part, context: Context, page: list[Row], other: list[Row], moved: Moved) -> int:
    """Note which rows differ, and return how many do not. Removed rows that only the target kept are fine."""
    found: dict[Row, Row] = {part.place(row): row for row in other}
    equal = 0
    for row in page:
        there = found.pop(part.place(row), None)
        if there == row or (part is RUNS and there is not None and _went_on(part, row, there)):
            equal += 1
        else:
            state = "is missing" if there is None else "is not the same"
            moved.tell(context.key, f"{part.table.name} {_shown(part, row)} {state} in the target")
    low, high = part.place(page[0]), part.place(page[-1])
    for place, row in found.items():
        if low <= place <= high and part.has_revisions and part.value(row, "removed_in") is None:
            moved.tell(context.key, f"{part.table.name} {place} is in the target only")
    return equal


def _went_on(part: Part, row: Row, there: Row) -> bool:
    return int(part.value(there, "saves")) > int(part.value(row, "saves"))


def _shown(part: Part, row: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(part.key, part.place(row), strict=True))


async def copy_database(
    source: SqlStore,
    target: SqlStore,
    *,
    user_id: str | None,
    chat_id: str | None,
    verify: bool,
    progress: Progress,
) -> Moved:
    """Copy contexts, and compare them afterwards. See `moving.copy`."""
    moved = Moved(source.address, target.address, verified=0 if verify else None)
    total = 0
    async for context in contexts(source, user_id, chat_id):
        total += context.next_seq - 1
    done = 0

    def told(doing: str) -> Callable[[str, int, Any], None]:
        def tell(where: str, count: int, _: Any) -> None:
            nonlocal done
            done += count
            progress(f"{doing} {where}", done, total * 2 if verify else total)

        return tell

    async for context in contexts(source, user_id, chat_id):
        moved.contexts += 1
        moved.updates += context.next_seq - 1
        if await copy_context(source, target, context, moved, told("copying")) and verify:
            await verify_context(source, target, context, moved, told("comparing"))
    return moved
