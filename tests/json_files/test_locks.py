"""The lock of a folder: it is waited for with a bound, can be given up, and holds up nobody else."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, blocking, open_store
from taskctx_sql.errors import StoreClosedError, StoreUnavailableError
from taskctx_sql.json_files import batches
from taskctx_sql.locations import folder_lock, folders
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention
from taskctx_sql.transfer import export
from tests.json_files.histories import KEY, NAME
from tests.support.contract import new_delta, stored
from tests.support.waiting import SOON


@pytest.fixture
def held(folder: Path) -> Iterator[None]:
    """The folder's lock is held by another process, which does nothing else."""
    code = (
        "import fcntl, os, sys, time\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print(flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.kill()


async def test_a_folder_that_is_held_by_a_stranger_is_given_up_in_time(store: JsonStore, folder: Path) -> None:
    await store.save(new_delta(KEY, "a"))
    context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
    await context.load()
    context.add_context_update("message", "b")
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        for work in (context.save, lambda: store.delete(KEY)):
            began = time.monotonic()
            async with asyncio.timeout(SOON):
                with pytest.raises(StoreUnavailableError, match="another process holds the lock"):
                    await work()
            assert time.monotonic() - began >= 0.3
        assert context.has_unsaved_changes
    finally:
        os.close(descriptor)
    await context.save()
    assert await stored(store, KEY) == ["a", "b"]


@pytest.mark.usefixtures("held")
async def test_a_cancellation_ends_the_waiting_for_a_lock(folder: Path) -> None:
    store = JsonStore(folder, retry_seconds=60)
    saving = asyncio.ensure_future(store.save(new_delta(KEY, "a")))
    await asyncio.sleep(0.2)
    # Others read meanwhile.
    async with asyncio.timeout(SOON):
        assert await stored(store, KEY) == []
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("doing", ["prune", "erase", "delete", "export"])
async def test_whatever_removes_or_writes_a_file_waits_no_longer_and_can_be_cancelled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    (folder / NAME).write_text("[]")
    (folder / "context_history_d.json").write_text("[]")
    monkeypatch.setattr(batches, "LOCK_SECONDS", 0.3)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as database:
        assert isinstance(database, SqlStore)
        await database.save(new_delta(KEY, "a"))

        def work(seconds: float) -> Awaitable[object]:
            store = JsonStore(folder, retry_seconds=seconds)
            ways: dict[str, Callable[[], Awaitable[object]]] = {
                "prune": lambda: prune(store, Retention(max_contexts=0)),
                "erase": lambda: erase(store, "u", "c"),
                "delete": lambda: store.delete(KEY),
                "export": lambda: export(database, folder, user_id="u"),
            }
            return ways[doing]()

        async with asyncio.timeout(SOON):
            with pytest.raises(StoreUnavailableError, match="another process holds the lock"):
                await work(0.3)
        monkeypatch.setattr(batches, "LOCK_SECONDS", 60)
        waiting = asyncio.ensure_future(work(60))
        await asyncio.sleep(0.3)
        waiting.cancel()
        async with asyncio.timeout(SOON):
            with pytest.raises(asyncio.CancelledError):
                await waiting
    assert {path.name for path in folder.iterdir()} == {NAME, "context_history_d.json"}


@pytest.mark.usefixtures("held")
async def test_those_who_wait_for_a_lock_hold_up_nobody_else(folder: Path, tmp_path: Path) -> None:
    store = JsonStore(folder, retry_seconds=60)
    # More than there are threads for files.
    saving = [asyncio.ensure_future(store.save(new_delta(ContextKey("u", f"c{n}"), "a"))) for n in range(50)]
    await asyncio.sleep(0.2)
    other = JsonStore(tmp_path / "other", retry_seconds=60)
    async with asyncio.timeout(SOON):
        assert await stored(store, KEY) == []
        await other.save(new_delta(KEY, "b"))
        async with open_store(f"sqlite:///{tmp_path}/t.db") as database:
            await database.save(new_delta(KEY, "c"))
        for save in saving:
            save.cancel()
        await asyncio.wait(saving)
    assert all(save.cancelled() for save in saving)
    assert list(folder.iterdir()) == []


async def test_nothing_is_written_when_a_folder_has_been_closed(folder: Path) -> None:
    store = JsonStore(folder, retry_seconds=60)
    await store.save(new_delta(KEY, "a"))
    with folder_lock(folder):
        writing = [asyncio.ensure_future(store.save(new_delta(ContextKey("u", f"c{n}"), "b"))) for n in range(3)]
        writing.append(asyncio.ensure_future(store.delete(KEY)))  # type: ignore[arg-type]  # what comes of it is not looked at
        await asyncio.sleep(0.2)
        closing = asyncio.ensure_future(store.close())
        async with asyncio.timeout(SOON):
            while not closing.done():
                await asyncio.sleep(0)
                closing.cancel()
        assert all(task.done() for task in writing)
    for task in writing:
        with pytest.raises(StoreClosedError):
            await task
    assert [path.name for path in folder.iterdir()] == [NAME]


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_during_a_save_can_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JsonStore(folder)
    blocking(store.save(new_delta(KEY, "a")))
    reached, go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        reached.set()
        go_on.wait(30)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    saving = threading.Thread(target=lambda: asyncio.run(store.save(new_delta(ContextKey("u", "d"), "b"))))
    saving.start()
    assert reached.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(42 if blocking(stored(store, KEY)) == ["a"] else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    finally:
        go_on.set()
        saving.join()


@pytest.mark.usefixtures("held")
async def test_an_address_says_how_long_a_lock_is_waited_for(folder: Path) -> None:
    async with open_store(f"json:///{folder}", retry_seconds=0.2) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.save(new_delta(KEY, "a"))
    assert 0.2 <= caught.value.waited < folders.LOCK_SECONDS
