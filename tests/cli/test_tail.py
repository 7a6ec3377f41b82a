"""The command `tail`: a context is followed while others write it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from taskctx_sql import ContextKey, Loaded, blocking, open_store, task_context
from taskctx_sql.cli.tail import follow_updates

# A shell starts what runs in the background with SIGINT ignored, and that is inherited.
HEARS_SIGINT = """
import signal
from taskctx_sql.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


class Tail:
    """A ``taskctx tail`` that runs."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "error", "-c", HEARS_SIGINT, "tail", *arguments, "--interval", "0.1"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        # Nobody waits forever for a line that does not come.
        self.limit = threading.Timer(60, self.process.kill)
        self.limit.name = "taskctx-blocking-limit"
        self.limit.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended early: {self.process.communicate()}"
        return line

    def stop(self, by: signal.Signals) -> None:
        self.process.send_signal(by)
        out, err = self.process.communicate(timeout=30)
        self.limit.cancel()
        self.limit.join()
        assert (self.process.returncode, out, err) == (0, "", "")

    def close(self) -> None:
        """End it, if a failed test left it running."""
        self.limit.cancel()
        self.limit.join()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def tail() -> Iterator[Callable[..., Tail]]:
    """Starts ``taskctx tail``."""
    with contextlib.ExitStack() as started:

        def start(*arguments: str) -> Tail:
            return started.enter_context(contextlib.closing(Tail(*arguments)))

        yield start


def test_a_context_is_followed_while_another_process_writes_it(
    address: str, user: str, tail: Callable[..., Tail]
) -> None:
    early = tail(user, "c1", "--database-url", address, "--lines", "2", "--json", "--wait")
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        for number in range(3):
            ctx.add_context_update("message", f"first {number}")
            blocking(ctx.save())
            assert json.loads(early.line())["data"] == f"first {number}"
    early.stop(signal.SIGINT)
    late = tail(user, "c1", "--database-url", address, "--lines", "2")
    assert [late.line().split("  ")[-1].strip() for _ in range(2)] == ['"first 1"', '"first 2"']
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        ctx.add_context_update("message", "later \x1b[31m")
    assert late.line().split("  ")[-1].strip() == '"later \\u001b[31m"'
    late.stop(signal.SIGTERM)


@pytest.mark.wide
def test_a_context_that_is_deleted_is_waited_for_again(database_url: str, user: str, tail: Callable[..., Tail]) -> None:
    following = tail(user, "c1", "--database-url", database_url, "--json", "--wait")
    with open_store(database_url) as store:
        for life in range(2):
            with task_context({"user_id": user, "chat_id": "c1"}, store=store) as ctx:
                ctx.add_context_update("message", f"life {life}")
            told = json.loads(following.line())
            assert (told["seq"], told["data"]) == (1, f"life {life}")
            assert blocking(store.delete(ContextKey(user, "c1")))
    following.stop(signal.SIGTERM)


async def test_a_context_that_is_created_again_before_it_is_followed_begins_again(database_url: str, user: str) -> None:
    key = ContextKey(user, "c1")
    async with open_store(database_url) as store:

        async def live(life: int) -> Loaded:
            async with task_context({"user_id": user, "chat_id": "c1"}, store=store) as ctx:
                ctx.add_context_update("message", f"life {life}")
            return await store.load(key)

        old = await live(0)
        await store.delete(key)
        await live(1)
        async with (
            asyncio.timeout(60),
            contextlib.aclosing(follow_updates(store, key, 1, old.created_at, 0.1)) as followed,
        ):
            assert (await anext(followed)).update.data == "life 1"
