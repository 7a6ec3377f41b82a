"""The views say what failed and what it cost: outcomes of tasks, costs of runs and users, a view of the contexts.

Revision: taskctx_0008, after taskctx_0007

Times as text become ISO 8601: ``2026-01-02T03:04:05Z``.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, verbatim

revision = "taskctx_0008"
down_revision = "taskctx_0007"
branch_labels = None
depends_on = None

# What a failed and an unfinished run is, for all views. The reports' index by failed runs has the first condition.
FAILED = "r.outcome = 'failed'"
UNFINISHED = "r.outcome IS NULL"
CANCELLED = "r.outcome = 'cancelled'"
_RUN_OUTCOME = f"CASE WHEN {UNFINISHED} THEN 'unfinished' ELSE r.outcome END"
# A task has the worst outcome of its runs; NULL without any.
TASK_OUTCOME = """CASE WHEN summed.failed_runs > 0 THEN 'failed'
                    WHEN summed.unfinished_runs > 0 THEN 'unfinished'
                    WHEN summed.cancelled_runs > 0 THEN 'cancelled'
                    WHEN summed.runs > 0 THEN 'completed' END"""

_UTC = {
    "'%Y-%m-%d %H:%M:%S'": "'%Y-%m-%dT%H:%M:%SZ'",
    "'YYYY-MM-DD HH24:MI:SS'": '\'YYYY-MM-DD"T"HH24:MI:SS"Z"\'',
}


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    for name, select in all_views(op):
        _replace(op, name, select)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    # The views that used to be there have fewer columns, and cannot replace these.
    for name, _ in reversed(list(all_views(op))):
        op.execute(f"DROP VIEW taskctx_report_{name}")
    for name, select in _revision("0006_whole_contexts").whole_views(op):
        verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select}")


def _replace(op: Operations, name: str, select: str) -> None:
    if verbatim.dialect_name(op) == "postgresql":
        # Keeps the privileges on the view; new columns come last.
        verbatim.execute(op, f"CREATE OR REPLACE VIEW taskctx_report_{name} AS {select}")
        return
    op.execute(f"DROP VIEW IF EXISTS taskctx_report_{name}")
    verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select}")


def all_views(op: Operations) -> Iterator[tuple[str, str]]:
    """Yield the views of this revision."""
    engine = Engine(verbatim.dialect_name(op))
    new = {"tasks": _tasks(engine), "runs": _runs(engine), "errors": _errors(engine), "users": users(engine)}
    for name, select in _revision("0006_whole_contexts").whole_views(op):
        yield name, new.get(name) or _iso(select)
    yield "contexts", _contexts(engine)


def _iso(select: str) -> str:
    for before, after in _UTC.items():
        select = select.replace(before, after)
    return select


class Engine:
    """SQL that differs between the engines, as in the first revision of the views."""

    def __init__(self, name: str) -> None:
        self._first = _revision("0003_reports").Engine(name)

    def day(self, time: str) -> str:
        """Return the UTC day of a time."""
        return str(self._first.day(time))

    def utc(self, time: str) -> str:
        """Return a time as ISO 8601."""
        return _iso(self._first.utc(time))

    def update_bytes(self) -> str:
        """Return the size of an update."""
        return f"{self._first.bytes('u.data')} + {self._first.bytes('u.metadata')}"

    def bytes(self, text: str) -> str:
        """Return the size of a text in bytes of UTF-8."""
        return str(self._first.bytes(text))

    def message(self) -> str:
        """Return the text of an error."""
        paths: tuple[tuple[str, ...], ...] = ((), ("message",), ("error",))
        return ", ".join([*(self._first.string("u.data", *path) for path in paths), "u.data"])


def sum_whole(column: str) -> str:
    return f"CAST(coalesce(sum(CASE WHEN {column} BETWEEN 0 AND 1000000000000 THEN {column} END), 0) AS BIGINT)"


def rounded(value: str) -> str:
    # Rounded, because the engines do not add in the same order.
    return f"CAST(round(CAST(coalesce({value}, 0) AS NUMERIC), 9) AS DOUBLE PRECISION)"


def sum_up(column: str) -> str:
    return rounded(f"sum(CASE WHEN {column} BETWEEN -1e12 AND 1e12 THEN {column} END)")


def _count(condition: str) -> str:
    return f"count(CASE WHEN {condition} THEN 1 END)"


_CONTEXT = "c.context_id, c.user_id, c.chat_id"
_FILES = "(SELECT count(*) FROM taskctx_files f WHERE f.context_id = c.context_id AND f.removed_in IS NULL)"
_RUNS = "SELECT count(*) FROM taskctx_runs r WHERE r.context_id = c.context_id"
# Model uses that count: no copies, and those that a restore removed count too.
USED = """m.copy_of IS NULL AND (m.removed_in IS NULL OR (
            SELECT v.operation FROM taskctx_revisions v WHERE v.context_id = m.context_id AND v.revision = m.removed_in
        ) IN ('restore', 'undo'))"""


def _usage(where: str, kinds: Sequence[str] = ()) -> str:
    """Return the columns of the model uses ``m`` that meet a condition."""
    models = f"FROM taskctx_models m WHERE {where} AND {USED}"
    return (
        "".join(f"(SELECT {sum_whole(f'm.{kind}')} {models}) AS {kind}, " for kind in kinds)
        + f"""
               (SELECT count(*) {models}) AS calls,
               (SELECT {sum_whole("m.input_tokens")} {models}) AS input_tokens,
               (SELECT {sum_whole("m.output_tokens")} {models}) AS output_tokens,
               (SELECT {sum_up("m.cost")} {models}) AS cost"""
    )


def times(engine: Engine) -> str:
    return f"""{engine.day("c.created_at")} AS day,
               c.created_at, {engine.utc("c.created_at")} AS created_utc,
               c.updated_at, {engine.utc("c.updated_at")} AS updated_utc"""


def _contexts(engine: Engine) -> str:
    return f"SELECT {_CONTEXT}, {times(engine)}, c.revision FROM taskctx_contexts c WHERE c.revision > 0"


def _tasks(engine: Engine) -> str:
    first, last = 'min(u."timestamp")', 'max(u."timestamp")'
    models = f"FROM taskctx_models m WHERE m.context_id = c.context_id AND {USED}"
    return f"""
        SELECT summed.*, {TASK_OUTCOME} AS outcome
        FROM (
        SELECT {_CONTEXT}, {times(engine)},
               c.revision AS saves,
               count(u.seq) AS updates,
               {_count("u.removed_in IS NOT NULL")} AS removed,
               {_count("u.update_type = 'error'")} AS errors,
               {first} AS first_at, {engine.utc(first)} AS first_utc,
               {last} AS last_at, {engine.utc(last)} AS last_utc,
               {last} - {first} AS duration,
               ({_RUNS}) AS runs,
               ({_RUNS} AND {FAILED}) AS failed_runs,
               {_FILES} AS files,
               (SELECT count(DISTINCT m.model_id) {models}) AS models,{_usage("m.context_id = c.context_id")},
               ({_RUNS} AND {UNFINISHED}) AS unfinished_runs,
               ({_RUNS} AND {CANCELLED}) AS cancelled_runs
        FROM taskctx_contexts c LEFT JOIN taskctx_updates u ON u.context_id = c.context_id
        WHERE c.revision > 0
        GROUP BY {_CONTEXT}, c.created_at, c.updated_at, c.revision
        ) summed
    """


def _runs(engine: Engine) -> str:
    return f"""
        SELECT {_CONTEXT}, r.run_id, {engine.day("r.started_at")} AS day,
               r.started_at, {engine.utc("r.started_at")} AS started_utc,
               r.ended_at, {engine.utc("r.ended_at")} AS ended_utc,
               r.ended_at - r.started_at AS duration,
               {_RUN_OUTCOME} AS outcome, r.error, r.saves,
               {_usage("m.context_id = r.context_id AND m.run_id = r.run_id")}
        FROM taskctx_runs r JOIN taskctx_contexts c ON c.revision > 0 AND c.context_id = r.context_id
    """


def _errors(engine: Engine) -> str:
    ended = "coalesce(r.ended_at, r.started_at)"
    return f"""
        SELECT 'update' AS kind, {_CONTEXT}, u.run_id, u.seq, {engine.day('u."timestamp"')} AS day,
               u."timestamp", {engine.utc('u."timestamp"')} AS timestamp_utc,
               coalesce({engine.message()}) AS message,
               CASE WHEN u.removed_in IS NULL THEN 0 ELSE 1 END AS removed
        FROM taskctx_updates u JOIN taskctx_contexts c ON c.revision > 0 AND c.context_id = u.context_id
        WHERE u.update_type = 'error'
        UNION ALL
        SELECT 'run' AS kind, {_CONTEXT}, r.run_id, 0 AS seq, {engine.day(ended)} AS day,
               {ended} AS "timestamp", {engine.utc(ended)} AS timestamp_utc,
               coalesce(r.error, '') AS message, 0 AS removed
        FROM taskctx_runs r JOIN taskctx_contexts c ON c.revision > 0 AND c.context_id = r.context_id
        WHERE {FAILED}
    """


def users(engine: Engine, kinds: Sequence[str] = (), more_bytes: str = "0") -> str:
    """Return the view of the users, with sums of further kinds of tokens, and of more data of the context ``c``."""

    def added(column: str) -> str:
        return f"CAST(sum(summed.{column}) AS BIGINT) AS {column}"

    # Without groups of its own, so that SQLite selects by the user before it adds up.
    updates = "FROM taskctx_updates u WHERE u.context_id = c.context_id"
    return f"""
        SELECT summed.user_id, count(*) AS contexts, {added("updates")}, {added("removed")}, {added("bytes")},
               max(summed.updated_at) AS updated_at, {engine.utc("max(summed.updated_at)")} AS updated_utc,
               {added("runs")}, {added("failed_runs")}, {added("unfinished_runs")},
               {added("calls")}, {added("input_tokens")}, {added("output_tokens")},
               {rounded("sum(summed.cost)")} AS cost{"".join(f", {added(kind)}" for kind in kinds)}
        FROM (
        SELECT c.user_id, c.updated_at,
               (SELECT count(*) {updates}) AS updates, (SELECT count(u.removed_in) {updates}) AS removed,
               (SELECT coalesce(sum({engine.update_bytes()}), 0) {updates}) + {more_bytes} AS bytes,
               ({_RUNS}) AS runs, ({_RUNS} AND {FAILED}) AS failed_runs, ({_RUNS} AND {UNFINISHED}) AS unfinished_runs,
               {_usage("m.context_id = c.context_id", kinds)}
        FROM taskctx_contexts c WHERE c.revision > 0
        ) summed
        GROUP BY summed.user_id
    """


def _revision(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
