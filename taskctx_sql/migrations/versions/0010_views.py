"""The views show labels, calls of tools, sizes of named values and kinds of tokens.

Revision: taskctx_0010, after taskctx_0009

They are a revision of their own: on Citus, a view can join a table only once that is distributed, after its migration.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, verbatim

revision = "taskctx_0010"
down_revision = "taskctx_0009"
branch_labels = None
depends_on = None

_CHANGED = ("tasks", "runs", "models", "users", "sizes", "contexts")
_CONTEXT = "c.context_id, c.user_id, c.chat_id"
_TOKENS = ("cached_read_tokens", "cached_write_tokens", "reasoning_tokens", "audio_tokens")
# The string that JSON text stands for.
STRING = {"sqlite": "json_extract(s.value, '$')", "postgresql": "CAST(s.value AS json) #>> '{}'"}
_OBJECT = {
    "sqlite": "json_group_object(s.name, json(s.value))",
    "postgresql": "coalesce(CAST(json_object_agg(s.name, CAST(s.value AS json)) AS TEXT), '{}')",
}
# A value in the metadata of an update as text. They are not parsed if its name is not in them.
_OF_METADATA = {
    "sqlite": "CASE WHEN instr({0}.metadata, '\"{1}\"') > 0 THEN CAST(json_extract({0}.metadata, '$.{1}') AS TEXT) END",
    "postgresql": "CASE WHEN strpos({0}.metadata, '\"{1}\"') > 0 THEN CAST({0}.metadata AS jsonb) ->> '{1}' END",
}
_NAME_IN_DATA = {
    "sqlite": "CASE json_type(u.data) WHEN 'object' THEN CAST(json_extract(u.data, '$.name') AS TEXT) END",
    "postgresql": "CAST(u.data AS jsonb) ->> 'name'",
}
# The group of an update, exactly as in the index by group.
_GROUP = {
    "sqlite": (
        "CASE WHEN instr({0}.metadata, '\"group\"') > 0 THEN CAST(json_extract({0}.metadata, '$.group') AS TEXT) END"
    ),
    "postgresql": (
        "CASE WHEN strpos({0}.metadata, '\"group\"') > 0 THEN md5(CAST({0}.metadata AS jsonb) ->> 'group') END"
    ),
}

# Only calls of tools are in it, so that other updates cost nothing.
_CALL_INDEX = (
    "CREATE INDEX taskctx_updates_call_idx ON taskctx_updates (context_id, seq) WHERE update_type = 'tool_call'"
)
# Only errors are in it, likewise.
_ERROR_INDEX = (
    "CREATE INDEX taskctx_updates_errors_of_idx ON taskctx_updates (context_id, seq) WHERE update_type = 'error'"
)
# For everybody's contexts in the order of their creation, which never changes, so saves do not write to the index.
_CONTEXT_INDEX = "CREATE INDEX taskctx_contexts_created_at_context_id_idx ON taskctx_contexts (created_at, context_id)"


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    for index in (_CALL_INDEX, _ERROR_INDEX, _CONTEXT_INDEX):
        verbatim.execute(op, index)
    for name, select in _views(op):
        replace(op, name, select)


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    # The views that used to be there have fewer columns, and cannot replace these.
    for name, _ in reversed(list(_views(op))):
        op.execute(f"DROP VIEW taskctx_report_{name}")
    for name, select in _revision("0008_outcomes").all_views(op):
        if name in _CHANGED:
            verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select}")
    for index in ("contexts_created_at_context_id", "updates_errors_of", "updates_call"):
        op.execute(f"DROP INDEX taskctx_{index}_idx")


def _views(op: Operations) -> Iterator[tuple[str, str]]:
    """Yield the views that are new or have more columns, which come last."""
    dialect, outcomes = verbatim.dialect_name(op), _revision("0008_outcomes")
    before = dict(outcomes.all_views(op))
    for name, where in (
        ("tasks", "m.context_id = t.context_id"),
        ("runs", "m.context_id = t.context_id AND m.run_id = t.run_id"),
    ):
        models = f"FROM taskctx_models m WHERE {where} AND {outcomes.USED}"
        kinds = (f"(SELECT {outcomes.sum_whole(f'm.{kind}')} {models}) AS {kind}" for kind in _TOKENS)
        yield name, f"SELECT t.*, {', '.join(kinds)} FROM ({before[name]}) t"
    engine = outcomes.Engine(dialect)
    # Of all versions, as the updates that were removed count, too.
    of_state = "FROM taskctx_state s WHERE s.context_id = c.context_id"
    state_bytes = f"(SELECT coalesce(sum({engine.bytes('s.value')}), 0) {of_state})"
    yield "users", outcomes.users(engine, _TOKENS, state_bytes)
    entries = f"(SELECT count(*) {of_state} AND s.kind = 'state' AND s.removed_in IS NULL) AS state_entries"
    sizes = before["sizes"].replace(" AS bytes", f" + CAST({state_bytes} AS BIGINT) AS bytes")
    yield "sizes", sizes.replace(") AS runs", f") AS runs, {entries}")
    yield "models", models_view(outcomes, engine)
    of_context = "FROM taskctx_state s WHERE s.context_id = c.context_id AND s.kind = 'label' AND s.removed_in IS NULL"
    title = f"(SELECT {STRING[dialect]} {of_context} AND s.name = 'title') AS title"
    labels = f"(SELECT {_OBJECT[dialect]} {of_context}) AS labels"
    yield "contexts", before["contexts"].replace(" FROM taskctx_contexts", f", {title}, {labels} FROM taskctx_contexts")
    yield "labels", _labels(dialect)
    yield "calls", calls_view(dialect, engine)


def models_view(outcomes: ModuleType, engine: Any) -> str:
    day = engine.day('m."timestamp"')
    names = [f"coalesce(m.{name}, '')" for name in ("model_id", "provider_id", "mode")]
    kinds = (f"{outcomes.sum_whole(f'm.{kind}')} AS {kind}" for kind in _TOKENS)
    return f"""
        SELECT {_CONTEXT}, {day} AS day,
               {names[0]} AS model_id, {names[1]} AS provider_id, {names[2]} AS mode,
               count(*) AS calls,
               {outcomes.sum_whole("m.input_tokens")} AS input_tokens,
               {outcomes.sum_whole("m.output_tokens")} AS output_tokens,
               {outcomes.sum_up("m.cost")} AS cost,
               {outcomes.sum_up("m.duration")} AS duration,
               {", ".join(kinds)},
               {outcomes.sum_up("CASE WHEN m.price_list IS NOT NULL THEN m.cost END")} AS estimated_cost
        FROM taskctx_models m JOIN taskctx_contexts c ON c.revision > 0 AND c.context_id = m.context_id
        WHERE {outcomes.USED}
        GROUP BY {_CONTEXT}, {day}, {", ".join(names)}
    """


def _labels(dialect: str) -> str:
    return f"""
        SELECT {_CONTEXT}, s.name, {STRING[dialect]} AS value
        FROM taskctx_state s JOIN taskctx_contexts c ON c.revision > 0 AND c.context_id = s.context_id
        WHERE s.kind = 'label' AND s.removed_in IS NULL
    """


def calls_view(dialect: str, engine: Any) -> str:
    call_group, result_group = (_GROUP[dialect].format(table) for table in ("u", "r"))
    call_id, name = (_OF_METADATA[dialect].format("u", part) for part in ("group", "name"))
    error = _OF_METADATA[dialect].format("e", "error")
    started, ended = 'u."timestamp"', 'e."timestamp"'
    # The first result after the call; that of a call which is in the history must be there as well.
    result = f"""
        SELECT r.seq FROM taskctx_updates r
        WHERE r.context_id = u.context_id AND {result_group} = {call_group} AND {result_group} IS NOT NULL
              AND r.seq > u.seq AND r.update_type = 'tool_result' AND (u.removed_in IS NOT NULL OR r.removed_in IS NULL)
        ORDER BY r.seq LIMIT 1
    """
    return f"""
        SELECT {_CONTEXT}, u.seq, {call_id} AS call_id, coalesce({name}, {_NAME_IN_DATA[dialect]}, '') AS name,
               {engine.day(started)} AS day, {started} AS started_at, {engine.utc(started)} AS started_utc,
               {ended} AS ended_at, {engine.utc(ended)} AS ended_utc, {ended} - {started} AS duration,
               CASE WHEN e.seq IS NULL THEN 'open' WHEN {error} IS NULL THEN 'completed' ELSE 'failed' END AS outcome,
               {error} AS error, u.run_id,
               CASE WHEN u.removed_in IS NULL THEN 0 ELSE 1 END AS removed,
               CASE WHEN u.copy_of IS NULL THEN 0 ELSE 1 END AS copied
        FROM taskctx_updates u JOIN taskctx_contexts c ON c.revision > 0 AND c.context_id = u.context_id
        LEFT JOIN taskctx_updates e ON e.context_id = u.context_id AND e.seq = ({result})
        WHERE u.update_type = 'tool_call' AND {call_group} IS NOT NULL
    """


def replace(op: Operations, name: str, select: str) -> None:
    if verbatim.dialect_name(op) == "postgresql":
        # Keeps the privileges on the view.
        verbatim.execute(op, f"CREATE OR REPLACE VIEW taskctx_report_{name} AS {select}")
        return
    op.execute(f"DROP VIEW IF EXISTS taskctx_report_{name}")
    verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select}")


def _revision(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
