"""Where a store belongs: to one event loop and one process, which end whether it was closed or not."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, SqlStore, blocking, open_store
from taskctx_sql.errors import WrongEventLoopError
from tests.support.contract import new_delta
from tests.support.waiting import SOON, until


def test_another_event_loop_gets_an_error(database_url: str, user: str) -> None:
    with open_store(database_url) as store:
        with pytest.raises(WrongEventLoopError, match="one store in each"):
            asyncio.run(store.load(ContextKey(user, "c")))
        assert blocking(store.load(ContextKey(user, "c"))).revision == 0


def test_a_child_of_a_fork_gets_an_error(tmp_path: Path) -> None:
    code = f"""
import asyncio, os
from taskctx_sql import ContextKey, open_store
from taskctx_sql.errors import WrongEventLoopError
async def main():
    async with open_store("sqlite:///{tmp_path}/x.db") as store:
        child = os.fork()
        if child == 0:
            try:
                await store.load(ContextKey("u", "c"))
            except WrongEventLoopError:
                os._exit(42)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print((await store.load(ContextKey("u", "c"))).revision)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * SOON)
    assert done.stdout.split() == ["42", "0"], done.stderr


@pytest.mark.parametrize("how", ["await open_store(url)", "open_store(url).__enter__()"])
def test_the_interpreter_ends_at_once_when_a_store_was_never_closed(database_url: str, how: str) -> None:
    opening = f"store = {how}" if how.startswith("await") else "store = await asyncio.to_thread(lambda: " + how + ")"
    code = f"""
import asyncio, sys
from taskctx_sql import ContextKey, open_store
kept = []
async def main():
    url = sys.argv[1]
    {opening}
    kept.append(store)
    print("opened")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, text=True, timeout=2 * SOON)
    assert done.stdout.strip() == "opened", done.stderr
    assert done.returncode == 0


async def test_a_store_that_was_never_closed_is_warned_of(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/x.db")
    assert isinstance(store, SqlStore)
    await store.save(new_delta(ContextKey("u", "c"), "a"))
    engine = store._backend.engine
    forgotten = [store]
    del store
    with pytest.warns(ResourceWarning, match="was never closed"):
        forgotten.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        await engine.dispose()
        gc.collect()
    # The thread that saves does not go on without its store.
    await until(lambda: not any(thread.name == "taskctx-writer" for thread in threading.enumerate()))


def test_the_home_of_a_store_is_a_process(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        assert isinstance(store, SqlStore)
        assert store._home.process == os.getpid()
