"""Columns for earlier states: which rows are copies, the operation of a revision, and what was pruned.

Revision: taskctx_0004, after taskctx_0003
"""

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, verbatim

revision = "taskctx_0004"
down_revision = "taskctx_0003"
branch_labels = None
depends_on = None

_COLUMNS = {
    "taskctx_contexts": {"pruned_until": sa.BigInteger},
    "taskctx_updates": {"copy_of": sa.BigInteger},
    "taskctx_files": {"copy_of": sa.BigInteger},
    "taskctx_models": {"copy_of": sa.BigInteger},
    "taskctx_revisions": {
        "added": sa.BigInteger,
        "removed": sa.BigInteger,
        "operation": sa.Text,
        "source_revision": sa.BigInteger,
        "source_chat_id": sa.Text,
    },
}
_GROUP_INDEX = "taskctx_updates_group_idx"

# The group in an update's metadata. On Postgres its digest: the size of an index entry is limited.
# For updates without one, the search for "group" avoids parsing their JSON.
_GROUP = {
    "sqlite": "CASE WHEN instr(metadata, '\"group\"') > 0 THEN CAST(json_extract(metadata, '$.group') AS TEXT) END",
    "postgresql": "CASE WHEN strpos(metadata, '\"group\"') > 0 THEN md5(CAST(metadata AS jsonb) ->> 'group') END",
}

_IN_RANGE = "CASE WHEN {0} >= -62135596800 AND {0} < 253402300800 THEN {1} END"
_DAY = {
    "sqlite": "date(CAST({0} AS INTEGER), 'unixepoch')",
    "postgresql": "DATE '1970-01-01' + CAST(floor(trunc({0}) / 86400) AS INTEGER)",
}
_UTC = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', CAST({0} AS INTEGER), 'unixepoch')",
    "postgresql": "to_char(to_timestamp(trunc({0})) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
}


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    engine = Engine(verbatim.dialect_name(op))
    for table, columns in _COLUMNS.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))
    op.execute(
        """
        UPDATE taskctx_revisions SET removed = gone.updates
        FROM (SELECT context_id, removed_in, count(*) AS updates FROM taskctx_updates
              WHERE removed_in IS NOT NULL GROUP BY context_id, removed_in) AS gone
        WHERE gone.context_id = taskctx_revisions.context_id AND gone.removed_in = taskctx_revisions.revision
        """
    )
    group = _GROUP[verbatim.dialect_name(op)]
    verbatim.execute(
        op, f"CREATE INDEX {_GROUP_INDEX} ON taskctx_updates (context_id, ({group}), seq) WHERE ({group}) IS NOT NULL"
    )
    _replace_views(op, engine, before=False)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    _replace_views(op, Engine(verbatim.dialect_name(op)), before=True)
    op.execute(f"DROP INDEX {_GROUP_INDEX}")
    for table, columns in _COLUMNS.items():
        for name in columns:
            op.drop_column(table, name)


def _replace_views(op: Operations, engine: "Engine", *, before: bool) -> None:
    """Create the views of this revision, or those before it."""
    for name, select in (("tasks", tasks), ("models", models)):
        verbatim.execute(op, f"DROP VIEW taskctx_report_{name}")
        verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select(engine, before=before)}")


class Engine:
    """SQL that differs between the engines."""

    def __init__(self, name: str) -> None:
        self._name = name

    def day(self, time: str) -> str:
        """Return the UTC day of a time."""
        return _IN_RANGE.format(time, _DAY[self._name].format(time))

    def utc(self, time: str) -> str:
        """Return a time in UTC, readable for people."""
        return _IN_RANGE.format(time, _UTC[self._name].format(time))


def _sum_whole(column: str) -> str:
    return f"CAST(coalesce(sum(CASE WHEN {column} BETWEEN 0 AND 1000000000000 THEN {column} END), 0) AS BIGINT)"


def _sum(column: str) -> str:
    plausible = f"CASE WHEN {column} BETWEEN -1e12 AND 1e12 THEN {column} END"
    return f"CAST(round(CAST(coalesce(sum({plausible}), 0) AS NUMERIC), 9) AS DOUBLE PRECISION)"


def _count(condition: str) -> str:
    return f"count(CASE WHEN {condition} THEN 1 END)"


_CONTEXT = "c.context_id, c.user_id, c.chat_id"
_FILES = "(SELECT count(*) FROM taskctx_files f WHERE f.context_id = c.context_id AND f.removed_in IS NULL)"
_RUNS = "SELECT count(*) FROM taskctx_runs r WHERE r.context_id = c.context_id"


def _used(*, before: bool) -> str:
    """Return the condition for model uses ``m`` that count: no copies, and those that a restore removed count too."""
    if before:
        return "m.removed_in IS NULL"
    # Reads one row by its key; with EXISTS Postgres would read the whole table first.
    restored = """
        (SELECT v.operation FROM taskctx_revisions v WHERE v.context_id = m.context_id AND v.revision = m.removed_in)
        IN ('restore', 'undo')
    """
    return f"m.copy_of IS NULL AND (m.removed_in IS NULL OR {restored})"


def tasks(engine: Engine, *, before: bool) -> str:
    first, last = 'min(u."timestamp")', 'max(u."timestamp")'
    models = f"FROM taskctx_models m WHERE m.context_id = c.context_id AND {_used(before=before)}"
    return f"""
        SELECT {_CONTEXT}, {engine.day("c.created_at")} AS day,
               c.created_at, {engine.utc("c.created_at")} AS created_utc,
               c.updated_at, {engine.utc("c.updated_at")} AS updated_utc,
               c.revision AS saves,
               count(u.seq) AS updates,
               {_count("u.removed_in IS NOT NULL")} AS removed,
               {_count("u.update_type = 'error'")} AS errors,
               {first} AS first_at, {engine.utc(first)} AS first_utc,
               {last} AS last_at, {engine.utc(last)} AS last_utc,
               {last} - {first} AS duration,
               ({_RUNS}) AS runs,
               ({_RUNS} AND r.outcome = 'failed') AS failed_runs,
               {_FILES} AS files,
               (SELECT count(DISTINCT m.model_id) {models}) AS models,
               (SELECT count(*) {models}) AS calls,
               (SELECT {_sum_whole("m.input_tokens")} {models}) AS input_tokens,
               (SELECT {_sum_whole("m.output_tokens")} {models}) AS output_tokens,
               (SELECT {_sum("m.cost")} {models}) AS cost
        FROM taskctx_contexts c LEFT JOIN taskctx_updates u ON u.context_id = c.context_id
        GROUP BY {_CONTEXT}, c.created_at, c.updated_at, c.revision
    """


def models(engine: Engine, *, before: bool) -> str:
    day = engine.day('m."timestamp"')
    names = [f"coalesce(m.{name}, '')" for name in ("model_id", "provider_id", "mode")]
    return f"""
        SELECT {_CONTEXT}, {day} AS day,
               {names[0]} AS model_id, {names[1]} AS provider_id, {names[2]} AS mode,
               count(*) AS calls,
               {_sum_whole("m.input_tokens")} AS input_tokens,
               {_sum_whole("m.output_tokens")} AS output_tokens,
               {_sum("m.cost")} AS cost,
               {_sum("m.duration")} AS duration
        FROM taskctx_models m JOIN taskctx_contexts c ON c.context_id = m.context_id
        WHERE {_used(before=before)}
        GROUP BY {_CONTEXT}, {day}, {", ".join(names)}
    """
