"""What is taken for a form that a Citus refuses, and for a statement about one context."""

from __future__ import annotations

import pytest

from tests.support.statements import is_ours, is_routed, refused_forms

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
