"""Contexts from one database to another, row by row as they are: removed ones, runs and revisions too.

A context is invisible in the target until all of it is there; one that is there already moves on in one step. So
copying can be interrupted and done again, and whoever writes to the target meanwhile is never overwritten.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, Final

from taskctx_sql.model import Moved, TransferOutcome, TransferProgress
from taskctx_sql.sql import incomplete
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import statements
from taskctx_sql.sql.transfer.statements import FILES, MODELS, PARTS, REVISIONS, RUNS, UPDATES, Context, Part, Row

# How many rows a page has at first, and about how many characters it may have.
PAGE: Final = 500
PAGE_TEXT: Final = 4_000_000
LARGEST_PAGE: Final = 5_000
CONTEXTS_PAGE: Final = 200

# How often a context that is pruned while it is read is begun with again.
ATTEMPTS: Final = 10
_REVISED: Final = (UPDATES, MODELS, FILES, REVISIONS)

_GONE: Final = "it was deleted from the source while it was copied"
_PRUNED: Final = "it was pruned in the source again and again while it was copied: copy it again later"
_ELSEWHERE: Final = "it was changed in the target while it was copied: copy it again when nobody writes to it there"


async def contexts(store: SqlStore, user_id: str | None = None, chat_id: str | None = None) -> AsyncGenerator[Context]:
    """Return the contexts of a database, or of one user, or one chat of that user."""
    after = ""
    while True:
        page = await store.read("list", partial(statements.contexts_page, after, CONTEXTS_PAGE, user_id, chat_id))
        for context in page:
            yield context
        if len(page) < CONTEXTS_PAGE:
            return
        after = page[-1].context_id


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
                "read", partial(statements.numbered_page, part, context.context_id, first, high, context.revision)
            )
            first, size = high, _next_size(page, size)
            if page:
                yield page
        return
    after: Row | None = None
    while True:
        page = await store.read(
            "read", partial(statements.keyed_page, part, context.context_id, after, size, since, context.revision)
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


async def copy_context(
    source: SqlStore, target: SqlStore, context: Context, moved: Moved, tell: TransferProgress
) -> Context | None:
    """Bring one context to the target, and note in ``moved`` what was done. Return it as it was brought, if it was."""
    for _ in range(ATTEMPTS):
        there = await target.read("copy", partial(statements.context, context.key))
        if there is None or not there.revision:
            await target.write("copy", partial(statements.begin, target.engine_name, context))
            there = await target.read("copy", partial(statements.context, context.key))
        outcome, reason = await _compare_heads(source, target, context, there)
        if there is None or outcome == "refused":
            break
        brings = {"added": _bring, "extended": _extend, "unchanged": _bring_end}[outcome]
        result = await brings(source, target, context, there, moved, tell)
        if isinstance(result, Context):
            # It was pruned while it was read, and what is gone cannot be read any more.
            context = result
            continue
        reason = result
        if not reason and not await _bring_runs(source, target, there if outcome == "unchanged" else context):
            reason = _ELSEWHERE
        break
    else:
        reason = _PRUNED
    moved.outcomes["refused" if reason else outcome] += 1
    if reason:
        moved.tell(context.key, reason)
        return None
    return context


async def _compare_heads(
    source: SqlStore, target: SqlStore, context: Context, there: Context | None
) -> tuple[TransferOutcome, str]:
    """Tell what is to be done, and if it is nothing, why."""
    if there is None:
        return "refused", "it was deleted from the target while it was copied"
    if there.created_at != context.created_at:
        return "refused", "the target has another context of that user and chat, made at another time"
    if there.revision == 0:
        return ("added" if context.revision else "unchanged"), ""
    common = min(context.revision, there.revision)
    here = await source.read("copy", partial(statements.revision_identity, context.context_id, common))
    also = await target.read("copy", partial(statements.revision_identity, context.context_id, common))
    if here is None or here != also:
        return "refused", f"both sides have changed: their revisions {common} are not the same"
    return ("extended" if there.revision < context.revision else "unchanged"), ""


async def _bring(
    source: SqlStore, target: SqlStore, context: Context, there: Context, moved: Moved, tell: TransferProgress
) -> str | Context:
    """Write what the target does not have yet, and then show it.

    Returns:
        Why it could not be done, or the context as it is now if it is to be tried again, or nothing.
    """
    for part in _REVISED:
        # First, since a path has one version at a time.
        if part.has_revisions:
            async for removals in _removals(source, part, context, there):
                if await target.write("copy", partial(statements.write_removals, part, there, removals)) is None:
                    return _ELSEWHERE
        first = (
            1 + await target.read("copy", partial(statements.last_seq, part, context.context_id))
            if part.by_number
            else 1
        )
        async for page in pages(source, part, context, first=first, since=there.revision):
            new = await target.write("copy", partial(statements.write_rows, part, there, page))
            if new is None:
                return _ELSEWHERE
            if part is UPDATES:
                moved.added += new
                tell(str(context.key), new, None)
    if (changed := await changed_in_source(source, context)) is not None:
        if changed == _GONE:
            await target.write("copy", partial(incomplete.clear, context.context_id))
        return changed
    return "" if await target.write("copy", partial(statements.finish, there, context)) else _ELSEWHERE


async def _extend(
    source: SqlStore, target: SqlStore, context: Context, there: Context, moved: Moved, tell: TransferProgress
) -> str | Context:
    """Read what the target does not have yet, and write it in one transaction: see `_bring`."""
    changes = []
    for part in _REVISED:
        lost: list[Row] = []
        if part.has_revisions and context.pruned_until > there.revision:
            kept = await source.read(
                "read", partial(statements.keys_at, part, context.context_id, there.revision, live=False)
            )
            live = await target.read(
                "read", partial(statements.keys_at, part, context.context_id, there.revision, live=True)
            )
            lost = sorted(live - kept)
        removed = [row async for page in _removals(source, part, context, there) for row in page]
        first = int(there.named["next_seq" if part is UPDATES else "next_model"]) if part.by_number else 1
        new = [row async for page in pages(source, part, context, first=first, since=there.revision) for row in page]
        changes.append(statements.Changes(part, lost, removed, new))
    if (changed := await changed_in_source(source, context)) is not None:
        return changed
    added = await target.write("copy", partial(statements.extend, there, context, changes))
    if added is None:
        return _ELSEWHERE
    new_updates = added.get(UPDATES.table.name, 0)
    moved.added += new_updates
    tell(str(context.key), new_updates, None)
    return ""


async def _bring_end(
    source: SqlStore, target: SqlStore, context: Context, there: Context, moved: Moved, tell: TransferProgress
) -> str | Context:
    """Note in the target that a run ended since, which makes no revision."""
    if there.revision == context.revision and there.updated_at < context.updated_at:
        return "" if await target.write("copy", partial(statements.finish, there, context)) else _ELSEWHERE
    return ""


async def changed_in_source(source: SqlStore, context: Context) -> str | Context | None:
    """Tell what happened to the context since it was looked at, if what was read of it may not be whole."""
    now = await source.read("copy", partial(statements.context, context.key))
    if now is None or now.created_at != context.created_at or now.revision < context.revision:
        return _GONE
    return now if now.pruned_until > context.pruned_until else None


async def _removals(source: SqlStore, part: Part, context: Context, there: Context) -> AsyncGenerator[list[Row]]:
    """Return what left since the target saw it. What is written after this is marked already."""
    after: Row = (0,) if part.by_number else ("", 0)
    while part.has_revisions:
        page = await source.read(
            "read",
            partial(statements.removals_page, part, context.context_id, there.revision, context.revision, after, PAGE),
        )
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1][:-1]


async def _bring_runs(source: SqlStore, target: SqlStore, context: Context) -> bool:
    async for page in pages(source, RUNS, context):
        write = partial(statements.write_runs, target.engine_name, context, page)
        if await target.write("copy", write) is None:
            return False
    return True


async def verify_context(
    source: SqlStore, target: SqlStore, context: Context, moved: Moved, tell: TransferProgress
) -> None:
    """Read a context from both sides, as it was when it was copied, and note every difference in ``moved``.

    What is only newer in one of them is none.
    """
    there = await target.read("verify", partial(statements.context, context.key))
    if there is None or there.revision < context.revision:
        moved.tell(context.key, "it is not in the target")
        return
    problems: list[str] = []
    only_there: list[str] = []
    only_here: list[tuple[int, str]] = []
    if there.revision == context.revision and not there.is_same_or_later(context):
        problems.append("the context's own row is not the same in the target")
    for part in PARTS:
        async for page in pages(source, part, context):
            low, high = part.place(page[0]), part.place(page[-1])
            other = await target.read("verify", _same_page(part, context, page, low, high))
            now = None
            if page != other and part is RUNS:
                now = await source.read("verify", partial(statements.context, context.key))
            goes_on = now is not None and not now.is_same(context)
            equal = len(page)
            if page != other:
                equal = _report(part, page, other, problems, only_there, only_here, goes_on=goes_on)
            if part is UPDATES:
                moved.verified = (moved.verified or 0) + equal
                tell(str(context.key), equal, None)
    if only_here:
        # What the target pruned is in the source only.
        pruned = await target.read("verify", partial(as_of.pruned_until, context.context_id))
        problems += [problem for left_in, problem in only_here if pruned < min(left_in, context.revision + 1)]
    if problems or only_there:
        changed = await changed_in_source(source, context)
        if changed == _GONE:
            return
        # What was pruned since is in the target only.
        problems += [] if isinstance(changed, Context) else only_there
    for problem in problems:
        moved.tell(context.key, problem)


def _same_page(part: Part, context: Context, page: list[Row], low: Row, high: Row) -> Callable[[], Plan[list[Row]]]:
    if part.by_number:
        return partial(statements.numbered_page, part, context.context_id, low[0], high[0] + 1, context.revision)
    return partial(statements.keyed_page_between, part, context.context_id, low[0], high[0], context.revision)


def _report(
    part: Part,
    page: list[Row],
    other: list[Row],
    problems: list[str],
    only_there: list[str],
    only_here: list[tuple[int, str]],
    *,
    goes_on: bool,
) -> int:
    """Note which rows differ, and return how many do not. Removed rows that only the target kept are fine.

    Args:
        part: Of which table.
        page: The rows of the source.
        other: Those of the target.
        problems: Where to note what is missing or not the same.
        only_there: Where to note what only the target has.
        only_here: Where to note what only the source has and may have been pruned in the target, with the revision
            in which it left.
        goes_on: Whether the source was saved to since: runs have no revisions, and these may be newer.
    """
    found: dict[Row, Row] = {part.place(row): row for row in other}
    equal = 0
    for row in page:
        there = found.pop(part.place(row), None)
        if there == row or (part is RUNS and _went_on(part, row, there, here=goes_on)):
            equal += 1
        else:
            state = "is missing" if there is None else "is not the same"
            problem = f"{part.table.name} {_shown(part, row)} {state} in the target"
            if there is None and part.has_revisions:
                left_in = part.value(row, "removed_in")
                only_here.append((as_of.LAST_REVISION if left_in is None else int(left_in), problem))
            else:
                problems.append(problem)
    low, high = part.place(page[0]), part.place(page[-1])
    for place, row in found.items():
        if low <= place <= high and part.has_revisions and part.value(row, "removed_in") is None:
            only_there.append(f"{part.table.name} {place} is in the target only")
    return equal


def _went_on(part: Part, row: Row, there: Row | None, *, here: bool) -> bool:
    if there is None:
        return here
    saves, others = int(part.value(row, "saves")), int(part.value(there, "saves"))
    return saves < others or (here and saves > others)


def _shown(part: Part, row: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(part.key, part.place(row), strict=True))


async def copy_database(
    source: SqlStore,
    target: SqlStore,
    *,
    user_id: str | None,
    chat_id: str | None,
    verify: bool,
    progress: TransferProgress,
) -> Moved:
    """Copy contexts, and compare them afterwards. See `moving.copy`."""
    moved = Moved(source.database_url, target.database_url, verified=0 if verify else None)
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
        brought = await copy_context(source, target, context, moved, told("copying"))
        if brought is not None and verify:
            await verify_context(source, target, brought, moved, told("comparing"))
    return moved
