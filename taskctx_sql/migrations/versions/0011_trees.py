"""Trees of tasks, and what failed and was tried again.

The id of the parent is beside the label that names it, and a view adds up what is below a task. The views of the models
and the calls of tools tell what is needed to count failures and retries, and one has each use of a model.

Revision: taskctx_0011, after taskctx_0010
"""

import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, functions, verbatim

revision = "taskctx_0011"
down_revision = "taskctx_0010"
branch_labels = None
depends_on = None

# The functions whose names end in this number were not released before they knew of this column.
_FUNCTIONS = 1

_CHILD = "parent_id IS NOT NULL AND removed_in IS NULL"
# The incomplete contexts, which are few. On Postgres it would make every save write to all indexes of the table.
_INCOMPLETE_INDEX = "CREATE INDEX taskctx_contexts_incomplete_idx ON taskctx_contexts (context_id) WHERE revision = 0"
_IS_WHOLE = {
    "sqlite": "m.context_id NOT IN (SELECT i.context_id FROM taskctx_contexts i WHERE i.revision = 0)",
    "postgresql": ("NOT EXISTS (SELECT FROM taskctx_contexts i WHERE i.context_id = m.context_id AND i.revision = 0)"),
}
_INDEX = f"CREATE INDEX taskctx_state_parent_idx ON taskctx_state (parent_id, context_id) WHERE {_CHILD}"

# Of a use of a model that failed, as the entry of the tracker has it beside what columns have.
_ERROR = {
    "sqlite": "CASE WHEN instr(m.exact, '\"error\"') > 0 THEN CAST(json_extract(m.exact, '$.error') AS TEXT) END",
    "postgresql": "CASE WHEN strpos(m.exact, '\"error\"') > 0 THEN CAST(m.exact AS jsonb) ->> 'error' END",
}
# Of a call of a tool; its data where it has no member with them.
_ARGUMENTS = {
    "sqlite": (
        "CASE json_type(u.data) WHEN 'object' THEN coalesce("
        "CAST(json_extract(u.data, '$.arguments') AS TEXT), CAST(json_extract(u.data, '$.input') AS TEXT),"
        " CAST(json_extract(u.data, '$.args') AS TEXT), u.data) ELSE u.data END"
    ),
    "postgresql": (
        "coalesce(CAST(u.data AS jsonb) ->> 'arguments', CAST(u.data AS jsonb) ->> 'input',"
        " CAST(u.data AS jsonb) ->> 'args', u.data)"
    ),
}

_TOKENS = (
    *("input_tokens", "output_tokens", "cached_read_tokens", "cached_write_tokens", "reasoning_tokens", "audio_tokens"),
)

# A context and what is below it. A context has one parent, so only a circle that it is in itself leads back to it.
_BELOW = """WITH RECURSIVE below AS (
            SELECT c.context_id, 0 AS depth
            UNION ALL
            SELECT s.context_id, below.depth + 1
            FROM below JOIN taskctx_state s ON s.parent_id = below.context_id AND s.removed_in IS NULL
            JOIN taskctx_contexts k ON k.context_id = s.context_id AND k.revision > 0
            WHERE s.context_id <> c.context_id)"""
# The names of a context in the statement, and of one below it.
_OWN, _MEMBER = "c", "below"
_PARENT = """FROM taskctx_state s JOIN taskctx_contexts p ON p.context_id = s.parent_id AND p.revision > 0
            WHERE s.context_id = {0}.context_id AND s.kind = 'label' AND s.name = 'parent' AND s.removed_in IS NULL
                  AND s.parent_id <> s.context_id"""
# Of a circle of parents, the context with the smallest id counts as the root.
_LEADS_A_CIRCLE = """(WITH RECURSIVE above AS (
            SELECT t.parent_id AS context_id
            UNION
            SELECT s.parent_id FROM above JOIN taskctx_state s ON s.context_id = above.context_id
            JOIN taskctx_contexts p ON p.context_id = s.parent_id AND p.revision > 0
            WHERE s.kind = 'label' AND s.name = 'parent' AND s.removed_in IS NULL AND s.parent_id <> s.context_id)
            SELECT min(above.context_id) = t.context_id
                   AND max(CASE WHEN above.context_id = t.context_id THEN 1 END) = 1
            FROM above)"""


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    op.add_column("taskctx_state", sa.Column("parent_id", sa.Text, nullable=True))
    verbatim.execute(op, _INDEX)
    dialect = verbatim.dialect_name(op)
    if dialect == "postgresql":
        functions.replace(partial(verbatim.execute, op), _FUNCTIONS)
    else:
        verbatim.execute(op, _INCOMPLETE_INDEX)
    outcomes, before = _revision("0008_outcomes"), _revision("0010_views")
    engine = outcomes.Engine(dialect)
    trees = _trees(dialect, outcomes, engine, before.STRING[dialect])
    verbatim.execute(op, f"CREATE VIEW taskctx_report_trees AS {trees}")
    verbatim.execute(op, f"CREATE VIEW taskctx_report_uses AS {_uses(dialect, outcomes, engine)}")
    error = f"count(CASE WHEN {_ERROR[dialect]} IS NOT NULL THEN 1 END) AS failures"
    models = before.models_view(outcomes, engine).replace(" AS estimated_cost", f" AS estimated_cost, {error}")
    before.replace(op, "models", models)
    arguments = f"{_ARGUMENTS[dialect]} AS arguments"
    before.replace(op, "calls", before.calls_view(dialect, engine).replace(" AS copied", f" AS copied, {arguments}"))


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    outcomes, before = _revision("0008_outcomes"), _revision("0010_views")
    dialect = verbatim.dialect_name(op)
    engine = outcomes.Engine(dialect)
    for name in ("uses", "trees", "calls", "models"):
        op.execute(f"DROP VIEW taskctx_report_{name}")
    # They have fewer columns than these, and cannot replace them.
    before.replace(op, "models", before.models_view(outcomes, engine))
    before.replace(op, "calls", before.calls_view(dialect, engine))
    op.execute("DROP INDEX taskctx_state_parent_idx")
    if dialect == "sqlite":
        op.execute("DROP INDEX taskctx_contexts_incomplete_idx")
    op.drop_column("taskctx_state", "parent_id")


def _trees(dialect: str, outcomes: ModuleType, engine: Any, string: str) -> str:
    """Return the view: a row for each context, with the sums of it and of all that is below it."""
    of_context = "FROM taskctx_state s WHERE s.context_id = c.context_id AND s.kind = 'label' AND s.removed_in IS NULL"
    errors = "SELECT count(*) FROM taskctx_updates u WHERE u.context_id = {0}.context_id AND u.update_type = 'error'"
    updates = "SELECT {0} FROM taskctx_updates u WHERE u.context_id = {1}.context_id"
    earliest, latest = 'min(u."timestamp")', 'max(u."timestamp")'
    span = f"{latest} - {earliest}"
    models = f"FROM taskctx_models m WHERE m.context_id = {{0}}.context_id AND {outcomes.USED}"
    cost = f"SELECT {outcomes.sum_up('m.cost')} {models}"
    runs = "SELECT count(*) FROM taskctx_runs r WHERE r.context_id = below.context_id"

    def added(select: str) -> str:
        return f"CAST(sum(({select.format(_MEMBER)})) AS BIGINT)"

    below = {
        "tasks": "count(*)",
        "depth": "CAST(max(below.depth) AS BIGINT)",
        "runs": added(runs),
        "failed_runs": added(f"{runs} AND {outcomes.FAILED}"),
        "unfinished_runs": added(f"{runs} AND {outcomes.UNFINISHED}"),
        "cancelled_runs": added(f"{runs} AND {outcomes.CANCELLED}"),
        "errors": added(errors),
        "calls": added(f"SELECT count(*) {models}"),
        "input_tokens": added(f"SELECT {outcomes.sum_whole('m.input_tokens')} {models}"),
        "output_tokens": added(f"SELECT {outcomes.sum_whole('m.output_tokens')} {models}"),
        "cost": outcomes.rounded(f"sum(({cost.format(_MEMBER)}))"),
        "first_at": f"min(({updates.format(earliest, _MEMBER)}))",
        "last_at": f"max(({updates.format(latest, _MEMBER)}))",
    }
    if dialect == "sqlite":
        # It has no LATERAL.
        sums = ", ".join(f"({_BELOW} SELECT {sql} FROM below) AS {name}" for name, sql in below.items())
        joined = ""
    else:
        sums = ", ".join(f"l.{name}" for name in below)
        together = ", ".join(f"{sql} AS {name}" for name, sql in below.items())
        joined = f"CROSS JOIN LATERAL ({_BELOW} SELECT {together} FROM below) l"
    return f"""
        SELECT t.context_id, t.user_id, t.chat_id, t.day, t.created_at, t.created_utc, t.updated_at, t.updated_utc,
               t.title, t.parent, t.parent_id,
               CASE WHEN t.parent_id IS NULL THEN 1 WHEN {_LEADS_A_CIRCLE} THEN 1 ELSE 0 END AS is_root,
               t.children, t.tasks, t.depth, {outcomes.TASK_OUTCOME.replace("summed.", "t.")} AS outcome,
               t.runs, t.failed_runs, t.unfinished_runs, t.cancelled_runs, t.errors,
               t.calls, t.input_tokens, t.output_tokens, t.cost,
               t.first_at, {engine.utc("t.first_at")} AS first_utc, t.last_at, {engine.utc("t.last_at")} AS last_utc,
               t.last_at - t.first_at AS duration, t.own_errors, t.own_cost, t.own_duration
        FROM (
        SELECT c.context_id, c.user_id, c.chat_id, {outcomes.times(engine)},
               (SELECT {string} {of_context} AND s.name = 'title') AS title,
               (SELECT {string} {of_context} AND s.name = 'parent') AS parent,
               (SELECT s.parent_id {_PARENT.format(_OWN)}) AS parent_id,
               (SELECT count(*) FROM taskctx_state s
                JOIN taskctx_contexts k ON k.context_id = s.context_id AND k.revision > 0
                WHERE s.parent_id = c.context_id AND s.removed_in IS NULL AND s.context_id <> c.context_id) AS children,
               {sums},
               ({errors.format(_OWN)}) AS own_errors, ({cost.format(_OWN)}) AS own_cost,
               ({updates.format(span, _OWN)}) AS own_duration
        FROM taskctx_contexts c {joined}
        WHERE c.revision > 0
        ) t
    """


def _uses(dialect: str, outcomes: ModuleType, engine: Any) -> str:
    """Return the view: a row for each use of a model that counts.

    Its join is left out by both engines where nothing of the context is asked for.
    """
    at = 'm."timestamp"'
    names = ", ".join(f"coalesce(m.{name}, '') AS {name}" for name in ("model_id", "provider_id", "mode"))
    tokens = ", ".join(f"m.{name}" for name in _TOKENS)
    return f"""
        SELECT m.context_id, c.user_id, c.chat_id, m.seq, {names},
               {engine.day(at)} AS day, {at}, {engine.utc(at)} AS timestamp_utc, {tokens}, m.cost, m.price_list,
               m.duration, {_ERROR[dialect]} AS error, m.run_id
        FROM taskctx_models m LEFT JOIN taskctx_contexts c ON c.context_id = m.context_id
        WHERE {_IS_WHOLE[dialect]} AND {outcomes.USED}
    """


def _revision(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
