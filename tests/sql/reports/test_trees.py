"""Trees of tasks: what is below a task and what it adds up to, the same in the report, the view and `tree`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, TaskContext, open_store, schema
from taskctx_sql.model import Transferred
from taskctx_sql.reports import Tree, TreeNode
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.schema import contexts, state, views
from taskctx_sql.transfer import copy

START = 1_767_225_600.0


@dataclass
class Made:
    """A task as it was saved."""

    parent: str | None
    cost: float
    errors: int
    times: list[float]
    below: list[str] = field(default_factory=list)

    @property
    def own_duration(self) -> float | None:
        return self.times[-1] - self.times[0] if self.times else None


async def make(store: SqlStore, user: str, parents: Mapping[str, str | None], seed: int = 3) -> dict[str, Made]:
    """Save tasks with these parents, and something of their own in each."""
    chance = random.Random(seed)
    made: dict[str, Made] = {}
    for chat, parent in parents.items():
        times = sorted(START + chance.randrange(1_000) for _ in range(chance.randrange(4)))
        errors = chance.randrange(len(times) + 1)
        updates = [(at, "error" if number < errors else "step") for number, at in enumerate(times)]
        cost = chance.randrange(100) / 8
        await store.write(
            ContextKey(user, chat),
            updates=[ContextUpdate(at, kind, kind, {}) for at, kind in updates],
            models=[{"model_id": "m", "cost": cost, "input_tokens": 2}],
            parent=parent,
            title=f"title of {chat}",
        )
        made[chat] = Made(parent, cost, errors, times)
    for chat, one in made.items():
        if one.parent in made and one.parent != chat:
            made[one.parent].below.append(chat)
    return made


def below(made: Mapping[str, Made], chat: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return a task and all that are below it."""
    found = {chat}
    for child in made[chat].below:
        if child not in seen:
            found |= below(made, child, seen | found)
    return found


def span(made: Mapping[str, Made], chats: set[str]) -> float | None:
    times = [at for chat in chats for at in made[chat].times]
    return max(times) - min(times) if times else None


# A chain, a bush, a task that names itself, a missing parent, and hostile chats.
FOREST: dict[str, str | None] = {
    **{"root": None, "one": "root", "two": "one", "three": "two"},
    **{"bush": None, **{f"leaf {number}": "bush" for number in range(5)}, "under": "leaf 2"},
    **{"self": "self", "orphan": "gone", "sister": "gone", "niece": "sister", "alone": None},
    **{'a"\\/\n\x7f\u2028': None, "child of hostile": 'a"\\/\n\x7f\u2028'},
}


@pytest.fixture
async def forest(sql_store: SqlStore, user: str) -> dict[str, Made]:
    made = await make(sql_store, user, FOREST)
    # Another user's task is no part of it, though it names the same chat.
    await make(sql_store, f"other {user}", {"one": "root"})
    return made


async def test_the_sums_are_those_of_everything_below(sql_store: SqlStore, user: str, forest: dict[str, Made]) -> None:
    view = views.trees
    rows = await sql_store.query(sa.select(view).where(view.c.user_id == user), user_id=user)
    found = {row.chat_id: row for row in rows}
    assert found.keys() == forest.keys()
    for chat, one in forest.items():
        row, members = found[chat], below(forest, chat)
        assert (row.tasks, row.cost) == (len(members), sum(forest[member].cost for member in members)), chat
        assert row.errors == sum(forest[member].errors for member in members)
        assert (row.own_cost, row.own_errors, row.own_duration) == (one.cost, one.errors, one.own_duration)
        assert (row.duration, row.outcome, row.title) == (span(forest, members), "completed", f"title of {chat}")
        is_there = one.parent in forest and one.parent != chat
        parent_id = row_codec.context_id(ContextKey(user, one.parent)) if is_there and one.parent else None
        assert (row.parent, row.parent_id, row.is_root) == (one.parent, parent_id, int(not is_there))
        assert row.children == len(one.below)
    assert (found["root"].depth, found["bush"].depth, found["alone"].depth) == (3, 2, 0)


async def test_a_tree_is_the_same_from_each_of_its_tasks(
    sql_store: SqlStore, user: str, forest: dict[str, Made]
) -> None:
    tree = await sql_store.reports.tree(ContextKey(user, "bush"))
    assert [node.key.chat_id for node in tree] == [
        *("bush", "leaf 0", "leaf 1", "leaf 2", "under", "leaf 3", "leaf 4"),
    ]
    assert [node.depth for node in tree] == [0, 1, 1, 1, 2, 1, 1]
    for node in tree:
        assert await sql_store.reports.tree(node.key) == tree
    rows = {row.chat_id: row for row in await sql_store.reports.trees(user_id=user)}
    assert same(tree[0], rows["bush"])
    under = next(node for node in tree if node.key.chat_id == "under")
    assert (under.parent, under.title, under.is_missing) == (ContextKey(user, "leaf 2"), "title of under", False)


def same(node: TreeNode, row: Tree) -> bool:
    sums = ("tasks", "outcome", "errors", "calls", "input_tokens", "output_tokens", "cost", "duration")
    names = ("title", *sums, "own_errors", "own_cost", "own_duration")
    return all(getattr(node, name) == getattr(row, name) for name in names)


async def test_only_trees_are_listed(sql_store: SqlStore, user: str, forest: dict[str, Made]) -> None:
    listed = await sql_store.reports.trees(user_id=user)
    roots = ["root", "bush", "self", "orphan", "sister", 'a"\\/\n\x7f\u2028']
    assert [row.chat_id for row in listed] == roots[::-1]
    by_cost = await sql_store.reports.trees(user_id=user, sort="cost")
    assert [row.cost for row in by_cost] == sorted((row.cost for row in listed), reverse=True)
    assert (await sql_store.reports.trees(user_id=user).totals())["tasks"] == sum(row.tasks for row in listed)


async def test_a_task_that_is_only_partly_copied_is_in_no_tree(
    engine: AsyncEngine, sql_store: SqlStore, user: str
) -> None:
    await make(sql_store, user, {"root": None, "whole": "root", "partly": "root"})
    partly = sa.update(contexts).where(contexts.c.context_id == row_codec.context_id(ContextKey(user, "partly")))
    async with engine.begin() as connection:
        await connection.execute(partly.values(revision=0))
    found = await sql_store.reports.tree(ContextKey(user, "root"))
    assert [node.key.chat_id for node in found] == ["root", "whole"]


async def test_a_missing_parent_is_shown_as_such(sql_store: SqlStore, user: str, forest: dict[str, Made]) -> None:
    tree = await sql_store.reports.tree(ContextKey(user, "niece"))
    chats = [(node.key.chat_id, node.is_missing, node.depth) for node in tree]
    assert chats == [("gone", True, 0), ("orphan", False, 1), ("sister", False, 1), ("niece", False, 2)]
    root = tree[0]
    assert (root.tasks, root.own_cost, root.title, root.own_outcome) == (3, 0, None, None)
    assert root.cost == sum(forest[chat].cost for chat in ("orphan", "sister", "niece"))
    assert await sql_store.reports.tree(ContextKey(user, "gone")) == tree
    assert await sql_store.reports.tree(ContextKey(user, "never heard of")) == []


async def test_of_a_large_tree_what_is_around_a_task_is_read_first(
    sql_store: SqlStore, user: str, forest: dict[str, Made]
) -> None:
    async def chats(chat: str, limit: int) -> list[str]:
        found = await sql_store.reports.tree(ContextKey(user, chat), limit=limit)
        assert len(found) <= limit
        assert all(
            node.parent is None or node.depth == 0 or node.parent in {one.key for one in found} for node in found
        )
        return [node.key.chat_id for node in found]

    whole = await sql_store.reports.tree(ContextKey(user, "leaf 2"))
    assert await sql_store.reports.tree(ContextKey(user, "leaf 2"), limit=len(whole)) == whole
    assert await chats("leaf 2", 3) == ["bush", "leaf 2", "under"]
    assert (await chats("leaf 2", 5))[0] == "bush"
    assert len(await chats("bush", 4)) == 4
    # There is room for what is below: of a chain of parents, those right above.
    assert await chats("two", 2) == ["one", "two"]
    top = (await sql_store.reports.tree(ContextKey(user, "two"), limit=2))[0]
    assert (top.parent, top.depth, top.tasks) == (ContextKey(user, "root"), 0, 2)
    assert top.cost == forest["one"].cost + forest["two"].cost


async def test_a_circle_of_parents_ends(sql_store: SqlStore, user: str) -> None:
    parents = {"a": "c", "b": "a", "c": "b", "below": "b"}
    made = await make(sql_store, user, parents)
    ids = {row_codec.context_id(ContextKey(user, chat)): chat for chat in "abc"}
    first = ids[min(ids)]
    (listed,) = await sql_store.reports.trees(user_id=user)
    assert (listed.chat_id, listed.tasks, listed.depth) == (first, 4, 2 if first == "b" else 3 if first == "c" else 2)
    assert listed.cost == sum(one.cost for one in made.values())
    for chat in parents:
        tree = await sql_store.reports.tree(ContextKey(user, chat))
        assert tree[0].key.chat_id == first
        assert {node.key.chat_id for node in tree} == set(parents)
        assert same(tree[0], listed)


async def test_a_tree_follows_its_labels(sql_store: SqlStore, user: str) -> None:
    await make(sql_store, user, {"old": None, "new": None, "child": "old"})

    async def chats(chat: str) -> list[str]:
        return [node.key.chat_id for node in await sql_store.reports.tree(ContextKey(user, chat))]

    child = TaskContext({"user_id": user, "chat_id": "child"}, store=sql_store)
    await child.load()
    first = child.revision
    await sql_store.label(child.key, parent="new")
    assert (await chats("old"), await chats("new")) == (["old"], ["new", "child"])
    await child.restore(first)
    assert (await chats("old"), await chats("new")) == (["old", "child"], ["new"])
    await sql_store.fork(child.key, "copy")
    assert await chats("old") == ["old", "child", "copy"]
    await sql_store.label(child.key, labels={"parent": None})
    await sql_store.delete(ContextKey(user, "copy"))
    assert await chats("old") == ["old"]


async def test_a_save_that_only_appends_sets_a_parent_too(sql_store: SqlStore, user: str) -> None:
    parent, child = ContextKey(user, "parent"), ContextKey(user, "child")
    await sql_store.write(parent, updates=[("message", "a")])
    await sql_store.write(child, updates=[("message", "b")], parent="parent", state={"name": 1})
    assert [node.key for node in await sql_store.reports.tree(parent)] == [parent, child]
    assert [entry.value for entry in await sql_store.state(child)] == [1]


async def test_a_copy_keeps_the_tree_and_notices_another_parent(database_url: str, user: str, tmp_path: Path) -> None:
    source, root, child = f"sqlite:///{tmp_path}/source.db", ContextKey(user, "root"), ContextKey(user, "child")
    await schema.upgrade(source)
    async with open_store(source) as store:
        await store.write(root, labels={"title": "Root"}, updates=[("error", "it broke")])
        await store.label(child, parent="root")
        expected = await store.reports.tree(child)
    assert [(node.key, node.depth) for node in expected] == [(root, 0), (child, 1)]
    assert (await copy(source, database_url, user_id=user)).ok
    async with open_store(database_url) as store:
        assert await store.reports.tree(child) == expected
    made = engines.create_engine(engines.parse_url(database_url))
    async with made.begin() as connection:
        other = sa.update(state).where(state.c.context_id == row_codec.context_id(child)).values(parent_id="another")
        await connection.execute(other)
    await made.dispose()
    again = await copy(source, database_url, user_id=user)
    assert isinstance(again, Transferred)
    assert "taskctx_state" in str(again.problems)
