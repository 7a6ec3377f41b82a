"""What only the JSON store has: files, and other programs that write them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, JsonStore, TaskContext
from taskctx_sql.errors import InvalidIdError, StoreFailedError, UnreadableFileError
from taskctx_sql.json_files import chat_id, file_name
from taskctx_sql.json_files.files import set_aside
from tests.support.contract import loaded, new_delta, new_run, stored

KEY = ContextKey("u", "c")


@pytest.fixture
def store(tmp_path: Path) -> JsonStore:
    return JsonStore(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "context_history_c.json"


def name_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def entry(data: object, timestamp: float = 1.5) -> dict[str, object]:
    return {"timestamp": timestamp, "update_type": "message", "data": data, "metadata": {}}


async def test_a_file_is_its_owners_alone_and_an_old_one_keeps_its_permissions(store: JsonStore, file: Path) -> None:
    await store.save(new_delta(KEY, "a"))
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    await store.save(new_delta(KEY, "b"))
    assert file.stat().st_mode & 0o777 == 0o644


async def test_the_text_is_on_the_disk_before_it_takes_the_name(
    store: JsonStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append(f"sync {name_of(descriptor)}")
        fsync(descriptor)

    def noted_replace(old: Path, new: Path) -> Path:
        steps.append("replace")
        return replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    await store.save(new_delta(KEY, "a"))
    assert len(steps) == 3
    assert steps[0].endswith(".tmp")
    assert steps[1] == "replace"
    assert steps[2] == f"sync {store.folder}"


@pytest.mark.parametrize("by_address", [False, True])
async def test_a_folder_that_cannot_be_synced_leaves_the_save_in_doubt_and_a_retry_writes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_address: bool
) -> None:
    address = f"json:///{tmp_path}" if by_address else None
    context = TaskContext({"chat_id": "c"}, tmp_path, database_url=address)
    context.add_context_update("message", "a")
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if name_of(descriptor) == str(tmp_path):
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    for _ in range(2):
        with pytest.raises(StoreFailedError):
            await context.save()
    monkeypatch.undo()
    await context.save()
    assert await stored(JsonStore(tmp_path), context.key) == ["a"]
    assert not context.has_unsaved_changes


async def test_a_save_is_known_again_whatever_other_runs_ended_meanwhile(store: JsonStore) -> None:
    delta = new_delta(KEY, "a", base=(await store.load(KEY)).base)
    first = await store.save(delta)
    for number in range(5):
        await store.save(new_delta(KEY, number, base=first.base, run=new_run(ended_at=1.0, outcome="completed")))
    assert await store.save(delta) == first
    assert await stored(store, KEY) == ["a", 0, 1, 2, 3, 4]


async def test_what_another_program_wrote_is_kept(store: JsonStore, file: Path) -> None:
    context = await loaded(store, "u", "c")
    context.add_context_update("message", "mine")
    await context.save()
    theirs = [*json.loads(file.read_text()), entry("theirs")]
    file.write_text(json.dumps(theirs))
    context.add_context_update("message", "mine again")
    await context.save()
    assert await stored(store, KEY) == ["mine", "theirs", "mine again"]


async def test_a_removal_finds_its_entries_after_another_program_removed_some(store: JsonStore, file: Path) -> None:
    file.write_text(json.dumps([entry(number, float(number)) for number in range(6)]))
    context = await loaded(store, "u", "c")
    entries = json.loads(file.read_text())
    file.write_text(json.dumps([entry("first", -1.0), *entries[:1], *entries[2:], entry("last", 9.0)]))
    del context.context_history[3]
    await context.save()
    assert await stored(store, KEY) == ["first", 0, 2, 4, 5, "last"]


async def test_a_file_that_broke_meanwhile_is_set_aside_and_the_save_can_be_repeated(
    store: JsonStore, file: Path
) -> None:
    context = await loaded(store, "u", "c")
    context.add_context_update("message", "a")
    await context.save()
    file.write_text("broken")
    context.add_context_update("message", "b")
    with pytest.raises(UnreadableFileError):
        await context.save()
    assert file.with_name(f"{file.name}.unreadable-1").read_text() == "broken"
    await context.load()
    await context.save()
    assert await stored(store, KEY) == ["b"]


async def test_files_set_aside_never_overwrite_each_other(store: JsonStore, file: Path) -> None:
    for number in range(3):
        file.write_text(f"broken {number}")
        with pytest.raises(UnreadableFileError):
            await store.load(KEY)
    kept = sorted(file.parent.glob("*.unreadable-*"))
    assert [path.read_text() for path in kept] == ["broken 0", "broken 1", "broken 2"]


async def test_a_file_that_cannot_be_set_aside_stays_where_it_is(
    store: JsonStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("broken")

    def refused(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(UnreadableFileError, match="could not be renamed") as caught:
        await store.load(KEY)
    assert caught.value.moved_to is None
    assert file.read_text() == "broken"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{}", "it holds a dict"),
        ("[1]", "entry 0 is a int"),
        ('[{"timestamp": 1, "data": 1}]', "entry 0 has no update_type"),
        ('[{"update_type": "x"}]', "entry 0 has no timestamp and no data"),
        ("[" * 100_000, "RecursionError"),
    ],
)
async def test_the_reason_names_the_entry(store: JsonStore, file: Path, text: str, reason: str) -> None:
    file.write_text(text)
    with pytest.raises(UnreadableFileError, match=reason):
        await store.load(KEY)


async def test_bytes_that_are_no_text_are_unreadable(store: JsonStore, file: Path) -> None:
    file.write_bytes(b'["\xff"]')
    with pytest.raises(UnreadableFileError, match="UnicodeDecodeError"):
        await store.load(KEY)


async def test_a_folder_that_is_a_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("a file")
    store = JsonStore(tmp_path / "tasks")
    with pytest.raises(StoreFailedError, match="tasks"):
        await store.save(new_delta(KEY, "a"))
    with pytest.raises(StoreFailedError):
        await store.load(KEY)


async def test_an_id_too_long_for_a_file_name_is_refused_by_name(store: JsonStore) -> None:
    with pytest.raises(InvalidIdError, match="a file system takes 255"):
        await store.save(new_delta(ContextKey("u", "会" * 100), "a"))


@pytest.mark.parametrize("chat", ["a/b", "%2F", "%", "%%41", "a\nb", "\x7f", "..", "x" * 200, "é%C3", "a\\b"])
def test_a_name_stands_for_one_id_and_back(chat: str) -> None:
    name = file_name(ContextKey("u", chat))
    assert "/" not in name
    assert chat_id(name) == chat


async def test_an_append_leaves_the_bytes_before_it_alone(store: JsonStore, file: Path) -> None:
    await store.save(new_delta(KEY, "a"))
    before = file.read_text()
    await store.save(new_delta(KEY, "b"))
    assert file.read_text().startswith(before[:-2])


async def test_processes_append_to_one_file_without_loss(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom taskctx_sql import TaskContext\n"
        "async def main():\n"
        "    context = TaskContext({'chat_id': 'c'}, sys.argv[1])\n"
        "    for number in range(25):\n"
        "        context.add_context_update('message', [sys.argv[2], number])\n"
        "        await context.save()\n"
        "asyncio.run(main())\n"
    )
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path), str(writer))
        for writer in "abcd"
    ]
    assert [await process.wait() for process in started] == [0] * 4
    found = await stored(JsonStore(tmp_path), ContextKey("anonymous", "c"))
    assert sorted(map(tuple, found)) == [(writer, number) for writer in "abcd" for number in range(25)]
    assert {path.name for path in tmp_path.iterdir()} == {"context_history_c.json"}


def test_a_writer_killed_in_the_middle_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom taskctx_sql import TaskContext\n"
        "async def main():\n"
        "    context = TaskContext({'chat_id': 'c'}, sys.argv[1])\n"
        "    while True:\n"
        "        context.add_context_update('message', 'x' * 20000)\n"
        "        await context.save()\n"
        "        print(len(context.context_history), flush=True)\n"
        "asyncio.run(main())\n"
    )
    acknowledged = 0
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(7):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split()
            acknowledged = int(rest[-1]) if rest else acknowledged
        found = len(json.loads((tmp_path / "context_history_c.json").read_text()))
        assert acknowledged <= found <= acknowledged + 1


def test_there_is_an_end_to_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*paths: object) -> None:
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "open", taken)
    with pytest.raises(FileExistsError, match="all taken"):
        set_aside(tmp_path / "x")
