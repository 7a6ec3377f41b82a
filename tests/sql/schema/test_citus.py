"""On a Citus: where rows are, and which machines a statement goes to. The contract is tested there as elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore, Write, open_store, schema
from taskctx_sql.errors import StaleContextError
from taskctx_sql.maintenance import examine
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.backends.postgres_backend import PostgresBackend
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.machines import Machines
from taskctx_sql.sql.schema import REVISIONS, functions, tables, views
from tests.conftest import CITUS_URL
from tests.support import tour_of_reports  # noqa: F401  # adds stops
from tests.support.citus import ask, install, new_database, nodes
from tests.support.contract import expect_reload, loaded, new_delta, stored
from tests.support.guide import CROSSING, STOPS, Guide, fill
from tests.support.psql import psql
from tests.support.tour import set_up

pytestmark = pytest.mark.wide

NAMES = set(tables.metadata.tables)


async def spread(url: str, schema: str = "public") -> tuple[set[str], int]:
    """The tables that are distributed, and how many groups of them are moved together."""
    found = await ask(
        url,
        "SELECT relname, colocationid FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid "
        "WHERE partmethod = 'h' AND relnamespace = to_regnamespace($1) AND partkey IS NOT NULL",
        schema,
    )
    return {row[0] for row in found}, len({row[1] for row in found})


async def left_at_the_coordinator(url: str, table: str) -> int:
    """How many bytes of a distributed table are not with the workers."""
    found = await ask(url, f"SELECT pg_relation_size('{table}')")
    return int(found[0][0])


async def machines_found(url: str) -> list[str]:
    """What the doctor says of where the tables are."""
    return [found.level for found in (await examine(url)).findings if found.check == "machines"]


# Distributing.


@pytest.fixture
async def empty_citus_url() -> AsyncIterator[str]:
    """A database on the Citus that is named, with nothing in it."""
    async with new_database(CITUS_URL) as url:
        yield url


async def test_an_upgrade_distributes_all_tables_and_keeps_a_contexts_rows_together(empty_citus_url: str) -> None:
    await schema.upgrade(empty_citus_url)
    assert await spread(empty_citus_url) == (NAMES, 1)
    found = await ask(
        empty_citus_url,
        "SELECT DISTINCT column_to_column_name(logicalrelid, partkey) FROM pg_dist_partition WHERE partmethod = 'h'",
    )
    assert [row[0] for row in found] == ["context_id"]


async def test_each_revision_is_taken_up_and_down_with_rows_in_the_tables(empty_citus_url: str, user: str) -> None:
    url = empty_citus_url
    # As it does by itself where there are many rows.
    await ask(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET citus.force_max_query_parallelization = on")
    await schema.upgrade(url)
    async with open_store(url) as store:
        for number in range(5):
            await store.save(new_delta(ContextKey(user, f"c{number}"), 1, 2))
    for step in (*reversed(REVISIONS[:-1]), *REVISIONS[1:]):
        await (schema.downgrade if step < (await schema.current(url) or "") else schema.upgrade)(url, step)
        later = {"taskctx_revisions": "taskctx_0002", "taskctx_state": "taskctx_0009"}
        assert (await spread(url))[0] == NAMES - {name for name, created in later.items() if step < created}
        assert (await spread(url))[1] == 1
    async with open_store(url) as store:
        for number in range(5):
            assert await stored(store, ContextKey(user, f"c{number}")) == [1, 2]
    await schema.downgrade(url, "base")
    assert await spread(url) == (set(), 0)
    await schema.upgrade(url)


async def test_a_database_that_becomes_a_citus_later_is_distributed_with_what_is_in_it(user: str) -> None:
    async with new_database(CITUS_URL, installed=False) as url:
        await schema.upgrade(url)
        async with open_store(url) as store:
            contexts = [await loaded(store, user, f"c{number}") for number in range(8)]
            for context in contexts:
                fill(context)
                await context.save()
        await install(CITUS_URL, url)
        assert await machines_found(url) == ["warning"]
        # Until then all is as before.
        async with open_store(url) as store:
            saving = asyncio.Event()

            async def save_on() -> int:
                context = await loaded(store, user, "meanwhile")
                count = 0
                while not saving.is_set():
                    context.add_context_update("message", count)
                    await context.save()
                    count += 1
                return count

            writer = asyncio.create_task(save_on())
            await schema.upgrade(url)
            await schema.upgrade(url)
            saving.set()
            count = await writer
            assert await stored(store, ContextKey(user, "meanwhile")) == list(range(count))
        assert await spread(url) == (NAMES, 1)
        assert await machines_found(url) == ["ok"]
        assert [await left_at_the_coordinator(url, name) for name in NAMES] == [0] * len(NAMES)
        async with open_store(url) as store:
            assert isinstance(store, SqlStore)
            for context in contexts:
                await expect_reload(store, context)


@pytest.mark.parametrize("start", [None, "taskctx_0001", REVISIONS[-2]])
async def test_the_printed_upgrade_distributes_the_same(empty_citus_url: str, user: str, start: str | None) -> None:
    url = empty_citus_url
    if start is not None:
        await schema.upgrade(url, start)
    await psql(url, await schema.upgrade_sql(url))
    # What it prints then distributes only what is not distributed yet.
    await psql(url, await schema.upgrade_sql(url))
    assert await spread(url) == (NAMES, 1)
    assert await machines_found(url) == ["ok"]
    found = await ask(url, "SELECT count(*) FROM pg_dist_object WHERE distribution_argument_index IS NOT NULL")
    assert found[0][0] == len(functions.ENTRY_POINTS)
    async with open_store(url) as store:
        await asyncio.gather(*(store.save(new_delta(ContextKey(user, f"c{number}"), 1)) for number in range(8)))
        assert len(await store.contexts(user)) == 8


async def test_a_given_schema_is_distributed_and_its_store_knows(empty_citus_url: str, user: str) -> None:
    name = 'My "tasks"'
    await schema.upgrade(empty_citus_url, schema=name)
    await schema.upgrade(empty_citus_url, schema=name)
    assert await spread(empty_citus_url, '"My ""tasks"""') == (NAMES, 1)
    async with open_store(empty_citus_url, schema=name) as store:
        await asyncio.gather(*(store.save(new_delta(ContextKey(user, f"c{number}"), 1)) for number in range(8)))
        assert len(await store.contexts(user)) == 8


async def test_a_store_can_be_opened_at_any_machine(citus_url: str, user: str) -> None:
    for number, node in enumerate(await nodes(citus_url)):
        async with open_store(node.url(citus_url)) as store:
            context = await loaded(store, user)
            assert len(context.context_history) == number
            context.add_context_update("message", number)
            await context.save()
            assert len(await store.contexts(user)) == 1


# Where statements go.


@pytest.fixture
async def guide(empty_citus_url: str, tmp_path: Path) -> AsyncIterator[Guide]:
    async with new_database(CITUS_URL) as other_url:
        await schema.upgrade(other_url)
        guide = Guide(empty_citus_url, empty_citus_url, other_url, tmp_path, is_citus=True)
        await set_up(guide)
        database = empty_citus_url.rpartition("/")[2]
        await ask(guide.url, f"ALTER DATABASE {database} SET citus.enable_stat_counters = on")
        yield guide


async def test_whatever_is_about_one_context_goes_to_one_machine(guide: Guide) -> None:
    for name, visit in STOPS.items():
        await ask(guide.url, "SELECT citus_stat_counters_reset(0)")
        await visit(guide)
        ((one, many),) = await ask(
            guide.url,
            "SELECT query_execution_single_shard, query_execution_multi_shard FROM citus_stat_counters "
            "WHERE name = current_database()",
        )
        assert one > 0 or name in CROSSING, name
        assert (many > 0) == (name in CROSSING), f"{name}: {many} of {one + many} statements went to several machines"


# Citus executes no recursive query, such as that of the trees.
@pytest.mark.parametrize("view", sorted(views.metadata.tables.keys() - {"taskctx_report_trees"}))
@pytest.mark.parametrize("condition", ["", "WHERE user_id = 'u'"])
async def test_a_report_is_computed_where_the_rows_are(citus_url: str, view: str, condition: str) -> None:
    plan = "\n".join(row[0] for row in await ask(citus_url, f"EXPLAIN SELECT * FROM {view} {condition} LIMIT 10"))
    # Of users each machine sums up its part, and the sums come together.
    together = "Distributed Subplan" in plan
    assert together == (view == "taskctx_report_users"), plan
    assert re.search(r"Task Count: (?!1\b)\d+", plan), plan


async def test_a_context_is_on_one_machine(citus_url: str, user: str) -> None:
    ident = row_codec.context_id(ContextKey(user, "c"))
    machines = set()
    for name in NAMES:
        shard = f"get_shard_id_for_distribution_column('{name}', $1::text)"
        found = await ask(citus_url, f"SELECT nodename, nodeport FROM citus_shards WHERE shardid = {shard}", ident)
        machines |= {tuple(row) for row in found}
    assert len(machines) == 1


# Functions.


async def test_a_call_of_a_function_goes_to_the_machine_that_has_the_context(
    empty_citus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = """
        CREATE FUNCTION taskctx_where_v1(called boolean) RETURNS text LANGUAGE plpgsql AS $function$
        BEGIN RETURN current_setting('port'); END $function$;
        CREATE FUNCTION taskctx_probe_v1(context_id text, request text) RETURNS text LANGUAGE plpgsql AS $function$
        BEGIN RETURN taskctx_where_v1(true); END $function$;
    """
    monkeypatch.setattr(functions, "shipped", lambda: tuple(functions.parse(probe)))
    monkeypatch.setattr(functions, "ENTRY_POINTS", ("taskctx_probe_v1",))
    for name in (None, 'My "tasks"'):
        for _ in range(2):
            await schema.upgrade(empty_citus_url, schema=name)
        home = '"My ""tasks"""' if name else "public"
        for number in range(8):
            ident = row_codec.context_id(ContextKey("u", str(number)))
            shard = f"get_shard_id_for_distribution_column('{home}.taskctx_contexts', $1::text)"
            place = f"SELECT nodeport::text FROM citus_shards WHERE shardid = {shard}"
            called = f"SELECT {home}.taskctx_probe_v1($1, '')"
            assert await ask(empty_citus_url, called, ident) == await ask(empty_citus_url, place, ident)


async def test_contexts_on_several_machines_are_written_together_or_not_at_all(citus_url: str, user: str) -> None:
    keys = [ContextKey(user, f"together {number}") for number in range(6)]
    machines = set()
    for key in keys:
        shard = "get_shard_id_for_distribution_column('taskctx_contexts', $1::text)"
        place = f"SELECT nodeport FROM citus_shards WHERE shardid = {shard}"
        machines |= {tuple(row) for row in await ask(citus_url, place, row_codec.context_id(key))}
    assert len(machines) > 1
    async with open_store(citus_url) as store:
        for number in (1, 2):
            saved = await store.write_together([Write(key, state={"number": number}) for key in keys])
            assert [one.revision for one in saved] == [number] * len(keys)
        refused = [Write(key, state={"number": 3}, if_revision=1 if key is keys[-1] else None) for key in keys]
        with pytest.raises(StaleContextError):
            await store.write_together(refused)
        for key in keys:
            assert [entry.value for entry in await store.state(key)] == [2]
            assert await store.delete(key)
            assert await store.state(key) == []


@pytest.mark.parametrize("name", [None, 'My "tasks"'])
async def test_saves_of_one_machine_share_a_call_that_goes_to_it(
    empty_citus_url: str, user: str, name: str | None
) -> None:
    await schema.upgrade(empty_citus_url, schema=name)
    home = '"My ""tasks"""' if name else "public"
    machine_of: dict[str, int] = {}
    keys = [ContextKey(user, f"c{number}") for number in range(24)]
    for key in keys:
        ident = row_codec.context_id(key)
        shard = f"get_shard_id_for_distribution_column('{home}.taskctx_contexts', $1::text)"
        ((machine_of[ident],),) = await ask(
            empty_citus_url, f"SELECT groupid FROM pg_dist_placement WHERE shardid = {shard}", ident
        )
    assert len(set(machine_of.values())) > 1
    async with open_store(empty_citus_url, schema=name) as store:
        assert isinstance(store, SqlStore)
        backend = store._backend
        assert isinstance(backend, PostgresBackend)
        saved = [await store.save(new_delta(key, 1)) for key in keys]
        assert backend._writer is not None
        groups: list[list[str]] = []
        write = backend._writer._call

        async def call(requests: Sequence[SaveRequest], *arguments: Any, **options: Any) -> Any:
            groups.append([request.context_id for request in requests])
            return await write(requests, *arguments, **options)

        backend._writer._call = call  # type: ignore[method-assign]
        await asyncio.gather(
            *(store.save(new_delta(key, 2, base=each.base)) for key, each in zip(keys, saved, strict=True))
        )
        assert {len({machine_of[ident] for ident in group}) for group in groups} == {1}
        assert len(groups) < len(keys) / 2
        for key in keys:
            assert await stored(store, key) == [1, 2]


async def test_contexts_are_saved_on_while_a_store_believes_them_on_another_machine(
    empty_citus_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(empty_citus_url)
    contexts = [ContextKey(user, f"c{number}") for number in range(24)]

    async def one_machine(*_: object) -> int:
        return 1

    monkeypatch.setattr(Machines, "of", one_machine)
    async with open_store(empty_citus_url) as store:
        saved = await asyncio.gather(*(store.save(new_delta(key, 1)) for key in contexts))
        await asyncio.gather(
            *(store.save(new_delta(key, 2, base=each.base)) for key, each in zip(contexts, saved, strict=True))
        )
        for key in contexts:
            assert await stored(store, key) == [1, 2]
