"""Files written by the original program: each loads whole, and comes back byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from taskctx_sql import JsonStore, TaskContext
from taskctx_sql.errors import UnreadableFileError
from taskctx_sql.json_files import chat_id, parse
from taskctx_sql.json_files.history_format import entry_text, whole_text

FOLDER = Path(__file__).parents[1] / "fixtures" / "aiecs-2.2.0"
EXPECTED = dict(
    line.rsplit(": ", 1) if line.rsplit(": ", 1)[1].isdigit() else line.split(": ", 1)
    for line in (FOLDER / "EXPECTED.txt").read_text(encoding="utf-8").splitlines()[1:]
)
READABLE = [name for name, count in EXPECTED.items() if count.isdigit()]
UNREADABLE = [name for name, count in EXPECTED.items() if not count.isdigit()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "tasks"))


def test_the_expectations_name_every_history_file() -> None:
    assert set(EXPECTED) == {path.name for path in FOLDER.iterdir() if path.name.startswith("context_history_")}
    assert len(READABLE) == 11


@pytest.mark.parametrize("name", READABLE)
def test_a_file_loads_with_its_count(name: str, folder: Path) -> None:
    context = TaskContext({"chat_id": chat_id(name)}, folder)
    assert len(context.context_history) == int(EXPECTED[name])


@pytest.mark.parametrize("name", READABLE)
async def test_a_file_saved_again_unchanged_is_the_same_to_the_byte(name: str, folder: Path) -> None:
    async with TaskContext({"chat_id": chat_id(name)}, folder) as context:
        await context.save()
    assert (folder / name).read_bytes() == (FOLDER / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("name", [name for name in READABLE if "missing_key" not in name])
def test_a_file_written_anew_is_the_same_to_the_byte(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    again = whole_text([entry_text(update, "", strict=True) for update in parse(text)])
    assert again == text


@pytest.mark.parametrize("name", READABLE)
async def test_an_update_added_and_truncated_again_leaves_the_same_updates(name: str, folder: Path) -> None:
    context = TaskContext({"chat_id": chat_id(name)}, folder)
    last = max(update.timestamp for update in context.context_history)
    context.add_context_update("message", "later")
    await context.save()
    await context.truncate_context_history(last)
    assert parse((folder / name).read_text()) == parse((FOLDER / name).read_text())


@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_unreadable_file_is_set_aside_whole_and_never_overwritten(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = TaskContext({"chat_id": chat_id(name)}, folder)
    kept = folder / f"{name}.unreadable-1"
    assert str(kept) in caplog.text
    assert context.context_history == []
    context.add_context_update("message", "new")
    await context.save()
    assert kept.read_bytes() == (FOLDER / name).read_bytes()
    assert len(parse((folder / name).read_text())) == 1


@pytest.mark.parametrize("name", UNREADABLE)
async def test_loading_an_unreadable_file_says_where_it_went(name: str, folder: Path) -> None:
    context = TaskContext({"chat_id": chat_id(name)}, folder)
    with pytest.raises(UnreadableFileError) as caught:
        await context.load()
    assert caught.value.moved_to == str(folder / f"{name}.unreadable-1")
    await context.load()
    assert context.context_history == []


async def test_both_trackers_are_rebuilt_from_the_history(folder: Path) -> None:
    context = TaskContext({"chat_id": "doc_session_abc123"}, folder)
    of_files = [update for update in context.context_history if update.update_type == "file_operation"]
    of_models = [update.data for update in context.context_history if update.update_type == "model_usage"]
    assert of_files
    assert of_models
    assert list(context.file_tracker) == list(dict.fromkeys(update.data["path"] for update in of_files))
    assert context.model_tracker == of_models
    last = of_files[-1]
    assert context.file_tracker[last.data["path"]] == {
        "operation": last.data["operation"],
        "source": last.metadata["source"],
        "timestamp": last.timestamp,
        "state": "active",
    }


async def test_the_chats_of_a_folder_are_listed(folder: Path) -> None:
    found = await JsonStore(folder).contexts("anybody")
    assert {summary.chat_id for summary in found} == {chat_id(name) for name in EXPECTED}
