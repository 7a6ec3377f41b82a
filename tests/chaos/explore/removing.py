"""The steps that remove for good: erasing, and pruning by age, by count and of what was removed."""

from __future__ import annotations

import time

from taskctx_sql import Feature
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention
from tests.chaos.explore.running import Run

# So few rows in a transaction that there are several of them.
BATCH = 2


async def erase_all(run: Run) -> None:
    await run.settle()
    run.model.gone = run.is_deleted = True
    run.model.past.clear()
    context = run.context
    await run.or_interrupted(lambda: erase(run.store, context.user_id, context.chat_id, batch=BATCH))
    await _let_others_finish(run)
    if not run.points.fired and (await run.fresh()).context_history:
        run.wrong("it was erased, and is back in the store")


async def prune_by_age(run: Run) -> None:
    await _prune(run, Retention(max_age=0.0), is_gone=True)


async def prune_by_count(run: Run) -> None:
    # All of its rows in one transaction.
    await _prune(run, Retention(max_contexts=0), is_gone=True, batch=1_000)


async def prune_removed(run: Run) -> None:
    await _prune(run, Retention(removed_age=0.0), is_gone=False)


async def _prune(run: Run, retention: Retention, *, is_gone: bool, batch: int = BATCH) -> None:
    await run.settle()
    run.model.pruned = True
    if is_gone:
        run.model.gone = run.is_deleted = True
        run.model.past.clear()
    user = run.context.user_id if Feature.USERS in run.model.features else None
    # Later than every save by the clock of this program.
    await run.or_interrupted(lambda: prune(run.store, retention, user_id=user, now=time.time() + 60, batch=batch))


async def _let_others_finish(run: Run) -> None:
    if run.other is not None:
        await run.other.finish(5.0)
