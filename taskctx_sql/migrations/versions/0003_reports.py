"""Views for reports, the same on both engines, and the indexes by day that they use.

Revision: taskctx_0003, after taskctx_0002
"""

from alembic.operations import Operations

from taskctx_sql.sql.schema import branch, verbatim

revision = "taskctx_0003"
down_revision = "taskctx_0002"
branch_labels = None
depends_on = None

# The value computed from a time; NULL outside of the years 1 to 9999, which neither engine can format.
_IN_RANGE = "CASE WHEN {0} >= -62135596800 AND {0} < 253402300800 THEN {1} END"
_DAY = {
    "sqlite": "date(CAST({0} AS INTEGER), 'unixepoch')",
    "postgresql": "DATE '1970-01-01' + CAST(floor(trunc({0}) / 86400) AS INTEGER)",
}
_UTC = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', CAST({0} AS INTEGER), 'unixepoch')",
    "postgresql": "to_char(to_timestamp(trunc({0})) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')",
}
_BYTES = {"sqlite": "length(CAST({0} AS BLOB))", "postgresql": "octet_length({0})"}
# The string at a path of a JSON document; NULL if there is none.
_STRING = {
    "sqlite": "CASE json_type({0}, '{1}') WHEN 'text' THEN json_extract({0}, '{1}') END",
    "postgresql": "CASE jsonb_typeof(CAST({0} AS jsonb) #> '{1}') WHEN 'string' THEN CAST({0} AS jsonb) #>> '{1}' END",
}

# The time of a row in the reports.
_TIMES = {
    "taskctx_contexts": "created_at",
    "taskctx_updates": '"timestamp"',
    "taskctx_files": '"timestamp"',
    "taskctx_models": '"timestamp"',
    "taskctx_runs": "started_at",
}


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

    def bytes(self, text: str) -> str:
        """Return the size of a text in bytes of UTF-8."""
        return _BYTES[self._name].format(text)

    def string(self, document: str, *path: str) -> str:
        """Return the string at a path of a JSON document, even if it is stored as a `Path` or escaped."""
        forms = (path, (*path, "__str__"), (*path, "__path__"))
        return ", ".join(_STRING[self._name].format(document, self._path(form)) for form in forms)

    def _path(self, path: tuple[str, ...]) -> str:
        return ".".join(("$", *path)) if self._name == "sqlite" else "{" + ",".join(path) + "}"


# Absurd values are left out: they would make the sum fail on one engine only.
def _sum_whole(column: str) -> str:
    return f"CAST(coalesce(sum(CASE WHEN {column} BETWEEN 0 AND 1000000000000 THEN {column} END), 0) AS BIGINT)"


def _sum(column: str) -> str:
    # Rounded, because the engines do not add in the same order.
    plausible = f"CASE WHEN {column} BETWEEN -1e12 AND 1e12 THEN {column} END"
    return f"CAST(round(CAST(coalesce(sum({plausible}), 0) AS NUMERIC), 9) AS DOUBLE PRECISION)"


def _count(condition: str) -> str:
    return f"count(CASE WHEN {condition} THEN 1 END)"


_CONTEXT = "c.context_id, c.user_id, c.chat_id"
_MODELS = "FROM taskctx_models m WHERE m.context_id = c.context_id AND m.removed_in IS NULL"
_FILES = "(SELECT count(*) FROM taskctx_files f WHERE f.context_id = c.context_id AND f.removed_in IS NULL)"
_RUNS = "SELECT count(*) FROM taskctx_runs r WHERE r.context_id = c.context_id"


def _tasks(engine: Engine) -> str:
    first, last = 'min(u."timestamp")', 'max(u."timestamp")'
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
               (SELECT count(DISTINCT m.model_id) {_MODELS}) AS models,
               (SELECT count(*) {_MODELS}) AS calls,
               (SELECT {_sum_whole("m.input_tokens")} {_MODELS}) AS input_tokens,
               (SELECT {_sum_whole("m.output_tokens")} {_MODELS}) AS output_tokens,
               (SELECT {_sum("m.cost")} {_MODELS}) AS cost
        FROM taskctx_contexts c LEFT JOIN taskctx_updates u ON u.context_id = c.context_id
        GROUP BY {_CONTEXT}, c.created_at, c.updated_at, c.revision
    """


def _runs(engine: Engine) -> str:
    return f"""
        SELECT {_CONTEXT}, r.run_id, {engine.day("r.started_at")} AS day,
               r.started_at, {engine.utc("r.started_at")} AS started_utc,
               r.ended_at, {engine.utc("r.ended_at")} AS ended_utc,
               r.ended_at - r.started_at AS duration,
               coalesce(r.outcome, 'unfinished') AS outcome, r.error, r.saves
        FROM taskctx_runs r JOIN taskctx_contexts c ON c.context_id = r.context_id
    """


def _models(engine: Engine) -> str:
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
        WHERE m.removed_in IS NULL
        GROUP BY {_CONTEXT}, {day}, {", ".join(names)}
    """


def _files(engine: Engine) -> str:
    # The same save wrote the file's entry and the update about it, so the last such update of that save is looked up.
    # The model is the one used last before it, in that save or an earlier one.
    since = "u.context_id = f.context_id AND u.seq >= coalesce(b.next_seq, 1)"
    place = f"""
        SELECT u.seq FROM taskctx_updates u
        WHERE {since} AND u.seq < coalesce(a.next_seq, c.next_seq) AND u.update_type = 'file_operation'
              AND coalesce({engine.string("u.data", "path")}) = f.path
        ORDER BY u.seq DESC LIMIT 1
    """
    return f"""
        SELECT {_CONTEXT}, f.path, f.path_id, f.operation, f.source, f.state,
               f."timestamp", {engine.utc('f."timestamp"')} AS timestamp_utc, {engine.day('f."timestamp"')} AS day,
               f.run_id, f.added_in AS revision,
               coalesce(
                   (SELECT coalesce({engine.string("u.data", "model_id")}) FROM taskctx_updates u
                    WHERE {since} AND u.seq < ({place}) AND u.update_type = 'model_usage'
                    ORDER BY u.seq DESC LIMIT 1),
                   (SELECT m.model_id FROM taskctx_models m
                    WHERE m.context_id = f.context_id AND m.seq = b.next_model - 1)
               ) AS model_id
        FROM taskctx_files f JOIN taskctx_contexts c ON c.context_id = f.context_id
        LEFT JOIN taskctx_revisions a ON a.context_id = f.context_id AND a.revision = f.added_in
        LEFT JOIN taskctx_revisions b ON b.context_id = f.context_id AND b.revision = f.added_in - 1
        WHERE f.removed_in IS NULL
    """


def _activity(engine: Engine) -> str:
    day = engine.day('u."timestamp"')
    return f"""
        SELECT {_CONTEXT}, {day} AS day, u.update_type,
               count(*) AS updates, {_count("u.removed_in IS NOT NULL")} AS removed,
               CAST(sum({_update_bytes(engine)}) AS BIGINT) AS bytes
        FROM taskctx_updates u JOIN taskctx_contexts c ON c.context_id = u.context_id
        GROUP BY {_CONTEXT}, {day}, u.update_type
    """


def _errors(engine: Engine) -> str:
    message = ", ".join([*(engine.string("u.data", *path) for path in ((), ("message",), ("error",))), "u.data"])
    ended = "coalesce(r.ended_at, r.started_at)"
    return f"""
        SELECT 'update' AS kind, {_CONTEXT}, u.run_id, u.seq, {engine.day('u."timestamp"')} AS day,
               u."timestamp", {engine.utc('u."timestamp"')} AS timestamp_utc,
               coalesce({message}) AS message,
               CASE WHEN u.removed_in IS NULL THEN 0 ELSE 1 END AS removed
        FROM taskctx_updates u JOIN taskctx_contexts c ON c.context_id = u.context_id
        WHERE u.update_type = 'error'
        UNION ALL
        SELECT 'run' AS kind, {_CONTEXT}, r.run_id, 0 AS seq, {engine.day(ended)} AS day,
               {ended} AS "timestamp", {engine.utc(ended)} AS timestamp_utc,
               coalesce(r.error, '') AS message, 0 AS removed
        FROM taskctx_runs r JOIN taskctx_contexts c ON c.context_id = r.context_id
        WHERE r.outcome = 'failed'
    """


def _update_bytes(engine: Engine) -> str:
    return f"{engine.bytes('u.data')} + {engine.bytes('u.metadata')}"


def _sizes(engine: Engine) -> str:
    size = _update_bytes(engine)
    return f"""
        SELECT {_CONTEXT}, {engine.day("c.created_at")} AS day,
               c.created_at, {engine.utc("c.created_at")} AS created_utc,
               c.updated_at, {engine.utc("c.updated_at")} AS updated_utc,
               CAST(coalesce(sum({size}), 0) AS BIGINT) AS bytes,
               coalesce(max({size}), 0) AS largest_update,
               count(u.seq) AS updates, {_count("u.removed_in IS NOT NULL")} AS removed,
               c.revision AS saves, {_FILES} AS files, ({_RUNS}) AS runs
        FROM taskctx_contexts c LEFT JOIN taskctx_updates u ON u.context_id = c.context_id
        GROUP BY {_CONTEXT}, c.created_at, c.updated_at, c.revision
    """


def _users(engine: Engine) -> str:
    return f"""
        SELECT c.user_id, count(DISTINCT c.context_id) AS contexts,
               count(u.seq) AS updates, {_count("u.removed_in IS NOT NULL")} AS removed,
               CAST(coalesce(sum({_update_bytes(engine)}), 0) AS BIGINT) AS bytes,
               max(c.updated_at) AS updated_at, {engine.utc("max(c.updated_at)")} AS updated_utc
        FROM taskctx_contexts c LEFT JOIN taskctx_updates u ON u.context_id = c.context_id
        GROUP BY c.user_id
    """


VIEWS = {
    "tasks": _tasks,
    "runs": _runs,
    "models": _models,
    "files": _files,
    "activity": _activity,
    "errors": _errors,
    "sizes": _sizes,
    "users": _users,
}


@branch.upgrades_to(revision)
def upgrade(op: Operations) -> None:
    engine = Engine(verbatim.dialect_name(op))
    for table, time in _TIMES.items():
        verbatim.execute(op, f"CREATE INDEX {table}_day_idx ON {table} (({engine.day(time)}))")
    # Partial indexes: few updates are errors and few runs fail, and the others cost nothing.
    verbatim.execute(
        op, "CREATE INDEX taskctx_updates_error_idx ON taskctx_updates (\"timestamp\") WHERE update_type = 'error'"
    )
    ended = engine.day("coalesce(ended_at, started_at)")
    verbatim.execute(op, f"CREATE INDEX taskctx_runs_failed_idx ON taskctx_runs (({ended})) WHERE outcome = 'failed'")
    for name, select in VIEWS.items():
        verbatim.execute(op, f"CREATE VIEW taskctx_report_{name} AS {select(engine)}")


@branch.downgrades_from(revision)
def downgrade(op: Operations) -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW taskctx_report_{name}")
    op.execute("DROP INDEX taskctx_runs_failed_idx")
    op.execute("DROP INDEX taskctx_updates_error_idx")
    for table in _TIMES:
        op.execute(f"DROP INDEX {table}_day_idx")
