"""Nothing secret of an address is shown, wherever it stands and whatever is wrong with it."""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from taskctx_sql import TaskContext, open_store, schema, settings
from taskctx_sql.cli import main
from taskctx_sql.errors import InvalidDatabaseUrlError, InvalidSettingError, TaskContextError
from taskctx_sql.health import diagnose_history_loading_issue
from taskctx_sql.locations import without_secrets
from taskctx_sql.maintenance import examine
from taskctx_sql.sql import engines

SECRET = "0penSesame"

WITH_A_SECRET = [
    f"postgresql://me:x@{SECRET}@localhost:1/db",
    f"postgresql://me:{SECRET}@x@localhost:1/db",
    f"postgresql://me@{SECRET}@localhost:1/db",
    f"postgresql://me:{SECRET}/db",
    f"postgresql://me:{SECRET}",
    f"postgresql:///me:{SECRET}@host/db",
    f"postgresql:/me:{SECRET}@host/db",
    f"postgresql://me:{SECRET}@host:port/db",
    f"postgresql://me@host:{SECRET}/db",
    f"postgresql://me@localhost:1/db;password={SECRET}",
    f"postgresql://me@localhost:1/db?PASSWORD={SECRET}",
    f"postgresql://me@localhost:1/db?pwd={SECRET}",
    f"postgresql://me@localhost:1/db?{SECRET}1=x",
    f"postgresql://me@localhost:1/db?sslpassword={SECRET}",
    f"postgresql://me:{SECRET}@[::1/db",
    f"postgresql+psycopg://me:{SECRET}@x@localhost:1/db",
    f"postgresql+psycopg://me@localhost:1/db?password={SECRET}",
    f"postgresql+psycopg2://me:{SECRET}@host/db",
    f"mysql://me:{SECRET}/x@host/db",
    f"mysql://host/db?user=me&password={SECRET}",
    f"host=localhost user=me password={SECRET}",
    f"me:{SECRET}@host/db",
    f"json://me:{SECRET}@host/folder",
    f"json:/me:{SECRET}@host/folder",
    f"sqlite://me:{SECRET}@host/x.db",
    f"sqlite:///none/x.db?key={SECRET}",
    f"sqlite:///none/x.db;password={SECRET}",
    f"sqlite:////me:{SECRET}@host/db",
    SECRET,
]


@pytest.mark.parametrize("address", WITH_A_SECRET)
async def test_no_secret_of_an_address_is_in_an_error_or_its_causes(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctx_sql.sql.schema.connect.SERVER_SECONDS", 0.01)

    async def read(address: str) -> None:
        async with open_store("postgresql://me@localhost:1/db", read_url=address, retry_seconds=0.01):
            pass

    async def opened(address: str) -> None:
        async with open_store(address, retry_seconds=0.01):
            pass

    assert SECRET not in repr(open_store(address))
    failures: list[TaskContextError] = []
    for use in (opened, read, schema.upgrade, schema.current, examine):
        try:
            await use(address)
        except TaskContextError as error:
            failures.append(error)
    try:
        settings.database_url({"TASKCTX_DATABASE_URL": address})
    except TaskContextError as error:
        failures.append(error)
    assert failures
    for failure in failures:
        assert SECRET not in "".join(traceback.format_exception(failure))
        assert SECRET not in str(vars(failure))
    assert SECRET not in engines.mask(address)


@pytest.mark.parametrize("address", [*WITH_A_SECRET, f"SQLITE:///x;password={SECRET}"])
def test_no_command_shows_the_secret_of_an_address_that_stands_at_the_wrong_place(
    address: str, tmp_path: Path, sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if address == SECRET:
        # A bare word could be anything.
        return
    shutil.copy(sqlite_file, "t.db")
    for command in (
        [address], [f"--{address}"], ["report", address], ["list", address], ["list", "--limit", address],
        ["list", f"--{address}"], ["diff", "u", "c", address, "1"], ["import", address, "-d", "t.db", "--user", "u"],
        ["export", "-d", "sqlite:///t.db", address], ["demo", address], ["demo", ".", "--output", address],
        ["report", "--html", address, "--database-url", "sqlite:///t.db"], ["show", address, "c", "u"],
        ["log", address, "c", "-d", "sqlite:///t.db"], ["prune", "-d", "sqlite:///t.db", "--older-than", address],
        ["upgrade", "-d", "sqlite:///t.db", "--revision", address],
    ):  # fmt: skip
        for options in ([], ["--traceback"]):
            done = CliRunner().invoke(main, [*options, *command])
            assert done.exit_code != 0
            assert SECRET not in done.output
    assert not any(SECRET in str(path) for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "address",
    [
        f"sqlite:///x;password={SECRET}", f"sqlite:///me:{SECRET}@host/db", f"sqlite:///me%3A{SECRET}%40host/db",
        f"json:///x;password={SECRET}", f"json:////me:{SECRET}@host/db",
    ],
)  # fmt: skip
def test_no_file_that_is_missing_is_named_with_a_secret(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SECRET not in str(diagnose_history_loading_issue(address))
    for command in (
        ["list", "-d", address], ["show", "u", "c", "-d", address], ["doctor", "-d", address],
        ["diagnose", "-d", address], ["copy", address, "sqlite:///t.db", "--user", "u"],
        ["prune", "-d", address, "--keep", "1", "--yes"], ["erase", "-d", address, "u", "--yes"],
        ["copy", address, address],
    ):  # fmt: skip
        for options in ([], ["--traceback"]):
            done = CliRunner().invoke(main, [*options, *command])
            assert done.exit_code != 0
            assert SECRET not in done.output


@pytest.mark.parametrize(
    "address", [f"postgresql://me:{SECRET}@host/db", f"mysql:me:{SECRET}@host/db", f"host=localhost password={SECRET}"]
)
def test_an_address_is_no_folder(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (address, Path(address)):
        with pytest.raises(InvalidDatabaseUrlError, match="no address") as caught:
            TaskContext({"user_id": "u", "chat_id": "c"}, folder)
        assert SECRET not in str(caught.value)
    monkeypatch.setenv("AIECS_TASK_DIR", address)
    with pytest.raises(InvalidSettingError, match="no address") as refused:
        TaskContext({"user_id": "u", "chat_id": "c"})
    assert SECRET not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "json:////home/me@work/tasks is a folder", "the file /a/b@c.json: it is gone", "postgresql://me:***@host/db",
        "postgresql://me@host:5432/db?sslmode=require", "2026-01-31T08:00 user@example.com",
    ],
)  # fmt: skip
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:pw@db.example.org:5432/tasks", "postgresql://me:***@db.example.org:5432/tasks"),
        ("postgres://me:p%40w@10.0.0.1/tasks?sslmode=require", "postgres://me:***@10.0.0.1/tasks?sslmode=require"),
        ("postgresql://me:p/w#x@host/tasks", "postgresql://me:***@host/tasks"),
        ("postgresql://me%40server:pw@host/tasks", "postgresql://me%40server:***@host/tasks"),
        ("postgresql://me@[::1]:5432/tasks", "postgresql://me@[::1]:5432/tasks"),
        ("postgresql://me@/tasks?host=/tmp/socket", "postgresql://me@/tasks?host=/tmp/socket"),
        ("postgresql://me@host/tasks?sslmode=pw&timeout=pw", "postgresql://me@host/tasks?sslmode=***&timeout=***"),
        ("postgresql://me@/tasks?host=a,b&port=1,2", "postgresql://me@/tasks?host=a,b&port=1,2"),
        ("sqlite:///tasks.db?timeout=1.5&uri=pw", "sqlite:///tasks.db?timeout=1.5&uri=***"),
        ("postgresql://me@host/tasks?passfile=/x", "postgresql://me@host/tasks?passfile=***"),
        ("sqlite:///folder/tasks.db?timeout=5", "sqlite:///folder/tasks.db?timeout=5"),
        ("sqlite:////var/lib/my tasks.db", "sqlite:////var/lib/my tasks.db"),
    ],
)
def test_an_address_that_was_taken_apart_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert engines.mask(address) == shown
    assert engines.mask(str(sa.make_url(address))) == shown
