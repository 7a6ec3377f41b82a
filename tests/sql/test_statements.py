"""Every statement that the library can send, read for what a Citus refuses; without one."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
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
from tests.support.loopback import Loopback, Streams
from tests.support.postgres import new_database
from tests.support.statements import is_ours, is_routed, normal, only_reads, refused_forms, tables_of
from tests.support.tour import set_up

PACKAGE = Path(taskctx_sql.__file__).parent

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

# Functions whose statements a Citus never sees.
ELSEWHERE = {
    # What a save does to a Postgres is in functions of the database, which call each other on one machine.
    "appends.py": "it saves to SQLite",
    "decide.py": "it saves to SQLite",
    "batch.py": "it saves to SQLite",
    "copies.py": "it saves to SQLite",
    "restore.py": "it saves to SQLite",
    "restore_rows.py": "it saves to SQLite",
    "restore_versions.py": "it saves to SQLite",
    "state.py:_sorted_by_rowid": "it reads from SQLite",
    "clauses.py:is_readable": "one form is SQLite's",
    "sql.py:is_in_list": "SQLite reads a list of parameters as a table",
    "printing.py": "it prints the SQL of an upgrade, and executes none",
    "sql/schema/functions/__init__.py": "it creates functions, which have no rows",
    "small_contexts.py": "contexts that are on several machines do not share a transaction",
    "several.py": "contexts that are on several machines do not share a transaction",
    "throwaway.py": "databases for tests are on one server",
    "aiecs_tables.py": "it reads the tables of another package",
    "row_security.py": "row-level security is refused where there is a Citus",
    **dict.fromkeys(
        ("search_index.py", "search_portion.py", "search_checks.py", "indexed.py", "search.py:count"),
        "a search index has triggers, which a distributed table cannot have",
    ),
    **dict.fromkeys(
        (
            *("daily_sums.py", "folding.py", "usage_parts.py", "summed.py", "sums_checks.py"),
            *("costs.py:_select_summed", "costs.py:select_models_summed", "costs.py:_select_speed_summed"),
            *("calls.py:select_tools_summed", "stored.py:select_activity_summed", "stored.py:select_users_summed"),
        ),
        "daily sums have triggers, which a distributed table cannot have",
    ),
    "migrations.py:take_upgrade_lock": "there an upgrade takes the lock that is no table's",
    "migrations.py:changing": "a schema of choice is made as it is elsewhere, and has no rows",
}


class Listener(Loopback):
    """Passes everything on, and writes down what is asked: what is only prepared, to learn its types, is not."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self.heard: list[str] = []

    async def serve(self, client: Streams, server: Streams) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(self._listen(client[0], server[1]), self._answer(server[0], client[1]))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The first message has no kind, and the driver may ask for encryption before it.
        while True:
            head = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(head, "big") - 4)
            writer.write(head + body)
            if len(body) > 4:
                break
        prepared: dict[bytes, str] = {}
        while True:
            kind, length = await reader.readexactly(1), await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length, "big") - 4)
            if kind == b"Q":
                self.heard.append(body.rstrip(b"\0").decode())
            elif kind == b"P":
                name, statement = body.split(b"\0", 2)[:2]
                prepared[name] = statement.decode()
            elif kind == b"B":
                self.heard.append(prepared[body.split(b"\0", 2)[1]])
            writer.write(kind + length + body)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


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


# What is in the code.


@dataclass(frozen=True)
class Place:
    """Where the code makes a statement: by SQLAlchemy's functions, or as a text that begins like this."""

    path: str
    function: str
    line: int
    text: str = ""

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_elsewhere(self) -> bool:
        return not {self.path, self.file, f"{self.file}:{self.function}"}.isdisjoint(ELSEWHERE)

    def __str__(self) -> str:
        return f"{self.path}:{self.line} in {self.function or 'the module'}" + (f": {self.text}" if self.text else "")


def places() -> Iterator[Place]:
    """Every place in the package where a statement is made."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            yield from _places(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text()), "")


def _places(path: str, node: ast.AST, function: str) -> Iterator[Place]:
    inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and ast.unparse(child.func) in MAKERS:
            yield Place(path, inside, child.lineno)
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            # A docstring.
            continue
        if isinstance(child, ast.expr) and (text := _sql_of(child)) is not None:
            yield Place(path, inside, child.lineno, text)
        elif not isinstance(child, ast.JoinedStr):
            yield from _places(path, child, inside)


MAKERS = ("sa.select", "sa.insert", "sa.update", "sa.delete", "engines.insert")
VERBS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "SHOW ", "SET ", "LOCK ", "CREATE ", "DROP ", "ALTER ")


def _sql_of(node: ast.expr) -> str | None:
    """The beginning of a text in SQL, up to what is put into it."""
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        node = node.values[0]
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return None
    text = " ".join(node.value.split("'")[0].split(":")[0].split()) + " "
    return text.rstrip() if text.startswith(VERBS) else None


# The tests.


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


# The reading itself.

REFUSED = {
    "a key without context_id": [
        "CREATE TABLE taskctx_new (ident TEXT PRIMARY KEY, context_id TEXT)",
        "CREATE TABLE taskctx_new (context_id TEXT, seq BIGINT, CONSTRAINT x PRIMARY KEY (seq))",
        "ALTER TABLE taskctx_runs ADD CONSTRAINT x UNIQUE (run_id)",
        "ALTER TABLE taskctx_runs ADD CONSTRAINT x FOREIGN KEY (run_id) REFERENCES taskctx_new (run_id)",
    ],
    "a unique index without context_id": ["CREATE UNIQUE INDEX x ON taskctx_runs (run_id)"],
    "SET NULL": ["CREATE TABLE t (context_id TEXT REFERENCES taskctx_contexts (context_id) ON DELETE SET NULL)"],
    "a trigger": ["CREATE TRIGGER t BEFORE INSERT ON taskctx_updates FOR EACH ROW EXECUTE FUNCTION f()"],
    "a volatile function in ON CONFLICT DO UPDATE": [
        "INSERT INTO taskctx_runs (context_id) VALUES ($1) ON CONFLICT (context_id) DO UPDATE SET ended_at = now()"
    ],
    "a subselect in VALUES": [
        "INSERT INTO taskctx_runs (context_id, saves) VALUES ($1, (SELECT max(saves) FROM taskctx_runs))"
    ],
    "a change of the distribution column": ["ALTER TABLE taskctx_runs ALTER COLUMN context_id TYPE VARCHAR"],
    "an assignment to the distribution column": [
        "UPDATE taskctx_runs SET saves = $1, context_id = $2 WHERE context_id = $3",
        "UPDATE taskctx_runs SET context_id = $2 WHERE context_id = $3",
    ],
    "ADD COLUMN together with a constraint": ["ALTER TABLE taskctx_runs ADD COLUMN x INT CHECK (x > 0)"],
    "ADD COLUMN serial": ["ALTER TABLE taskctx_runs ADD COLUMN x BIGSERIAL"],
    "FOR UPDATE across contexts": [
        "SELECT 1 FROM taskctx_contexts FOR UPDATE",
        "SELECT c.revision FROM unnest($1::text[]) j (ident), taskctx_contexts c WHERE c.context_id = j.ident "
        "FOR UPDATE OF c SKIP LOCKED",
    ],
    "ctid": ["DELETE FROM taskctx_runs WHERE context_id = $1 AND ctid = $2"],
    "an advisory lock outside of migrations": ["SELECT pg_advisory_xact_lock($1)"],
}


@pytest.mark.parametrize(("form", "sql"), [(form, sql) for form, several in REFUSED.items() for sql in several])
def test_a_form_that_is_refused_is_seen(form: str, sql: str) -> None:
    assert [found.partition(":")[0] for found in refused_forms(sql)] == [form]


TAKEN = [
    "CREATE TABLE taskctx_new (context_id TEXT NOT NULL, seq BIGINT, CONSTRAINT x PRIMARY KEY (context_id, seq))",
    "CREATE UNIQUE INDEX x ON taskctx_runs (context_id, run_id)",
    "ALTER TABLE taskctx_runs ADD COLUMN x BIGINT DEFAULT 0 NOT NULL",
    "UPDATE taskctx_runs SET saves = $1 WHERE context_id = $2 AND run_id = 'now()'",
    "INSERT INTO taskctx_runs (context_id, saves) VALUES ($1, $2) ON CONFLICT (context_id) DO UPDATE SET saves = $2",
    "SELECT revision FROM taskctx_contexts WHERE taskctx_contexts.context_id = $1::VARCHAR FOR UPDATE",
]


@pytest.mark.parametrize("sql", TAKEN)
def test_a_form_that_is_taken_is_not_complained_about(sql: str) -> None:
    assert list(refused_forms(sql)) == []


ROUTED = [
    "SELECT seq FROM taskctx_updates WHERE taskctx_updates.context_id = $1 AND seq < $2",
    "SELECT u.seq FROM taskctx_updates u JOIN taskctx_runs r ON u.context_id = r.context_id WHERE r.context_id = $1",
    "SELECT seq FROM taskctx_updates WHERE context_id = $1 AND seq IN "
    "(SELECT seq FROM taskctx_updates WHERE context_id = $1)",
    "INSERT INTO taskctx_runs (run_id, context_id) VALUES ($1, $2)",
    "INSERT INTO taskctx_runs (context_id, saves) SELECT $1, r.saves FROM taskctx_runs r WHERE r.context_id = $2",
    "DELETE FROM taskctx_runs WHERE taskctx_runs.context_id = $1",
    'COPY "taskctx_updates"("context_id", "seq") FROM STDIN',
]
NOT_ROUTED = [
    "SELECT seq FROM taskctx_updates WHERE seq < $1",
    "SELECT seq FROM taskctx_updates WHERE context_id > $1",
    "SELECT seq FROM taskctx_updates WHERE context_id IN ($1, $2)",
    "SELECT u.seq FROM taskctx_updates u, taskctx_contexts c WHERE c.context_id = $1",
    "SELECT u.seq FROM taskctx_updates u JOIN taskctx_contexts c ON u.context_id = c.context_id WHERE u.seq = $1",
    "SELECT seq FROM taskctx_updates WHERE context_id = $1 AND run_id IN (SELECT run_id FROM taskctx_runs)",
    "SELECT seq FROM taskctx_updates WHERE context_id = $1 AND seq IN (SELECT seq FROM taskctx_updates)",
    "INSERT INTO taskctx_runs (context_id, run_id) SELECT $1, run_id FROM taskctx_runs",
    "INSERT INTO taskctx_runs (context_id) SELECT n.ident FROM unnest($1::text[]) n (ident)",
    "DELETE FROM taskctx_runs WHERE run_id = $1",
    "SELECT * FROM taskctx_report_tasks WHERE user_id = $1",
]


@pytest.mark.parametrize("sql", ROUTED)
def test_a_statement_about_one_context_is_seen(sql: str) -> None:
    assert is_ours(sql)
    assert is_routed(sql)


@pytest.mark.parametrize("sql", NOT_ROUTED)
def test_a_statement_about_several_contexts_is_seen(sql: str) -> None:
    assert is_ours(sql)
    assert not is_routed(sql)
