"""The programs: steps chosen by a seed. Each step is a call with what the model makes of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

from taskctx_sql import Feature, TaskContext
from taskctx_sql.errors import ContextExistsError, UnstorableValueError
from tests.chaos.explore.acting import edit as edit_one
from tests.chaos.explore.model import State, add, items_of, ours
from tests.chaos.explore.moving import copy_elsewhere, set_back, watch
from tests.chaos.explore.naming import name_values
from tests.chaos.explore.outcome import WrongError
from tests.chaos.explore.removing import erase_all, prune_by_age, prune_by_count, prune_removed
from tests.chaos.explore.running import Run

Step = Callable[[Run], Coroutine[Any, Any, None]]

# What optimizing leaves, in characters: about the updates of one mark and a half.
OPTIMIZED = 200


async def add_and_save(run: Run) -> None:
    mark = run.model.new_mark()
    add(run.context, mark)
    run.model.added(mark)
    await run.save()


async def save_nothing(run: Run) -> None:
    await run.save()


async def load(run: Run) -> None:
    await run.until_done(run.context.load)
    # A save in doubt is settled by it, and what is unsaved stays on top.
    run.wrong(*run.model.faults_of(items_of(run.context, run.model.features), "memory after a load"))


async def edit(run: Run) -> None:
    edit_one(run, 0)
    await run.save()


async def remove(run: Run) -> None:
    history = run.context.context_history
    if history:
        del history[len(history) // 2]
        run.model.removed(items_of(run.context, run.model.features))
    await run.save()


async def enter_and_leave(run: Run) -> None:
    is_added = False

    async def task() -> None:
        nonlocal is_added
        async with run.context:
            if not is_added:
                is_added = True
                mark = run.model.new_mark()
                add(run.context, mark)
                run.model.added(mark)

    await run.until_done(task)
    await run.until_saved()


async def run_that_fails(run: Run) -> None:
    """The block ends with an error of the program's, and what was done until then is saved."""
    is_added = False

    async def task() -> None:
        nonlocal is_added
        with contextlib.suppress(ZeroDivisionError):
            async with run.context:
                if not is_added:
                    is_added = True
                    mark = run.model.new_mark()
                    add(run.context, mark)
                    run.model.added(mark)
                raise ZeroDivisionError

    await run.until_done(task)
    await run.until_saved()


async def discard(run: Run) -> None:
    """Give up what is unsaved. What was in doubt is there or not, and memory says which."""
    model = run.model
    before = {} if model.gone else {item: model.present[item] for item in model.acknowledged if item in model.present}
    mark = model.new_mark()
    add(run.context, mark)
    model.added(mark)
    await run.until_done(run.context.discard)
    found = ours(items_of(run.context, model.features))
    lost = [item for item in before if item not in found]
    if lost and not model.gone:
        run.wrong(f"lost by discarding: {lost}")
    if ("update", mark) in found and mark not in run.meanwhile:
        run.wrong(f"discarded, and still there: {mark}")
    run.wrong(*model.torn(found, "memory after discarding"))
    model.present = found
    await run.until_saved()


async def go_elsewhere(run: Run) -> None:
    """Change whose context it is: then it is another one, which has all of memory, and the old one stays as it was."""
    if run.patient:
        await run.settle()
    old, before = dict(run.data), dict(run.model.present)
    was_settled = run.is_settled and not run.context.has_unsaved_changes
    if run.moves % 2 and Feature.USERS in run.model.features:
        run.data["user_id"] += "-other"
    run.moves += 1
    run.data["chat_id"] = run.chat = f"{run.chat}-{run.model.new_mark()}"
    run.context.user_id, run.context.chat_id = run.data["user_id"], run.chat
    run.model.past.clear()
    run.model.operations.clear()
    run.model.acknowledged.clear()
    run.done.clear()
    await run.until_saved()
    there = TaskContext(old, store=run.store)
    await there.load()
    left = items_of(there, run.model.features)
    run.wrong(*run.model.torn(left, "the context that it was before"))
    if was_settled and ours(left) != before and not run.model.gone:
        run.wrong(f"lost in the context that it was before: it has {left}, and had {before}")


async def optimize(run: Run) -> None:
    await run.settle()
    before = dict(run.model.present)
    if run.context.optimize_context(OPTIMIZED):
        run.model.removed(items_of(run.context, run.model.features))
        await _operated(run, before, dict(run.model.present))
    await run.save()


async def truncate(run: Run) -> None:
    await run.settle()
    history = run.context.context_history
    if len(history) < 2:
        return
    before, last = dict(run.model.present), history[len(history) // 2].timestamp
    kept_items = items_of(run.context, run.model.features)
    late = {id(update) for update in history if update.timestamp > last}
    run.context.context_history = [update for update in history if id(update) not in late]
    after = {item: value for item, value in before.items() if item in items_of(run.context, run.model.features)}
    run.context.context_history = history
    assert items_of(run.context, run.model.features) == kept_items
    run.open_operation = (before, after)
    await run.until_done(lambda: run.context.truncate_context_history(last))
    # What was added before the call began went with it.
    run.model.removed({**after, **items_of(run.context, run.model.features)})
    await _operated(run, before, after)
    await run.until_saved()
    run.open_operation = None


async def _operated(run: Run, before: State, after: State) -> None:
    if before != after:
        run.model.operations.append((before, after))


async def look(run: Run) -> None:
    await run.too_early(lambda: run.context.load(revision=1))
    await run.settle()
    if not run.model.past:
        return
    revision = sorted(run.model.past)[len(run.model.past) // 2]
    expected = dict(run.model.past[revision])
    await run.until_done(lambda: run.context.load(revision=revision))
    found = items_of(run.context, run.model.features)
    for mark in run.meanwhile:
        found = {item: value for item, value in found.items() if item[1].partition("/")[0] != mark}
    # An edit of meanwhile is on top.
    is_same = set(found) == set(expected) if run.is_edited else found == expected
    if not is_same and not run.model.gone:
        run.wrong(f"revision {revision} is shown as {found}, and was {expected}")
    await run.until_done(run.context.load)
    await run.until_saved()


async def restore(run: Run) -> None:
    await run.too_early(lambda: run.context.restore(1))
    await run.settle()
    if not run.model.past:
        return
    revision = sorted(run.model.past)[len(run.model.past) // 2]
    before, after = dict(run.model.present), ours(run.model.past[revision])
    run.open_operation = (before, after)
    await run.until_done(lambda: run.context.restore(revision))
    if run.refused:
        # What was added before the call began was saved first.
        present = run.model.present.items()
        before |= {item: value for item, value in present if item[1].partition("/")[0] in run.meanwhile}
    _took(run, dict(after))
    run.model.operations.append((before, after))
    run.model.others.clear()
    await run.until_saved()
    run.open_operation = None
    await _count(run, "restore")


async def undo(run: Run) -> None:
    await run.too_early(run.context.undo)
    await run.settle()
    if not run.model.operations:
        return
    before, after = dict(run.model.present), run.model.taken_back()
    run.open_operation = (before, after)
    await run.until_done(run.context.undo)
    run.model.operations.pop()
    _took(run, dict(after))
    run.model.others.clear()
    await run.until_saved()
    run.open_operation = None
    await _count(run, "undo")


def _took(run: Run, state: State) -> None:
    """The context has an earlier state. What was added meanwhile stays, unless the program saved it before."""
    found = items_of(run.context, run.model.features)
    for item, value in run.model.present.items():
        if item[1].partition("/")[0] in run.meanwhile and not (run.refused and item not in found):
            state[item] = value
        elif run.is_edited and item in found and value.startswith("edit") and found[item] == value:
            # So does what was edited meanwhile, on its own if the rest of its addition is gone.
            if item not in state:
                run.model.split.add(item[1])
            state[item] = value
    run.model.present = dict(sorted(state.items(), key=lambda pair: pair[0][1]))


async def _count(run: Run, operation: str) -> None:
    """Each operation was done once, however often it was tried."""
    done = sum(one.operation == operation for one in await run.context.revisions())
    run.done[operation] = run.done.get(operation, 0) + 1
    if done > run.done[operation]:
        raise WrongError(f"{operation} was called for {run.done[operation]} times, and is done {done} times")


async def fork(run: Run) -> None:
    chat = f"{run.chat}-fork-{run.model.new_mark()}"
    await run.too_early(lambda: run.context.fork(chat))
    await run.settle()
    expected = dict(run.model.present)
    try:
        await run.until_done(lambda: run.context.fork(chat))
    except WrongError as error:
        # It was done, and nobody heard of it.
        if not isinstance(error.__cause__, ContextExistsError) or not run.points.fired:
            raise
    if run.refused:
        # What was added before the call began was saved first.
        expected = dict(run.model.present)
    copied = ours(items_of(await run.fresh(chat=chat), run.model.features))
    if copied != expected and not run.model.gone:
        run.wrong(f"the fork has {copied}, and the context had {expected}")


async def mistake(run: Run) -> None:
    """An update cannot be stored, in strict mode; the program mends it."""
    edit_one(run, -1)
    mine = [update for update in run.context.context_history if update.update_type == "message"]
    if not mine:
        return
    good = mine[-1].data
    mine[-1].data = {"mark": good["mark"], "says": object()}
    try:
        await run.until_done(run.context.save)
    except WrongError as error:
        if not isinstance(error.__cause__, UnstorableValueError):
            raise
    if not isinstance(mine[-1].data["says"], str):
        mine[-1].data = good
        if ("update", good["mark"]) in run.model.present:
            run.model.present[("update", good["mark"])] = good["says"]
    await run.until_saved()


WITHOUT_REVISIONS: dict[str, Step] = {
    "add": add_and_save,
    "save": save_nothing,
    "load": load,
    "edit": edit,
    "remove": remove,
    "run": enter_and_leave,
    "optimize": optimize,
    "truncate": truncate,
    "mistake": mistake,
    "failing": run_that_fails,
    "discard": discard,
    "elsewhere": go_elsewhere,
    "erase": erase_all,
    "prune-age": prune_by_age,
    "prune-count": prune_by_count,
    "copy": copy_elsewhere,
}
WITH_REVISIONS: dict[str, Step] = {
    "look": look,
    "restore": restore,
    "undo": undo,
    "fork": fork,
    "prune": prune_removed,
    "watch": watch,
    "back": set_back,
    "values": name_values,
}
STEPS = {**WITHOUT_REVISIONS, **WITH_REVISIONS}
LENGTH = 4


def program(seed: int, *, revisions: bool, without: frozenset[str] = frozenset()) -> list[str]:
    """Return the names of a program's steps: some to begin with, and others by the seed."""
    chosen = random.Random(seed)
    names = [name for name in (STEPS if revisions else WITHOUT_REVISIONS) if name not in without]
    return ["add", "add", *(chosen.choice(names) for _ in range(LENGTH)), "add"]
