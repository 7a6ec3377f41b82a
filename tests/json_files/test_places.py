"""What can stand in a history file's place: links, marks, and what is no file."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, open_store, task_context
from taskctx_sql.errors import StoreFailedError, UnreadableFileError
from taskctx_sql.json_files import recovery
from taskctx_sql.maintenance import erase, examine, prune
from taskctx_sql.model import Retention, Transferred
from taskctx_sql.transfer import copy, export, import_folder
from tests.json_files.histories import KEY, NAME
from tests.support.contract import new_delta, stored
from tests.support.waiting import SOON


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
