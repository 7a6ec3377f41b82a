"""What can stand in a history file's place, and what a file system may not be able to do."""

from __future__ import annotations

import asyncio
import codecs
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, blocking, open_store, task_context
from taskctx_sql.errors import StoreClosedError, StoreFailedError, StoreUnavailableError, UnreadableFileError
from taskctx_sql.json_files import batches, recovery
from taskctx_sql.locations import folder_lock, folders
from taskctx_sql.maintenance import erase, examine, prune
from taskctx_sql.model import Retention, Transferred
from taskctx_sql.transfer import copy, export, import_folder
from tests.support.contract import new_delta, stored
from tests.support.waiting import SOON

KEY = ContextKey("u", "c")
NAME = "context_history_c.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tasks"
    made.mkdir()
    return made


@pytest.fixture
def other(tmp_path: Path) -> Path:
    made = tmp_path / "other"
    made.mkdir()
    return made


@pytest.fixture
def store(folder: Path) -> JsonStore:
    return JsonStore(folder, retry_seconds=0.3)


# Links.


async def test_a_link_stays_one_and_what_it_leads_to_is_written(store: JsonStore, folder: Path, other: Path) -> None:
    real, link = other / "history.json", folder / NAME
    await store.save(new_delta(KEY, "before"))
    link.replace(real)
    real.chmod(0o640)
    link.symlink_to(real)
    await store.save(new_delta(KEY, "a"))
    context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
    await context.load()
    del context.context_history[0]
    await context.save()
    assert link.is_symlink()
    assert [entry["data"] for entry in json.loads(real.read_text())] == ["a"]
    assert real.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in (*folder.iterdir(), *other.iterdir())} == {NAME, "history.json"}
    assert [summary.chat_id for summary in await store.contexts("u")] == ["c"]


async def test_a_link_that_leads_nowhere_yet_is_filled_where_it_leads(
    store: JsonStore, folder: Path, other: Path
) -> None:
    (folder / NAME).symlink_to("../other/between")
    (other / "between").symlink_to("history.json")
    (folder / "context_history_d.json").symlink_to("/nonexistent/history.json")
    assert await store.contexts("u") == []
    assert await stored(store, KEY) == []
    await store.save(new_delta(KEY, "a"))
    assert len(json.loads((other / "history.json").read_text())) == 1
    with pytest.raises(StoreFailedError, match="nonexistent"):
        await store.save(new_delta(ContextKey("u", "d"), "a"))


async def test_writers_of_two_folders_whose_links_lead_to_one_file_lose_nothing(tmp_path: Path, other: Path) -> None:
    code = (
        "import asyncio, sys\nfrom taskctx_sql import TaskContext\n"
        "async def main():\n"
        "    context = TaskContext({'chat_id': 'c'}, sys.argv[1])\n"
        "    for number in range(25):\n"
        "        context.add_context_update('message', [sys.argv[1], number])\n"
        "        await context.save()\n"
        "asyncio.run(main())\n"
    )
    places = [other]
    for number in range(2):
        places.append(tmp_path / f"linked-{number}")
        places[-1].mkdir()
        (places[-1] / NAME).symlink_to(other / NAME)
    started = [await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(place)) for place in places]
    assert [await process.wait() for process in started] == [0] * 3
    found = await stored(JsonStore(other), ContextKey("anonymous", "c"))
    assert sorted(map(tuple, found)) == sorted((str(place), number) for place in places for number in range(25))


@pytest.mark.parametrize("content", ["root:x:0:0", '{"a": 1}', ""])
async def test_what_a_link_leads_to_is_left_alone_if_it_is_no_history(
    store: JsonStore, folder: Path, other: Path, content: str
) -> None:
    real = other / "passwd"
    real.write_text(content)
    (folder / NAME).symlink_to(real)
    with pytest.raises(UnreadableFileError):
        await store.load(KEY)
    await store.save(new_delta(KEY, "a"))
    assert (folder / f"{NAME}.unreadable-1").readlink() == real
    (folder / "context_history_d.json").symlink_to(real)
    assert await store.delete(ContextKey("u", "d"))
    assert real.read_text() == content
    assert await stored(store, KEY) == ["a"]


@pytest.mark.parametrize("way", ["delete", "erase", "prune"])
@pytest.mark.parametrize("within", [True, False])
async def test_what_is_deleted_is_gone_from_where_a_link_leads(
    store: JsonStore, folder: Path, other: Path, way: str, within: bool
) -> None:
    real = (folder if within else other) / "history.json"
    (folder / NAME).symlink_to(real)
    await store.save(new_delta(KEY, "a"))
    if way == "delete":
        assert await store.delete(KEY)
    elif way == "erase":
        await erase(store, "u", "c")
    else:
        await prune(store, Retention(max_age=1), now=time.time() + 100)
    assert not real.exists()
    assert list(folder.iterdir()) == []


# Marks and encodings.


@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
    ],
)
async def test_a_file_that_an_editor_saved_is_read_and_goes_on(
    store: JsonStore, folder: Path, encoded: Callable[[str], bytes]
) -> None:
    file = folder / NAME
    await store.save(new_delta(KEY, "é🙂", {"a": [1]}))
    file.write_bytes(encoded(file.read_text().replace('"\\u00e9', '"é')))
    assert await stored(store, KEY) == ["é🙂", {"a": [1]}]
    await store.save(new_delta(KEY, "new"))
    assert await stored(JsonStore(folder), KEY) == ["é🙂", {"a": [1]}, "new"]
    assert len(json.loads(file.read_text())) == 3
    assert {path.name for path in folder.iterdir()} == {NAME}


async def test_an_export_goes_on_after_a_file_with_a_mark(other: Path, tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        assert isinstance(store, SqlStore)
        saved = await store.save(new_delta(KEY, "a"))
        await export(store, other, user_id="u")
        (other / NAME).write_bytes(codecs.BOM_UTF8 + (other / NAME).read_bytes())
        await store.save(new_delta(KEY, "b", base=saved.base))
        await export(store, other, user_id="u")
    assert [entry["data"] for entry in json.loads((other / NAME).read_bytes())] == ["a", "b"]


# What is no file.


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a directory": Path.mkdir,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_what_is_no_file_is_named_at_once(store: JsonStore, folder: Path, tmp_path: Path, kind: str) -> None:
    await store.save(new_delta(ContextKey("u", "good"), "a"))
    STRANGE[kind](folder / NAME)
    async with asyncio.timeout(SOON):
        with pytest.raises(StoreFailedError, match=f"{kind}, and not a file"):
            await store.load(KEY)
        with pytest.raises(StoreFailedError, match=f"{kind}, and not a file"):
            await store.save(new_delta(KEY, "a"))
        with pytest.raises(StoreFailedError):
            async with task_context({"chat_id": "c"}, folder):
                pass
        assert [summary.chat_id for summary in await store.contexts("u")] == ["good"]
        await prune(store, Retention(max_contexts=5))
        async with open_store(f"sqlite:///{tmp_path}/t.db") as database:
            assert isinstance(database, SqlStore)
            await import_folder(folder, database, user_id="u")
            assert await stored(database, ContextKey("u", "good")) == ["a"]
    assert (folder / NAME).lstat()


async def test_links_that_lead_nowhere_hide_no_neighbor(store: JsonStore, folder: Path, tmp_path: Path) -> None:
    await store.save(new_delta(ContextKey("u", "good"), "a"))
    places = {
        "circle": "context_history_circle.json",
        "nowhere": "gone.json",
        "long": "n" * 300,
        "inside": "context_history_good.json/x",
    }
    for chat, place in places.items():
        (folder / f"context_history_{chat}.json").symlink_to(place)
        (folder / f"context_history_{chat}.json.unreadable-1").symlink_to(place)
    assert [summary.chat_id for summary in await store.contexts("u")] == ["good"]
    assert (await prune(store, Retention(max_contexts=1))).rows == {}
    async with open_store(f"sqlite:///{tmp_path}/t.db") as database:
        assert isinstance(database, SqlStore)
        await import_folder(folder, database, user_id="u")
        assert await stored(database, ContextKey("u", "good")) == ["a"]
    result = await copy(store.database_url, f"json:///{tmp_path}/copy")
    assert isinstance(result, Transferred)
    assert (result.outcomes["added"], result.outcomes["refused"]) == (1, 2 * len(places))
    await examine(store.database_url)
    for chat in places:
        assert (await erase(store, "u", chat)).rows["files"] == 2
    assert {path.name for path in folder.iterdir()} == {"context_history_good.json"}


async def test_a_file_with_a_hole_of_a_terabyte_is_reported_at_once(folder: Path, tmp_path: Path) -> None:
    with (folder / NAME).open("wb") as file:
        file.truncate(1 << 40)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as database, asyncio.timeout(SOON):
        assert isinstance(database, SqlStore)
        result = await import_folder(folder, database, user_id="u")
    assert str(1 << 40) in str(result).replace(",", "") or "1,099,511,627,776" in str(result)


# Locks.


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


# File systems that cannot.


def failing(number: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EBADF])
async def test_a_folder_that_cannot_be_locked_is_written_to_and_the_log_says_so(
    store: JsonStore, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    with caplog.at_level(logging.WARNING):
        for data in "ab":
            await store.save(new_delta(KEY, data))
    assert [record.message for record in caplog.records if "cannot be locked" in record.message] != []
    assert len(caplog.records) == 1
    assert await stored(store, KEY) == ["a", "b"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_a_folder_that_cannot_be_synced_is_written_to_and_the_log_says_so(
    store: JsonStore, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == folder:
            failing(number)()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    with caplog.at_level(logging.WARNING):
        for data in "ab":
            await store.save(new_delta(KEY, data))
        await store.delete(KEY)
    assert [record.message for record in caplog.records if "cannot be synced" in record.message] != []
    assert len(caplog.records) == 1


async def test_a_folder_that_may_not_be_read_is_written_to(
    store: JsonStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def no_folders(path: object, *more: object, **options: object) -> int:
        if Path(str(path)) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", no_folders)
    for data in "ab":
        await store.save(new_delta(KEY, data))
    assert await stored(store, KEY) == ["a", "b"]


async def test_nothing_needs_hard_links(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    (folder / NAME).write_text("[{cut short")
    async with task_context({"user_id": "u", "chat_id": "c"}, folder) as context:
        context.add_context_update("message", "new")
    assert (folder / f"{NAME}.unreadable-1").read_text() == "[{cut short"
    async with open_store(f"sqlite:///{tmp_path}/t.db") as database:
        await database.save(new_delta(KEY, "a"))
    assert (tmp_path / "t.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".new"] == []


async def test_where_no_permissions_can_be_given_a_file_stays_its_owners_alone(
    store: JsonStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(new_delta(KEY, "a"))
    (folder / NAME).chmod(0o644)
    monkeypatch.setattr(Path, "chmod", failing(errno.EPERM))
    await store.save(new_delta(KEY, "b"))
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
    assert await stored(store, KEY) == ["a", "b"]


# One that is odd costs no neighbor.


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("odd", [os.mkfifo, lambda path: path.symlink_to("/nonexistent"), make_loop])
async def test_an_odd_file_costs_no_neighbor_its_way(
    folder: Path, other: Path, tmp_path: Path, odd: Callable[[Path], object]
) -> None:
    store = JsonStore(folder)
    for chat in ("a", "z"):
        await store.save(new_delta(ContextKey("u", chat), chat))
    odd(folder / NAME)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as database, asyncio.timeout(SOON):
        assert isinstance(database, SqlStore)
        imported = await import_folder(folder, database, user_id="u")
        assert [chat.chat_id for chat in imported.chats if chat.error] == ["c"]
        for chat in ("a", "z"):
            assert await stored(database, ContextKey("u", chat)) == [chat]
    async with asyncio.timeout(SOON):
        result = await copy(store.database_url, JsonStore(other).database_url)
    assert isinstance(result, Transferred)
    assert result.outcomes["refused"] == 1
    assert {summary.chat_id for summary in await JsonStore(other).contexts("u")} == {"a", "z"}


async def test_a_file_of_beginnings_costs_no_more_than_its_size(folder: Path) -> None:
    file = folder / NAME
    whole = '  {"timestamp": 1.0, "update_type": "m", "data": "whole", "metadata": {}}'
    file.write_text("[\n" + '  {"a": [\n' * 20_000 + whole + ",\n" + '  {"b": [\n' * 20_000)
    began = time.process_time()
    parts = list(recovery.read_entries(file))
    assert time.process_time() - began < 10
    assert [part.update.data for part in parts if isinstance(part, recovery.Entry)] == ["whole"]
