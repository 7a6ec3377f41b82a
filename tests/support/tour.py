"""Every public call that sends SQL but for reports, once: a tour, with a new store at each stop.

What a new public call sends is not seen before it is a stop here; test_statements.py says which place was not visited.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import asyncpg

from taskctx_sql import ContextKey, ContextWriter, SqlStore, StateChange, TaskContext, Write, open_store, schema
from taskctx_sql.errors import ContextExistsError, StaleContextError
from taskctx_sql.maintenance import erase, examine, prune
from taskctx_sql.model import Retention
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.maintenance import statements
from taskctx_sql.sql.schema import REVISIONS
from taskctx_sql.sql.transfer import read, rows
from taskctx_sql.transfer import copy, export, import_folder
from tests.support.contract import new_delta
from tests.support.guide import KEY, USER, Guide, context, fill, stop


async def set_up(guide: Guide) -> None:
    """Take every migration by itself, up and down, and all of them at once."""
    for revision in (*REVISIONS, *reversed(REVISIONS[:-1])):
        await (schema.downgrade if (await schema.current(guide.url) or "") > revision else schema.upgrade)(
            guide.url, revision
        )
    # The name that the first revision had once.
    connection = await asyncpg.connect(guide.direct_url)
    await connection.execute("UPDATE taskctx_alembic_version SET version_num = '0001'")
    await connection.close()
    await schema.downgrade(guide.url, "base")
    await schema.upgrade(guide.url)
    await schema.upgrade(guide.url)


@stop("ping")
async def _(store: SqlStore, guide: Guide) -> None:
    await store.ping()


@stop("save")
async def _(store: SqlStore, guide: Guide) -> None:
    found = await context(store)
    for _ in range(2):
        fill(found)
        found.metadata["k"] = found.context_history[-1].timestamp
        await found.save()
    del found.context_history[1]
    found.file_tracker.pop("a.txt")
    found.model_tracker.pop(0)
    found.metadata_toggles["k"] = False
    # So many rows are copied.
    fill(found, 60)
    await found.save()
    async with found:
        fill(found, 1)
    # Several at once, one of them a copy.
    again = new_delta(ContextKey(USER, "at once"), 1, 2)
    others = [new_delta(ContextKey(USER, f"at once {number}"), number) for number in range(3)]
    await asyncio.gather(*(store.save(delta) for delta in (again, again, *others)))


@stop("save to what others have saved to")
async def _(store: SqlStore, guide: Guide) -> None:
    one, two = await context(store), await context(store)
    for found in (one, two):
        fill(found, 1)
        found.metadata[str(id(found))] = 1
        await found.save()
    fill(one, 1)
    try:
        await one.save(if_unchanged=True)
    except StaleContextError:
        pass
    else:
        raise AssertionError("it was saved")
    # One writes the history anew from an edit on, and the other takes out what stands after it.
    editing, removing = await context(store), await context(store)
    editing.context_history[0].data = "edited"
    await editing.save()
    del removing.context_history[-1]
    await removing.save()
    first = new_delta(ContextKey(USER, "twice"), 1)
    saved = await store.save(first)
    await store.save(new_delta(ContextKey(USER, "twice"), 2, base=saved.base))
    assert (await store.save(first)).first_seq == saved.first_seq


@stop("load")
async def _(store: SqlStore, guide: Guide) -> None:
    for limit in (None, 2, 60):
        assert (await store.load(KEY, history_limit=limit)).revision
    assert (await store.load(ContextKey(USER, "nobody"))).revision == 0
    for newest_first in (False, True):
        assert [row async for row in store.updates(KEY, after=1, newest_first=newest_first)]


@stop("load what fits")
async def _(store: SqlStore, guide: Guide) -> None:
    grouped = [new_delta(ContextKey(USER, "grouped"), number) for number in range(2)]
    for delta in grouped:
        delta.updates[0].metadata["group"] = "g"
        await store.save(delta)
    chosen = await store.load(ContextKey(USER, "grouped"), max_chars=99, keep_types=["system"])
    assert len(chosen.updates) == 2
    assert (await store.load(KEY, types=["message"], history_limit=2)).earlier


@stop("watch")
async def _(store: SqlStore, guide: Guide) -> None:
    async with aclosing(store.watch(ContextKey(USER, "c"))) as updates:
        assert (await anext(updates)).seq == 1


@stop("travel in time")
async def _(store: SqlStore, guide: Guide) -> None:
    chat = "traveled"
    found = await context(store, chat)
    for number in range(3):
        fill(found)
        found.metadata["number"] = number
        found.track_file_operation("a.txt", f"op{number}")
        await found.save()
    del found.context_history[1], found.model_tracker[0]
    await found.save()
    other = await context(store, chat)
    await found.restore(2)
    # Rows that the restore wrote anew.
    del other.context_history[1], other.model_tracker[0]
    await other.save()
    await found.load()
    await found.undo()
    await found.restore(1)
    await found.undo()
    assert (await store.load(found.key, revision=2)).revision == 2
    assert (await store.load(found.key, at=found._unsaved.base.created_at + 1000)).revision
    # The oldest that is known, of a database that is older than the table.
    connection = await asyncpg.connect(guide.direct_url)
    await connection.execute(
        "DELETE FROM taskctx_revisions WHERE context_id = $1 AND revision = 3", row_codec.context_id(found.key)
    )
    await connection.close()
    assert len(await found.revisions(before=5, limit=1)) == 1
    assert await store.difference(found.key, 1, 5)
    assert await store.difference(found.key, 1, 2)
    await found.fork("forked", revision=2)
    try:
        await found.fork("forked")
    except ContextExistsError:
        pass
    else:
        raise AssertionError("it was forked")


@stop("write without loading")
async def _(store: SqlStore, guide: Guide) -> None:
    key = ContextKey(USER, "written")
    writer = ContextWriter(store, key)
    await writer.write(updates=[("message", number) for number in range(3)], state={"a": 1, "b": 2}, title="A title")
    await writer.write(updates=[("event", 3)], state={"a": 3}, if_revision=1)
    await writer.end()
    if not guide.is_citus:
        await store.write_together(
            [Write(ContextKey(USER, f"one of {number}"), labels={"a": "b"}) for number in (2, 3)]
        )
    assert await store.state(key, "a", prefix="a", after="A", before="b", limit=1, revision=1)
    assert await store.state(key, newest_first=True)
    assert await store.state(key, by_time=True, limit=1)
    assert await store.label(key, labels={"title": None}) == 3
    assert await store.pop_update(key)
    assert await store.pop_update(key, types=["message"])
    assert await store.clear_updates(key, types=["message"]) == 2
    assert await store.clear_updates(key) == 0


@stop("delete")
async def _(store: SqlStore, guide: Guide) -> None:
    assert await store.delete(ContextKey(USER, "at once"))


@stop("prune", crosses="what is old is looked for everywhere")
async def _(store: SqlStore, guide: Guide) -> None:
    for dry_run in (True, False):
        await prune(store, Retention(removed_age=0), dry_run=dry_run, batch=10)
        await prune(store, Retention(max_contexts=3, removed_age=0), user_id=USER, dry_run=dry_run, batch=10)
        await prune(store, Retention(max_contexts=3, max_age=10**9), dry_run=dry_run)


@stop("prune what has expired", crosses="what has expired is looked for everywhere", table="")
async def _(store: SqlStore, guide: Guide) -> None:
    expired = StateChange("a", 1, expires_at=1.0)
    for user_id in (None, USER):
        await store.write(ContextKey(USER, "expiring"), state=[expired])
        for dry_run in (True, False):
            assert (await prune(store, Retention(expired=True), user_id=user_id, dry_run=dry_run)).rows


@stop("open calls", crosses="calls are open in contexts on all machines", table="")
async def _(store: SqlStore, guide: Guide) -> None:
    key = ContextKey(USER, "calling")
    await store.write(key, updates=[("tool_call", {"name": "a tool"}, {"group": "1", "name": "a tool"})])
    assert await store.open_calls()
    assert await store.open_calls(user_id=USER)
    assert await store.open_calls(key)
    assert await store.close_calls(key)


@stop("erase", crosses="a user's contexts are on all machines")
async def _(store: SqlStore, guide: Guide) -> None:
    for chat in ("erased", "erased, too"):
        await store.save(new_delta(ContextKey("nobody", chat), *range(30)))
    # One that broke off, and a save in its place.
    key = ContextKey("nobody", "half")
    await store.save(new_delta(key, *range(5)))
    old = await store.read("erase", lambda: statements.one_context(row_codec.context_id(key)), user_id=key.user_id)
    assert old is not None
    await store.write_plan("erase", lambda: statements.hide(old, guarded=False), user_id=key.user_id)
    await store.save(new_delta(key, "anew"))
    await erase(store, "nobody", "erased", batch=10)
    await erase(store, "nobody")


@stop("copy", crosses="what is to be copied is looked for everywhere")
async def _(store: SqlStore, guide: Guide) -> None:
    await copy(guide.url, guide.other_url)
    found = await context(store)
    # So that rows are removed on one side only, and runs go on.
    fill(found)
    await found.save()
    del found.context_history[2]
    found.file_tracker.pop("a.txt", None)
    await found.save()
    await prune(store, Retention(removed_age=0), user_id=USER, now=1e12)
    await store.read(
        "copy",
        lambda: read.keys_at(rows.UPDATES, row_codec.context_id(KEY), 1, live=True),
        user_id=USER,
    )
    for source, target in ((guide.url, guide.other_url), (guide.other_url, guide.url)):
        await copy(source, target, user_id=USER)
        await copy(source, target, user_id=USER, chat_id="c")
    async with open_store(guide.other_url) as other:
        changed = TaskContext({"user_id": USER, "chat_id": "c"}, store=other)
        await changed.load()
        fill(changed)
        await changed.save()
        del changed.context_history[4]
        changed.file_tracker.pop("a.txt", None)
        await changed.save()
    await copy(guide.other_url, guide.url)


@stop("import and export", crosses="what is to be exported is looked for everywhere")
async def _(store: SqlStore, guide: Guide) -> None:
    entry = {"timestamp": 1.0, "update_type": "file_operation", "metadata": {}}
    entry["data"] = {"path": "a.txt", "operation": "read", "source": "user"}
    folder = guide.folder / "histories"
    folder.mkdir()
    (folder / "context_history_imported.json").write_text(json.dumps([entry]))
    for _ in range(2):
        assert (await import_folder(folder, store, user_id=USER)).chats
    assert (await export(store, guide.folder / "exported")).contexts


@stop("doctor", crosses="it looks at all there is", table="")
async def _(store: SqlStore, guide: Guide) -> None:
    # An orphan, of which it tells how to remove it.
    await store.save(new_delta(ContextKey(USER, "orphan"), 1))
    connection = await asyncpg.connect(guide.direct_url)
    await connection.execute("DELETE FROM taskctx_contexts WHERE chat_id = 'orphan'")
    await connection.close()
    assert "orphans" in [found.check for found in (await examine(guide.url)).findings if found.level == "warning"]
