"""Every statement that the library can send, read for what a Citus refuses; without one."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

import taskctx_sql
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables
from tests.support import tour_of_reports  # noqa: F401  # adds stops
from tests.support.guide import CROSSING, STOPS, Guide
from tests.support.listener import Listener
from tests.support.places import ELSEWHERE, PACKAGE, places
from tests.support.postgres import new_database
from tests.support.statements import is_ours, is_routed, normal, only_reads, refused_forms, tables_of
from tests.support.tour import set_up

# What the library asks a Citus for: enough of it for a server that is none to be taken for one.
STAND_IN = """
CREATE TABLE pg_dist_partition (logicalrelid regclass, partmethod "char", beside text);
CREATE FUNCTION create_distributed_table(regclass, text, colocate_with text) RETURNS void LANGUAGE sql AS
$$ INSERT INTO pg_dist_partition VALUES ($1, 'h', $2 || ' beside ' || $3) $$;
CREATE FUNCTION create_reference_table(regclass) RETURNS void LANGUAGE sql AS
$$ INSERT INTO pg_dist_partition VALUES ($1, 'n', NULL) $$;
CREATE TABLE pg_dist_placement (shardid bigint, groupid integer);
INSERT INTO pg_dist_placement VALUES (1, 1);
CREATE FUNCTION get_shard_id_for_distribution_column(regclass, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE TABLE pg_dist_object (classid oid, objid oid, distribution_argument_index integer);
CREATE FUNCTION create_distributed_function(regprocedure) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION create_distributed_function(regprocedure, text, colocate_with text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION truncate_local_data_after_distributing_table(regclass) RETURNS void LANGUAGE sql AS '';
"""


@dataclass
class Travels:
    """What was heard on a tour: (stop, statement); and where in the code statements were made."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    places: set[tuple[str, int]] = field(default_factory=set)
    distributed: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def travels(postgres_server: str) -> Travels:
    """A tour of all public calls, on a Postgres that says it is a Citus."""
    found = Travels()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for owner, name in (*((sa, name) for name in ("select", "insert", "update", "delete")), (engines, "insert")):
            patch.setattr(owner, name, _noting_places(getattr(owner, name), found.places))
        for module in _modules():
            # Statements are made once and kept.
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
        asyncio.run(_travel(postgres_server, Path(folder), found))
    return found


async def _travel(server: str, folder: Path, found: Travels) -> None:
    async with new_database(server, upgraded=False) as url, new_database(server) as other_url:
        connection = await asyncpg.connect(url)
        await connection.execute(STAND_IN)
        async with Listener(url) as listener:
            guide = Guide(listener.url, url, other_url, folder)
            for name, visit in {"set up": set_up, **STOPS}.items():
                listener.heard = []
                await visit(guide)
                found.sent += [(name, sql) for sql in dict.fromkeys(listener.heard)]
        known = await connection.fetch("SELECT DISTINCT logicalrelid::text, beside FROM pg_dist_partition")
        found.distributed = {name: beside for name, beside in known if name.startswith("taskctx")}
        await connection.close()


def _noting_places(make: Callable[..., Any], places: set[tuple[str, int]]) -> Callable[..., Any]:
    def noting(*arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1)
        places.add((caller.f_code.co_filename, caller.f_lineno))
        return make(*arguments, **named)

    return noting


def _modules() -> list[ModuleType]:
    names = [
        module.name for module in walk_packages(taskctx_sql.__path__, "taskctx_sql.") if "migrations" not in module.name
    ]
    return [import_module(name) for name in names if not name.endswith("__main__") and ".integrations" not in name]


def test_each_statement_has_only_forms_that_are_taken(travels: Travels) -> None:
    bad = [
        (stop, form, normal(sql))
        for stop, sql in travels.sent
        # The bodies of functions are not executed with them.
        if not sql.startswith(("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        for form in refused_forms(sql, migrates=stop == "set up")
    ]
    assert bad == []


def test_each_statement_is_about_one_context_unless_it_only_reads_for_many(travels: Travels) -> None:
    bad = [
        (stop, normal(sql))
        for stop, sql in travels.sent
        if stop != "set up" and is_ours(sql) and not is_routed(sql) and not _may_cross(stop, sql)
    ]
    assert bad == []


def _may_cross(stop: str, sql: str) -> bool:
    _, table = CROSSING.get(stop, ("", None))
    return only_reads(sql) and (table == "" or tables_of(sql) == {table})


def test_each_reason_to_cross_contexts_is_needed(travels: Travels) -> None:
    crossing = {stop for stop, sql in travels.sent if stop != "set up" and is_ours(sql) and not is_routed(sql)}
    assert crossing == set(CROSSING)


def test_the_tour_visits_each_place_where_a_statement_is_made(travels: Travels) -> None:
    lines = {
        (Path(file).relative_to(PACKAGE).as_posix(), line)
        for file, line in travels.places
        if Path(file).is_relative_to(PACKAGE)
    }
    sent = " \n".join(" ".join(sql.split()) for _, sql in travels.sent)
    found = [place for place in places() if not place.is_elsewhere]
    assert len(found) > 60
    missing = [
        str(place)
        for place in found
        if (place.text not in sent if place.text else (place.path, place.line) not in lines)
    ]
    assert missing == [], f"{missing}: add a call that comes there to tests/support/tour.py or tour_of_reports.py"


def test_each_place_that_is_left_out_is_there() -> None:
    there = {name for place in places() for name in (place.path, place.file, f"{place.file}:{place.function}")}
    assert set(ELSEWHERE) - there == set()


def test_an_upgrade_distributes_each_table_beside_the_contexts(travels: Travels) -> None:
    beside = dict.fromkeys(tables.metadata.tables, "context_id beside taskctx_contexts")
    beside["taskctx_contexts"] = "context_id beside none"
    assert travels.distributed == beside | {tables.VERSION_TABLE: None}
