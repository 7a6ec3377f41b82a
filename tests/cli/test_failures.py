"""How the program fails: one line, an exit code, and a traceback only if it was asked for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskctx_sql import task_context
from taskctx_sql.cli import commands, main, stores
from taskctx_sql.errors import SchemaMissingError
from tests.support.command import parsed, taskctx
from tests.support.waiting import SOON


@pytest.fixture
def filled(tmp_path: Path) -> str:
    """A database with a context whose run failed."""
    address = f"sqlite:///{tmp_path}/tasks.db"
    with (
        pytest.raises(KeyError),
        task_context({"user_id": "u1", "chat_id": "c1"}, database_url=address) as context,
    ):
        context.add_context_update("message", "done")
        raise KeyError("made for this test")
    return address


@pytest.fixture
def fails(request: pytest.FixtureRequest) -> Iterator[str]:
    """A command that fails with the error of the test's parameter."""

    @commands.command("fails")
    def fails() -> None:
        raise request.param

    main.add_command(fails)
    yield "fails"
    del main.commands["fails"]


@pytest.mark.parametrize("fails", [ZeroDivisionError("by\nzero"), AssertionError()], indirect=True)
def test_a_bug_is_one_line_that_says_so(fails: str) -> None:
    # The harness refuses them elsewhere.
    with pytest.raises(AssertionError, match="this is a bug of taskctx"):
        taskctx(fails)
    done = taskctx("--traceback", fails)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert taskctx(fails, "--traceback").stderr.startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("fails", [KeyboardInterrupt()], indirect=True)
def test_an_interruption_is_quiet(fails: str) -> None:
    done = taskctx(fails)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "fails",
    [SchemaMissingError("postgresql://me:hunter2@host/db?application_name=a b", "my tasks")],
    indirect=True,
)
def test_a_remedy_can_be_pasted(fails: str) -> None:
    done = taskctx(fails)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hunter2" not in done.stderr
    assert "--schema 'my tasks'`" in done.stderr


def closed_pipe() -> int:
    """A pipe to write to, whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["--help"],
        *(
            pytest.param(words, marks=pytest.mark.wide)
            for words in (["show", "u1", "c1"], ["tail", "u1", "c1"], ["report", "tasks", "--format", "csv"])
        ),
    ],
    ids=lambda words: words[0],
)
def test_a_closed_pipe_is_no_error(words: list[str], filled: str) -> None:
    output = closed_pipe()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "taskctx_sql", *words],
        stdout=output,
        stderr=subprocess.PIPE,
        timeout=120,
        env={**os.environ, "TASKCTX_DATABASE_URL": filled},
    )
    os.close(output)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_output_that_cannot_be_written_is_one_line(filled: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "taskctx_sql", "list", "-d", filled],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    # A shell's `>&-` leaves no output at all.
    command = f"exec '{sys.executable}' -m taskctx_sql list -d '{filled}' >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.wide
def test_a_host_that_does_not_answer_is_reported_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for driver in ("asyncpg", "psycopg"):
            began = time.monotonic()
            done = taskctx("list", "-d", f"postgresql+{driver}://me:hunter2@127.0.0.1:{port}/x")
            assert time.monotonic() - began < SOON
            assert done.returncode == 1
            assert f"://me:***@127.0.0.1:{port}/x within " in done.stderr
            assert "check the host and the port" in done.stderr


def test_quiet_leaves_warnings_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "REACH_SECONDS", 0.3)
    command = ["list", "-d", "postgresql://me:hunter2@127.0.0.1:1/x"]
    assert taskctx(*command).stderr.startswith("WARNING could not connect in postgresql://me:***@127.0.0.1:1/x, ")
    for words in ([*command, "--quiet"], ["-q", *command]):
        done = taskctx(*words)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("Error: could not connect to ")


def test_what_is_not_there_is_said_with_what_is(filled: str) -> None:
    for words in (["show", "u1", "c2"], ["tail", "u1", "c2"], ["log", "u1", "c2"]):
        done = taskctx(*words, "-d", filled)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: there is no context ")
        # With the store that was typed, so that it can be pasted; one from the environment is there anyway.
        assert f"`taskctx list -d {filled}`" in done.stderr
        assert "`taskctx list`" in taskctx(*words, TASKCTX_DATABASE_URL=filled).stderr
    assert "--wait" in taskctx("tail", "u1", "c2", "-d", filled).stderr


def test_the_outcome_of_runs_is_shown(filled: str) -> None:
    done = taskctx("show", "u1", "c1", "-d", filled)
    assert "outcome: failed (1 run: 1 failed); the last error: " in done.stdout
    assert "made for this test" in done.stdout
    # A later success hides no failure, here as in the reports.
    with task_context({"user_id": "u1", "chat_id": "c1"}, database_url=filled) as context:
        context.add_context_update("message", "again")
    done = taskctx("show", "u1", "c1", "-d", filled)
    assert "outcome: failed (2 runs: 1 failed, 1 completed); the last error: " in done.stdout
    assert parsed("show", "u1", "c1", "-d", filled)["outcome"] == "failed"
    (task,) = parsed("report", "tasks", "--chat", "c1", "-d", filled)
    assert (task["outcome"], task["runs"], task["failed_runs"]) == ("failed", 2, 1)


def test_doctor_leaves_out_what_is_ignored(filled: str) -> None:
    everything = taskctx("doctor", "-d", filled, "--format", "csv").stdout
    assert ",self-test," in everything
    done = taskctx("doctor", "-d", filled, "--format", "csv", "--ignore", "self-test", "--ignore", "sqlite")
    assert done.returncode == 0
    for check in ("self-test", "sqlite"):
        assert f",{check}," not in done.stdout
    assert taskctx("doctor", "-d", filled, "--ignore", "sqlite", "--quiet").stdout.count("ok ") == 0
