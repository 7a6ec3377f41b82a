"""Saves that travel together: each gets the answer, and has the effect, that it has alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import TaskContextError
from taskctx_sql.model import Delta, FileChange, MappingChange, Saved
from tests.conftest import DATABASES
from tests.support.contract import new_delta, new_run

MODEL = {"model_id": "m", "provider_id": "p", "mode": "chat", "timestamp": 1.5}


def change(**values: Any) -> MappingChange:
    return MappingChange(values, values, [])


async def append(store: Store, key: ContextKey) -> Delta:
    """The usual save, to a context of three updates."""
    saved = await store.save(new_delta(key, 1, 2, 3))
    return new_delta(key, "new", base=saved.base)


async def create(store: Store, key: ContextKey) -> Delta:
    return new_delta(key, "first")


async def create_what_is_there(store: Store, key: ContextKey) -> Delta:
    await append(store, key)
    return new_delta(key, "first", metadata=change(k=1))


async def create_with_trackers(store: Store, key: ContextKey) -> Delta:
    return new_delta(key, models=[MODEL], files=[FileChange("a", {"state": "x"}, None)], metadata=change(k=1))


async def append_after_others(store: Store, key: ContextKey) -> Delta:
    delta = await append(store, key)
    await store.save(new_delta(key, "of others", metadata=change(old=1)))
    delta.metadata, delta.models = change(new=2), [MODEL]
    return delta


async def append_what_was_appended(store: Store, key: ContextKey) -> Delta:
    delta = await append(store, key)
    await store.save(delta)
    return delta


async def append_only_if_unchanged(store: Store, key: ContextKey) -> Delta:
    delta = await append_after_others(store, key)
    delta.if_unchanged = True
    return delta


async def append_to_what_was_deleted(store: Store, key: ContextKey) -> Delta:
    delta = await append(store, key)
    await store.delete(key)
    return delta


async def change_everything(store: Store, key: ContextKey) -> Delta:
    files = [FileChange(path, {"state": "old"}, None) for path in ("a", "b")]
    saved = await store.save(new_delta(key, 1, 2, 3, models=[MODEL, MODEL], files=files))
    files = [
        FileChange("a", {"state": "new"}, saved.first_position),
        FileChange("b", None, None, removed=True),
        *(FileChange(path, {}, None) for path in ("c", "d")),
    ]
    more: dict[str, Any] = {"removed_updates": [saved.first_seq], "removed_models": [saved.first_model]}
    more |= {"models": [MODEL | {"cost": 0.5}], "files": files, "toggles": change(t=True)}
    return new_delta(key, "new", base=saved.base, metadata=change(k=[1]), **more)


async def optimize(store: Store, key: ContextKey) -> Delta:
    saved = await store.save(new_delta(key, 1, 2, 3))
    dropped = [saved.first_seq, saved.first_seq + 1]
    return new_delta(key, "new", base=saved.base, removed_updates=dropped, dropped=dropped, operation="optimize")


async def end_the_run(store: Store, key: ContextKey) -> Delta:
    run = new_run()
    saved = await store.save(new_delta(key, 1, run=run))
    ended = replace(run.next_save(), ended_at=run.started_at + 1, outcome="failed", error="why")
    return new_delta(key, base=saved.base, run=ended)


CASES: tuple[Callable[[Store, ContextKey], Awaitable[Delta]], ...] = (
    *(append, create, create_what_is_there, create_with_trackers, append_after_others, append_what_was_appended),
    *(append_only_if_unchanged, append_to_what_was_deleted, change_everything, optimize, end_the_run, append),
)


def answered(answer: Saved | BaseException) -> Any:
    """What does not differ between two contexts of the same history."""
    if isinstance(answer, Saved):
        return answer._replace(base=answer.base[1:], created_at=None)
    assert isinstance(answer, TaskContextError)
    return type(answer)


async def effect(store: Store, key: ContextKey) -> Any:
    found = await store.load(key)
    listed = await store.revisions(key) if found.revision else ()
    revisions = [replace(each, saved_at=0.0, run_id="") for each in listed]
    history = [(seq, update.data) for seq, update in zip(found.seqs, found.history, strict=True)]
    return found.base[1:], history, found.models, found.files, found.metadata, found.toggles, revisions


@pytest.mark.parametrize("kind", DATABASES)
async def test_each_save_of_a_group_has_the_answer_and_the_effect_that_it_has_alone(store: Store, user: str) -> None:
    keys = {how: [ContextKey(user, f"{how} {place}") for place in range(len(CASES))] for how in ("alone", "together")}
    deltas = {how: [await case(store, key) for case, key in zip(CASES, keys[how], strict=True)] for how in keys}
    alone = [(await asyncio.gather(store.save(delta), return_exceptions=True))[0] for delta in deltas["alone"]]
    # While the first is under way, the others wait, and then they travel together.
    first = store.save(new_delta(ContextKey(user, "first"), 1))
    _, *together = await asyncio.gather(first, *map(store.save, deltas["together"]), return_exceptions=True)
    for case, one, other, key, beside in zip(CASES, alone, together, *keys.values(), strict=True):
        assert (case.__name__, answered(other)) == (case.__name__, answered(one))
        assert (case.__name__, await effect(store, beside)) == (case.__name__, await effect(store, key))
    assert len({answered(answer) for answer in alone if not isinstance(answer, Saved)}) == 2
