"""The pytest plugin, as the tests of a program use it: on each database, with each plugin for async tests, or none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskctx_sql.sql import engines
from tests.conftest import run_on_a_thread
from tests.test_docs import BLOCK, DOCS

pytest_plugins = ("pytester",)

# Without an async plugin; with each of the two.
NO_ASYNC = ("-pno:asyncio", "-pno:anyio")
ASYNCIO = ("-pno:anyio", "--asyncio-mode=auto", "-oasyncio_default_fixture_loop_scope=function")
PLAIN = """
    import pytest
    from taskctx_sql import ContextKey, TaskContext, blocking, maintenance, Retention, task_context
    from taskctx_sql.errors import StoreError

    DATA = {"user_id": "u1", "chat_id": "c1"}
    KEY = ContextKey("u1", "c1")

    def write(where):
        with TaskContext(DATA, **where) as context:
            context.add_context_update("message", "hello")
            context.track_model_usage("m", "p", "chat", cost=0.5)
        return context

    @pytest.mark.parametrize("turn", range(3))
    def test_each_test_has_a_store_of_its_own(taskctx_store, turn):
        assert blocking(taskctx_store.load(KEY)).revision == 0
        write({"store": taskctx_store})
        assert [row.update.update_type for row in blocking(taskctx_store.updates(KEY))] == ["message", "model_usage"]
        (usage,) = blocking(taskctx_store.reports.models())
        assert usage.cost == 0.5
        assert [revision.revision for revision in blocking(taskctx_store.revisions(KEY))] == [1]
        assert next(blocking(taskctx_store.watch(KEY))).seq == 1

    def test_a_program_may_open_the_address_itself(taskctx_database_url, taskctx_open, taskctx_store):
        write({"database_url": taskctx_database_url})
        with taskctx_open(strict=True) as store:
            assert len(blocking(store.load(KEY)).history) == 2
        assert len(blocking(taskctx_store.load(KEY)).history) == 2

    def test_the_clock_is_the_time_of_everything(taskctx_clock, taskctx_store, taskctx_open):
        start = taskctx_clock.now
        first = write({"store": taskctx_store})
        assert first.context_history[0].timestamp == start
        taskctx_clock.advance(3600)
        write({"store": taskctx_store})
        second, revision = blocking(taskctx_store.revisions(KEY))
        assert (revision.saved_at, second.saved_at) == (start, start + 3600)
        (run, other) = blocking(taskctx_store.reports.context_runs(KEY))
        assert {run.started_at, other.started_at} == {start, start + 3600}
        taskctx_clock.advance(86400)
        with taskctx_open() as store:
            kept = blocking(maintenance.prune(store, Retention(max_age=2 * 86400)))
            assert kept.by_age == 0
            taskctx_clock.advance(86401)
            assert blocking(maintenance.prune(store, Retention(max_age=2 * 86400))).by_age == 1
        assert taskctx_clock() == start + 3600 + 2 * 86400 + 1

    def test_the_clock_is_the_systems_again():
        import time
        context = TaskContext(DATA, "tasks")
        context.add_context_update("message", "now")
        assert abs(context.context_history[0].timestamp - time.time()) < 60
"""
ASYNC = """
    import asyncio
    from contextlib import aclosing
    import pytest
    from taskctx_sql import ContextKey, TaskContext, blocking

    KEY = ContextKey("u1", "c1")

    @pytest.mark.parametrize("turn", range(2))
    async def test_an_async_test_awaits_the_store(taskctx_store, taskctx_clock, turn):
        assert (await taskctx_store.load(KEY)).revision == 0
        async with TaskContext({"user_id": "u1", "chat_id": "c1"}, store=taskctx_store) as context:
            context.add_context_update("message", "hello")
        assert [row.update.data async for row in taskctx_store.updates(KEY)] == ["hello"]
        assert len(await taskctx_store.contexts("u1")) == 1
        assert len(await taskctx_store.reports.tasks()) == 1
        assert blocking(taskctx_store.load(KEY)).revision == 1
        async with aclosing(taskctx_store.watch(KEY)) as updates:
            assert (await anext(updates)).update.timestamp == taskctx_clock.now
            waiting = asyncio.ensure_future(anext(updates))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert await taskctx_store.delete(KEY)

    async def test_an_async_program_opens_a_store_itself(taskctx_open):
        async with taskctx_open() as store:
            async with TaskContext({"user_id": "u1", "chat_id": "c1"}, store=store) as context:
                context.add_context_update("message", "hello")
            assert (await store.load(KEY)).revision == 1
"""
UNDER_ANYIO = """
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    # By name, in case the package is not installed but on the path.
    return pytester.runpytest_subprocess("-ptaskctx_pytest", "-pno:cacheprovider", "-Werror", *options, timeout=120)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKCTX_TEST_DATABASE_URL", raising=False)


@pytest.mark.parametrize("where", ["file", pytest.param("memory", marks=pytest.mark.wide)])
def test_plain_tests_need_no_async_plugin(pytester: pytest.Pytester, where: str) -> None:
    pytester.makepyfile(PLAIN)
    pytester.makeini(f"[pytest]\ntaskctx_database = {where}\n")
    run(pytester, *NO_ASYNC, "-pno:xdist").assert_outcomes(passed=6)


def test_async_tests_run_under_pytest_asyncio_and_under_anyio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_asyncio=ASYNC,
        test_anyio=ASYNC + UNDER_ANYIO,
    )
    run(pytester, *ASYNCIO, "-pno:xdist", "test_asyncio.py").assert_outcomes(passed=3)
    run(pytester, "-pno:asyncio", "-pno:xdist", "test_anyio.py", "--taskctx-database=file").assert_outcomes(passed=3)


def test_the_workers_of_xdist_have_databases_of_their_own_on_a_server(
    pytester: pytest.Pytester, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTX_TEST_DATABASE_URL", postgres_server)
    pytester.makepyfile(test_plain=PLAIN, test_async=ASYNC)
    run(pytester, *ASYNCIO, "-n2", "--dist=load").assert_outcomes(passed=9)
    assert run_on_a_thread(_databases(postgres_server)) == []


async def _databases(server: str) -> list[str]:
    engine = engines.create_engine(engines.parse_url(server))
    async with engine.connect() as connection:
        found = await connection.execute(
            sa.text("SELECT datname FROM pg_database WHERE datname ~ '^taskctx_test_(main|gw[0-9]+)_'")
        )
        names = [str(row[0]) for row in found]
    await engine.dispose()
    return names


def test_the_guide_runs(pytester: pytest.Pytester) -> None:
    guide = (DOCS / "guides" / "testing.md").read_text()
    (code,) = [code for kind, code in BLOCK.findall(guide) if kind == "py"]
    pytester.makepyfile(code)
    run(pytester, *ASYNCIO, "-pno:xdist").assert_outcomes(passed=2)


def test_what_is_configured_wrongly_stops_the_run_and_says_how_to_mend_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): ...")
    found = run(pytester, *NO_ASYNC, "--taskctx-database=postgres")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*TASKCTX_TEST_DATABASE_URL is not set: set it to the address of a server*"])
    pytester.makeini("[pytest]\ntaskctx_database = oracle\n")
    found = run(pytester, *NO_ASYNC)
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*taskctx_database = oracle is not allowed: set it to memory, file, postgres*"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:hidden@127.0.0.1:9/x", "could not create a database for tests in postgresql://me:***"),
        ("sqlite:///x.db", "a Postgres server belongs here"),
    ],
)
def test_a_server_that_cannot_be_used_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("TASKCTX_TEST_DATABASE_URL", url)
    pytester.makepyfile("def test_one(taskctx_store): ...")
    found = run(pytester, *NO_ASYNC)
    found.assert_outcomes(errors=1)
    assert message in found.stdout.str()
    assert "hidden" not in found.stdout.str()


def test_a_run_that_asks_for_nothing_imports_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "taskctx_pytest" in sys.modules
            assert [name for name in sys.modules if name.partition(".")[0] in ("taskctx_sql", "sqlalchemy")] == []
        """
    )
    run(pytester, *NO_ASYNC, "-pno:xdist").assert_outcomes(passed=1)


def test_the_names_of_the_plugin_begin_with_its_own() -> None:
    text = (Path(__file__).parents[2] / "taskctx_pytest.py").read_text()
    names = re.findall(r"@pytest.fixture.*\ndef (\w+)", text) + re.findall(r'addini\("(\w+)"', text)
    assert len(names) == 6
    assert [name for name in names if not name.strip("_").startswith("taskctx_")] == []
    assert re.findall(r'addoption\("(?!--taskctx-)', text) == []
