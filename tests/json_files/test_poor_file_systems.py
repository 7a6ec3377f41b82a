"""File systems that cannot lock, sync, link, or give permissions."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from taskctx_sql import JsonStore, open_store, task_context
from tests.json_files.histories import KEY, NAME
from tests.support.contract import new_delta, stored


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
