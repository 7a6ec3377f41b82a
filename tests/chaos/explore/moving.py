"""The steps that see more than one store, or one store at two times: copying, setting back, watching."""

from __future__ import annotations

import asyncio
import contextlib
import copy

from taskctx_sql import Store, TaskContext, open_store, transfer
from taskctx_sql.errors import MissingHistoriesError
from tests.chaos.explore.backups import Backup
from tests.chaos.explore.model import State, add, items_of, ours
from tests.chaos.explore.outcome import AFTER_A_FAILURE, NOT_THERE_ANY_MORE
from tests.chaos.explore.points import HANG_SECONDS
from tests.chaos.explore.running import Run
from tests.chaos.marks import USER

# How often a watcher looks by itself.
POLL_SECONDS = 0.05


async def set_back(run: Run) -> None:
    """The database is set back to a backup: a context loaded from the newer one says so, and goes on from the older."""
    await run.settle()
    backup = Backup(run.place, f"{USER}-{run.first_chat}")
    try:
        await backup.take()
        kept, done = copy.deepcopy(run.model), dict(run.done)
        for _ in range(2):
            await _add(run)
            await run.settle()
        if run.other is not None:
            await run.other.finish(HANG_SECONDS)
        await backup.bring_back()
    finally:
        backup.close()
    model = run.model
    before = model.present
    # What was removed since is back, and the rest is as the model says once the program knows of it.
    model.past, model.operations, model.others, run.done = kept.past, kept.operations, kept.others, done
    model.gone, model.split = kept.gone, kept.split | model.split
    newest = max(kept.past, default=0)
    model.past = {revision: state for revision, state in kept.past.items() if revision <= newest}
    model.present, model.acknowledged = dict(kept.present), dict(kept.present)
    run.set_back_to, run.was_set_back = kept, True
    mark = await _add(run)
    await run.until_saved()
    if run.set_back_to is not None:
        run.set_back_to = None
        run.wrong(f"lost: a save of {mark} was taken after the database was set back, and memory has {sorted(before)}")


async def _add(run: Run) -> str:
    mark = run.model.new_mark()
    add(run.context, mark)
    run.model.added(mark)
    return mark


async def copy_elsewhere(run: Run) -> None:
    """Copy to another store, whatever interrupts it, and save to both: nobody sees a part, and nothing is lost."""
    if not run.place.copy_address or run.chat in run.copied:
        return
    run.copied.add(run.chat)
    await run.settle()
    losses = run.losses
    states = [dict(run.model.present)]
    whole = await _copy(run)
    async with open_store(run.place.copy_address, retry_seconds=run.retry_seconds) as store:
        found = await _seen(run, store, states, whole=whole, losses=losses)
        if whole:
            await _add(run)
            await run.until_saved()
            states.append(dict(run.model.present))
            whole = await _copy(run)
            found = await _seen(run, store, states, whole=whole, losses=losses)
        there = _context(run, store)
        await there.load()
        add(there, "there")
        await there.save()
        saved = ours(items_of(await _loaded(run, store), run.model.features))
        its_own = {item for item in saved if item[1].startswith("there")}
        rest = {item: value for item, value in saved.items() if item not in its_own}
        run.wrong(*run.model.torn(saved, "the copy that was saved to"))
        if not its_own or (rest != found and rest not in states and not run.model.gone and run.losses == losses):
            run.wrong(f"lost in a save to the copy: it had {sorted(found)}, and has {sorted(saved)}")
        await _add(run)
        await run.until_saved()
        await _copy(run)
        last = ours(items_of(await _loaded(run, store), run.model.features))
        if lost := [item for item in saved if item not in last]:
            run.wrong(f"lost in the copy by copying again: {lost}")
        run.wrong(*run.model.torn(last, "the copy after copying again"))


async def _copy(run: Run) -> bool:
    """Copy once; return whether it came to its end."""
    user, chat = run.context.user_id, run.context.chat_id
    source, target = run.place.address, run.place.copy_address
    try:
        moved = await run.call(lambda: transfer.copy(source, target, user_id=user, chat_id=chat))
    except (asyncio.CancelledError, OSError, MissingHistoriesError, *AFTER_A_FAILURE, *NOT_THERE_ANY_MORE) as error:
        if not (run.points.fired or run.is_deleted):
            raise
        run.outcome.trace.append(f"the copy broke off with {type(error).__name__}")
        return False
    # It may have met the fault and gone on, and then it says what did not come.
    return moved.ok


async def _seen(run: Run, store: Store, states: list[State], *, whole: bool, losses: int) -> State:
    """See that the copy has the last of the states, or after an interruption any of them, or nothing."""
    found = ours(items_of(await _loaded(run, store), run.model.features))
    run.wrong(*run.model.torn(found, "the copy"))
    allowed = states[-1:] if whole else [{}, *states]
    is_same = run.losses == losses and not (run.model.gone or run.is_edited or run.meanwhile)
    if found not in allowed and is_same:
        run.wrong(f"lost in the copy: it has {sorted(found)}, and the source had {[sorted(one) for one in allowed]}")
    return found


def _context(run: Run, store: Store) -> TaskContext:
    return TaskContext({"user_id": run.context.user_id, "chat_id": run.context.chat_id}, store=store)


async def _loaded(run: Run, store: Store) -> TaskContext:
    context = _context(run, store)
    await context.load()
    return context


async def watch(run: Run) -> None:
    """Read a context's updates as they come, whatever interrupts it: each once, in order, and none left out."""
    await run.settle()
    # What a restore or an undo brings back is nothing new.
    if run.model.gone or run.model.pruned or run.done:
        return
    context, came = run.context, list[int]()
    stored = [row.seq async for row in run.store.updates(context.key)]
    if not stored:
        return

    async def take() -> None:
        after = came[-1] if came else 0
        if after >= stored[-1]:
            return
        updates = run.store.watch(context.key, after=after, poll_interval=POLL_SECONDS)
        async with contextlib.aclosing(updates):
            async for row in updates:
                came.append(row.seq)
                if row.seq >= stored[-1]:
                    return

    await run.until_done(take)
    if run.model.gone or run.model.pruned:
        return
    if came != sorted(set(came)):
        run.wrong(f"doubled or out of order for a watcher: {came}")
    if missed := [seq for seq in stored if seq not in came]:
        run.wrong(f"lost for a watcher: {missed}")
