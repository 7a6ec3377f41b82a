"""What is looked at when a program is through: its earlier revisions, and what it left behind."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING

from taskctx_sql.errors import RevisionNotFoundError
from tests.chaos.explore.model import items_of, marks_of, ours
from tests.chaos.explore.points import HANG_SECONDS
from tests.chaos.explore.statements import WATCH

if TYPE_CHECKING:
    from tests.chaos.explore.running import Run


# How often it is looked whether something is left: a thread or a connection may take a moment on a busy machine.
LOOKS = 500


async def look_back(run: Run, newest: int) -> None:
    """Every revision is what it was, and none has a part of a save."""
    for revision in range(1, newest + 1):
        try:
            state = items_of(await run.fresh(revision), run.model.features)
        except RevisionNotFoundError:
            if not run.model.pruned:
                run.wrong(f"revision {revision} is refused, and nobody pruned")
            continue
        run.wrong(*run.model.torn(state, f"revision {revision}"))
        if revision in run.model.past and run.model.past[revision] != state:
            run.wrong(f"revision {revision} was {run.model.past[revision]}, and is {state}")


async def nothing_is_left(run: Run) -> None:
    left: list[str] = []
    for _ in range(LOOKS):
        tasks = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        threads = [one.name for one in threading.enumerate() if one.name.startswith("taskctx-")]
        # Those of `blocking` stay for the next call.
        threads = [name for name in threads if not name.startswith("taskctx-blocking")]
        connections = WATCH.open_connections()
        left = [*tasks, *threads, *([f"{connections} connections"] if connections else [])]
        if not left:
            return
        await asyncio.sleep(0.01)
    run.wrong(f"left behind: {left}")
    WATCH.sqlite.clear()
    WATCH.postgres.clear()


async def begin_anew(run: Run) -> None:
    """The store was closed: open it again, and take what is there."""
    assert run.closing is not None
    await run.in_time(run.closing, HANG_SECONDS)
    await run.closing
    run.closing = None
    run.store = await run.place.open(run.engine, strict=run.strict, retry_seconds=run.retry_seconds)
    run.context = run.new_context()
    await run.context.load()
    found = ours(items_of(run.context, run.model.features))
    model = run.model
    if model.gone:
        # It may have been removed, and what was added since may have come after.
        pass
    elif run.open_operation is not None:
        before, after = run.open_operation
        kept = {item: value for item, value in found.items() if item in before or item in after}
        if kept not in (before, after):
            run.wrong(f"an operation is there in part: {sorted(marks_of(kept))}")
    else:
        lost = [item for item in model.acknowledged if item in model.present and item not in found]
        strange = [item for item in found if item not in model.acknowledged and item not in model.present]
        if lost or strange:
            run.wrong(f"after closing lost {lost}, and strange {strange}")
    run.wrong(*model.torn(found, "the store after closing"))
    model.present, model.acknowledged = dict(found), dict(found)
    model.operations.clear()
    if run.keeps_revisions and run.context.revision:
        # An operation may have been done without the caller's hearing of it.
        run.done = Counter(one.operation for one in await run.context.revisions() if one.operation is not None)
    run.open_operation, run.set_back_to, run.is_settled = None, None, True
    run.meanwhile.clear()
