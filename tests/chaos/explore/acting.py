"""What is done at a point: by the program itself, or by somebody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from taskctx_sql import Feature, TaskContext
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Retention
from tests.chaos.explore.model import add
from tests.chaos.explore.places import Other
from tests.chaos.explore.points import Action

if TYPE_CHECKING:
    from tests.chaos.explore.running import Run


def act(run: Run, action: Action) -> None:
    if action is Action.ADD:
        mark = run.model.new_mark()
        add(run.context, mark)
        run.model.added(mark)
        run.meanwhile.append(mark)
    elif action is Action.EDIT:
        run.is_edited = True
        edit(run, -1)
    elif action is Action.CLOSE:
        run.closing = asyncio.ensure_future(run.store.close())
    else:
        # Its statements and steps are not the program's.
        caller, run.points.caller = run.points.caller, None
        if run.other is None:
            run.other = Other(run.place)
        works: dict[Action, Callable[[Other], Coroutine[Any, Any, None]]] = {
            Action.OTHER_SAVES: lambda other: _other_saves(run, other),
            Action.OTHER_DELETES: lambda other: _other_deletes(run, other),
            Action.OTHER_PRUNES: lambda other: _other_prunes(run, other, Retention(removed_age=0.0)),
            Action.OTHER_PRUNES_ALL: lambda other: _other_prunes(run, other, Retention(max_age=0.0)),
        }
        run.other.start(works[action](run.other))
        run.points.caller = caller


async def _other_saves(run: Run, other: Other) -> None:
    context = TaskContext(run.data, store=other.store)
    await context.load()
    add(context, "other")
    await context.save()
    run.model.others.add("other")


async def _other_deletes(run: Run, other: Other) -> None:
    run.model.gone = run.is_deleted = True
    await other.store.delete(run.context.key)
    # The program may have heard of another deletion meanwhile.
    run.model.gone = True
    run.model.past.clear()


async def _other_prunes(run: Run, other: Other, retention: Retention) -> None:
    run.model.pruned = True
    if retention.max_age is not None:
        run.model.gone = run.is_deleted = True
    user = run.data["user_id"] if Feature.USERS in run.model.features else None
    await prune(other.store, retention, user_id=user, now=time.time() + 60, batch=2)


def edit(run: Run, place: int) -> None:
    """Let one of the program's own updates say something else.

    Not one of an earlier state that is shown: the present may have it written anew, and then the edit is an update of
    its own, as the docs say.
    """
    if run.context.is_past:
        return
    mine = [
        update
        for update in run.context.context_history
        if isinstance(update.data, dict) and update.data.get("mark", "other").startswith("m")
    ]
    if mine:
        update = mine[place % len(mine)]
        says = f"edit {next(run.ticks)}"
        if run.is_deleted:
            # It stays, as what is unsaved, without what came with it.
            run.model.split.add(update.data["mark"])
            run.model.rewritten.add(update.data["mark"])
        update.data = {"mark": update.data["mark"], "says": says}
        run.model.present[("update", update.data["mark"])] = says
