"""Named values and labels over time: as of a revision, compared, restored, undone and forked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskctx_sql import ContextKey, Store, TaskContext
from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError, RevisionNotFoundError
from taskctx_sql.maintenance import prune
from taskctx_sql.model import MISSING, Retention, StateChange
from tests.conftest import ENGINES
from tests.support.contract import loaded, new_delta


@pytest.fixture(params=(*ENGINES, pytest.param("row-level security", marks=pytest.mark.wide)))
def kind(request: pytest.FixtureRequest) -> str:
    """Each engine, once."""
    return str(request.param)


async def put(store: Store, key: ContextKey, *changes: StateChange, **values: Any) -> int:
    """Save changes, or set values by name, in a revision of its own; None removes. Return the revision."""
    named = [StateChange(name, value, removed=value is None) for name, value in values.items()]
    return (await store.save(new_delta(key, state=[*changes, *named]))).revision


async def values(store: Store, key: ContextKey, **how: Any) -> dict[str, Any]:
    return {entry.name: entry.value for entry in await store.state(key, **how)}


def label(name: str, value: str | None) -> StateChange:
    return StateChange(name, value, removed=value is None, kind="label")


@pytest.fixture
def key(user: str) -> ContextKey:
    return ContextKey(user, "c1")


async def unloaded(store: Store, key: ContextKey) -> TaskContext:
    return TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store)


async def test_each_revision_has_the_values_it_had(store: Store, key: ContextKey) -> None:
    states: list[Mapping[str, Any]] = [
        {"a": 1, "b": {"deep": (1, {2})}},
        {"a": 2, "b": {"deep": (1, {2})}},
        {"a": 2},
        {"a": 2, "b": "back"},
    ]
    for before, after in zip([{}, *states], states, strict=False):
        gone = dict.fromkeys(before.keys() - after.keys())
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        await put(store, key, **gone, **changed)
    for number, state in enumerate(states, 1):
        assert await values(store, key, revision=number) == state
    assert await values(store, key) == states[-1]
    (entry,) = await store.state(key, "b")
    assert (entry.revision, entry.expires_at) == (4, None)
    assert abs(entry.saved_at - time.time()) < 60
    with pytest.raises(RevisionNotFoundError):
        await store.state(key, revision=5)
    with pytest.raises(ContextNotFoundError):
        await store.state(ContextKey(key.user_id, "none"), revision=1)
    assert await store.state(ContextKey(key.user_id, "none")) == []


async def test_names_are_in_the_order_of_their_bytes_and_chosen_by_it(store: Store, key: ContextKey) -> None:
    names = ["B", "a", "a%", "a/1", "a/10", "a/2", "a_", "b", "z", "é", "ｆ", "😀", "😀x"]
    await put(store, key, **dict.fromkeys(reversed(names), 0))

    async def found(*chosen: str, **how: Any) -> list[str]:
        return [entry.name for entry in await store.state(key, *chosen, **how)]

    assert await found() == names
    assert await found(newest_first=True) == names[::-1]
    assert await found(by_time=True) == names
    await store.write(key, state={names[1]: "later"})
    assert await found(by_time=True) == [names[0], *names[2:], names[1]]
    assert await found(by_time=True, newest_first=True, limit=3) == [names[1], names[0], names[2]]
    assert await found("z", "none", "a") == ["a", "z"]
    assert await found(prefix="a/") == ["a/1", "a/10", "a/2"]
    assert await found(prefix="a%") == ["a%"]
    assert await found(prefix="😀") == ["😀", "😀x"]
    assert await found(prefix="\U0010ffff") == []
    assert await found(prefix="\ud7ff") == []
    assert await found(after="a/1", before="a_") == ["a/10", "a/2"]
    assert await found(after="a/1", limit=2) == ["a/10", "a/2"]
    assert await found(prefix="a/", before="a/2", newest_first=True, limit=1) == ["a/10"]
    assert await found(limit=0) == []
    assert await found(revision=1, prefix="a/", limit=1) == ["a/1"]
    for wrong in ({"limit": -1}, {"kind": "other"}, {"prefix": 1}, {"after": 2}, {"revision": 0}):
        with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
            await values(store, key, **wrong)


async def test_what_has_expired_is_in_no_revision(store: Store, key: ContextKey) -> None:
    past, future = time.time() - 1, time.time() + 3600
    await put(store, key, StateChange("gone", 1, expires_at=past), StateChange("kept", 2, expires_at=future))
    await put(store, key, StateChange("late", 4, expires_at=past), more=3)
    assert await values(store, key) == {"kept": 2, "more": 3}
    assert await values(store, key, revision=1) == {"kept": 2}
    difference = await store.difference(key, 1, 2)
    assert difference.state == {"more": (MISSING, 3)}
    # One of the name is set as if there were none.
    await put(store, key, gone="again")
    assert await values(store, key) == {"gone": "again", "kept": 2, "more": 3}


async def test_a_difference_has_what_changed_by_name(store: Store, key: ContextKey) -> None:
    await put(store, key, label("title", "one"), a=1, b=[1.0], c=3)
    await put(store, key, a=5, b=[1.0], c=None)
    await put(store, key, label("title", "two"), label("parent", "p"), a=1, d=None, e=True)
    difference = await store.difference(key, 1, 3)
    assert difference.state == {"c": (3, MISSING), "e": (MISSING, True)}
    assert difference.labels == {"title": ("one", "two"), "parent": (MISSING, "p")}
    back = await store.difference(key, 3, 1)
    assert back.state == {"c": (MISSING, 3), "e": (True, MISSING)}
    assert difference
    assert not await store.difference(key, 2, 2)
    assert (await store.difference(key, 1, 2)).state == {"a": (1, 5), "c": (3, MISSING)}


async def test_a_restore_brings_values_and_labels_back_and_undo_takes_it_back(store: Store, key: ContextKey) -> None:
    await put(store, key, label("title", "one"), same="s", a=1, b=2)
    await put(store, key, label("title", None), label("parent", "p"), a=10, b=None, c=3)
    before = await store.state(key), await store.state(key, kind="label")
    context = await unloaded(store, key)
    assert await context.restore(1) == 3
    assert await values(store, key) == {"a": 1, "b": 2, "same": "s"}
    assert await values(store, key, kind="label") == {"title": "one"}
    assert await context.undo() == 4
    assert await values(store, key) == {name.name: name.value for name in before[0]}
    assert await values(store, key, kind="label") == {"parent": "p"}
    assert await values(store, key, revision=3) == {"a": 1, "b": 2, "same": "s"}
    # When a value was set stays, and what nobody changed was not written again.
    after = await store.state(key)
    assert [entry.saved_at for entry in after] == [entry.saved_at for entry in before[0]]
    assert next(entry.revision for entry in after if entry.name == "same") == 1


async def test_undo_keeps_values_that_were_changed_since(store: Store, key: ContextKey) -> None:
    await put(store, key, a=1, b=1, c=1, d=1)
    await put(store, key, a=2, b=2, c=2, d=None, e=2)
    context = await unloaded(store, key)
    await context.restore(1)
    await put(store, key, b=9, d=None, f=9)
    await context.load()
    await context.undo()
    assert await values(store, key) == {"a": 2, "b": 9, "c": 2, "e": 2, "f": 9}
    # The removal of what was not there counts, too.
    assert [one.changed_state for one in await store.revisions(key)] == [3, 3, 5, 5, 4]


async def test_undo_after_another_restore_was_undone(store: Store, key: ContextKey) -> None:
    await put(store, key, a=1)
    await put(store, key, a=2, b=2)
    context = await unloaded(store, key)
    await context.restore(1)
    await put(store, key, c=3)
    await context.load()
    await context.restore(2)
    await context.undo()
    assert await values(store, key) == {"a": 1, "c": 3}
    # What the first restore set is the same version, although it was written again since.
    await context.undo()
    assert await values(store, key) == {"a": 2, "b": 2, "c": 3}


async def test_a_fork_has_the_values_and_labels_of_its_revision(store: Store, key: ContextKey) -> None:
    await put(store, key, label("title", "plan"), label("parent", "root"), a=1, b=2)
    await put(store, key, label("title", "other"), a=3)
    new = await store.fork(key, "again", revision=1)
    assert await values(store, new) == {"a": 1, "b": 2}
    assert [one.changed_state for one in await store.revisions(new)] == [0]
    # Where it came from is in its revisions; its parent is that of the other.
    assert await values(store, new, kind="label") == {"parent": "root", "title": "plan"}
    assert (await store.revisions(new))[0].source_chat_id == "c1"
    await put(store, new, a="new")
    assert await values(store, key) == {"a": 3, "b": 2}
    assert await values(store, new, revision=1) == {"a": 1, "b": 2}


async def test_values_of_pruned_revisions_are_refused(store: Store, key: ContextKey) -> None:
    for number in range(5):
        await put(store, key, a=number, b=number)
    await put(store, key, b=None)
    now = time.time() + 60
    done = await prune(store, Retention(removed_age=0), user_id=key.user_id, now=now, batch=2)
    assert done.rows == {"taskctx_state": 9}
    assert await values(store, key) == {"a": 4}
    with pytest.raises(RevisionNotFoundError):
        await store.state(key, revision=5)
    assert await values(store, key, revision=6) == {"a": 4}


async def test_a_context_that_was_loaded_keeps_its_state_through_its_own_saves(store: Store, user: str) -> None:
    context = await loaded(store, user)
    context.add_context_update("message", 1)
    await context.save()
    await put(store, context.key, a=1)
    context.add_context_update("message", 2)
    context.metadata["m"] = 1
    await context.save()
    assert await values(store, context.key) == {"a": 1}
    assert await store.delete(context.key)
    assert await store.state(context.key) == []


CHANGES = st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 2)), min_size=1, max_size=3)
STEPS = st.lists(st.one_of(CHANGES, st.integers(1, 8), st.sampled_from(["undo", "fork"])), max_size=10)


@given(steps=STEPS)
@settings(max_examples=15)
async def test_any_changes_restores_and_undos_are_as_in_a_dictionary(store: Store, user: str, steps: list[Any]) -> None:
    key = ContextKey(user, str(time.monotonic_ns()))
    await put(store, key, a=0)
    # The values of each revision, from the first on, each with the step that set it: a restore sets none.
    states: list[dict[str, tuple[int, int]]] = [{"a": (0, -1)}]
    # What each restore that was not undone made of the values.
    restores: list[tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]] = []
    for number, step in enumerate(steps):
        context = await unloaded(store, key)
        now = dict(states[-1])
        if isinstance(step, dict):
            await put(store, key, **step)
            for name, value in step.items():
                now.pop(name, None)
                if value is not None:
                    now[name] = (value, number)
        elif step == "fork":
            key, restores, states = await store.fork(key, str(time.monotonic_ns())), [], []
        elif step == "undo" and restores:
            before, after = restores.pop()
            await context.undo()
            for name in {**before, **after}:
                if before.get(name) != after.get(name) and now.get(name) == after.get(name):
                    now.pop(name, None)
                    now |= {name: before[name]} if name in before else {}
        elif isinstance(step, int) and step <= len(states):
            await context.restore(step)
            restores.append((now, now := states[step - 1]))
        else:
            continue
        states.append(now)
    for revision, state in enumerate(states, 1):
        assert await values(store, key, revision=revision) == {name: value for name, (value, _) in state.items()}
