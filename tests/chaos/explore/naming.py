"""The step that sets values by name, in a context beside the program's own."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from taskctx_sql import ContextKey, Feature, TaskContext
from tests.chaos.explore.outcome import NOT_THERE_ANY_MORE
from tests.chaos.explore.running import Run

NAMES = ("one", "other")


async def name_values(run: Run) -> None:
    """Two values are always of the same write, in every revision, and a restore brings back both."""
    if Feature.STATE not in run.model.features:
        return
    await run.settle()
    key = ContextKey(run.context.user_id, f"{run.chat}-values-{run.model.new_mark()}")
    context = TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=run.store)
    with contextlib.suppress(*NOT_THERE_ANY_MORE):
        for number in range(2):
            values = dict.fromkeys(NAMES, number)
            await run.until_done(partial(run.store.write, key, state=values))
            await _look(run, key, values)
        await run.until_done(lambda: context.restore(1), context)
        await _look(run, key, dict.fromkeys(NAMES, 0))
        for revision in range(1, context.revision + 1):
            found = await _values(run, key, revision=revision)
            if set(found) != set(NAMES) or len(set(found.values())) > 1:
                run.wrong(f"torn in revision {revision}: the values by name are {found}")


async def _look(run: Run, key: ContextKey, expected: dict[str, int]) -> None:
    found = await _values(run, key)
    # Somebody else may have removed all that the user had.
    if found != expected and not (run.model.gone or run.is_deleted):
        run.wrong(f"the values by name are {found}, and {expected} were set")


async def _values(run: Run, key: ContextKey, **how: Any) -> dict[str, Any]:
    entries = await run.until_done(lambda: run.store.state(key, **how))
    return {entry.name: entry.value for entry in entries}
