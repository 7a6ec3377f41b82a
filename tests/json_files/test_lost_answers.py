"""History files whose file system does what it is asked, and says that it failed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, JsonStore, TaskContext
from taskctx_sql.errors import StoreFailedError, UnreadableFileError
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention

KEY = ContextKey("u", "c")
NAME = "context_history_c.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tasks"


@pytest.fixture
def store(folder: Path) -> JsonStore:
    return JsonStore(folder, retry_seconds=0.3)


@contextmanager
def lost_answers(*, is_done: bool, can_look: bool = True) -> Iterator[None]:
    """Let each rename fail, done or not; unless one can look, neither file can be seen from then on."""
    failed = False

    def replace(source: Any, target: Any) -> None:
        nonlocal failed
        if is_done:
            real_replace(source, target)
        failed = True
        raise OSError(errno.EIO, "Input/output error")

    def looking(real: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: Any, *given: Any, **named: Any) -> Any:
            if failed and not can_look:
                raise OSError(errno.EIO, "Input/output error")
            return real(path, *given, **named)

        return look

    real_replace, real_lstat, real_stat = os.replace, os.lstat, os.stat
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(os, "lstat", looking(real_lstat))
        patch.setattr(os, "stat", looking(real_stat))
        yield


def context_of(store: JsonStore) -> TaskContext:
    return TaskContext({"user_id": "u", "chat_id": "c"}, store=store)


async def texts(folder: Path) -> list[Any]:
    return [update.data for update in (await JsonStore(folder).load(KEY)).history]


async def test_a_save_that_was_done_is_acknowledged(store: JsonStore, folder: Path) -> None:
    context = context_of(store)
    for number in range(3):
        context.add_context_update("message", number)
        with lost_answers(is_done=True):
            await context.save()
        assert not context.has_unsaved_changes
    del context.context_history[1]
    with lost_answers(is_done=True):
        await context.save()
    assert await texts(folder) == [0, 2]
    assert [path.name for path in folder.iterdir() if path.suffix == ".tmp"] == []


async def test_a_save_that_was_not_done_is_unsaved_still(store: JsonStore, folder: Path) -> None:
    context = context_of(store)
    context.add_context_update("message", 0)
    await context.save()
    context.add_context_update("message", 1)
    with lost_answers(is_done=False), pytest.raises(StoreFailedError) as caught:
        await context.save()
    assert not caught.value.outcome_unknown
    assert await texts(folder) == [0]
    await context.save()
    assert await texts(folder) == [0, 1]


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("between", ["nothing", "another writer", "a load"])
async def test_what_cannot_be_seen_is_in_doubt_and_saved_once(
    store: JsonStore, folder: Path, is_done: bool, between: str
) -> None:
    context = context_of(store)
    context.add_context_update("message", "before")
    await context.save()
    context.add_context_update("message", "doubted")
    with lost_answers(is_done=is_done, can_look=False), pytest.raises(StoreFailedError) as caught:
        await context.save()
    assert caught.value.outcome_unknown
    context.add_context_update("message", "after")
    if between == "another writer":
        other = context_of(JsonStore(folder))
        other.add_context_update("message", "other")
        await other.save()
    elif between == "a load":
        await context.load()
    await context.save()
    await context.save()
    found = await texts(folder)
    assert sorted(found) == sorted(["before", "doubted", "after", *(["other"] if between == "another writer" else [])])
    assert found.index("doubted") < found.index("after")
    await context.load()
    assert [update.data for update in context.context_history] == found


@pytest.mark.parametrize("is_done", [True, False])
async def test_a_removal_in_doubt_is_done_once(store: JsonStore, folder: Path, is_done: bool) -> None:
    context = context_of(store)
    for number in range(3):
        context.add_context_update("message", number)
    await context.save()
    del context.context_history[2]
    with lost_answers(is_done=is_done, can_look=False), pytest.raises(StoreFailedError):
        await context.save()
    context.add_context_update("message", 3)
    await context.save()
    assert await texts(folder) == [0, 1, 3]


@pytest.mark.parametrize("can_look", [True, False])
async def test_a_file_that_was_set_aside_is_not_removed(store: JsonStore, folder: Path, can_look: bool) -> None:
    folder.mkdir()
    (folder / NAME).write_text("broken")
    with lost_answers(is_done=True, can_look=can_look), pytest.raises(UnreadableFileError):
        await store.load(KEY)
    assert (folder / f"{NAME}.unreadable-1").read_text() == "broken"


@pytest.mark.parametrize("doing", ["prune", "erase"])
async def test_maintenance_raises_store_errors(
    store: JsonStore, folder: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    context = context_of(store)
    context.add_context_update("message", 0)
    await context.save()

    def unlink(*paths: Any, **options: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(StoreFailedError, match=f"could not {doing}"):
        if doing == "prune":
            await prune(store, Retention(max_contexts=0))
        else:
            await erase(store, "u", "c")
    assert (folder / NAME).exists()
