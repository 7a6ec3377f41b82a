"""What was stored is data: in every command's output it is harmless, whatever it is, and as JSON it is exact."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from taskctx_sql import TaskContext, codec, open_store
from taskctx_sql.cli import main
from taskctx_sql.plain_text import plain, spreadsheet_cell

CONTROLS = "\x1b\x07\x9b\u202e\u2066\u200f\x00\ud800"
STRANGE = "\x1b]0;title\x07\x1b[31m\u202e\u2066\x9b31m[bold]tag[/bold]:smile:"
USER, CHAT = f"u{STRANGE}", f"c{STRANGE}"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parsed(text: str) -> Any:
    """What a strict reader makes of it."""
    return json.loads(text, parse_constant=_refuse)


async def fill(address: str, value: Any) -> None:
    async with open_store(address) as store:
        context = TaskContext({"user_id": USER, "chat_id": CHAT}, store=store)
        context.add_context_update(f"type{STRANGE}", value, {"why": STRANGE})
        context.add_context_update("error", {"message": f"=cmd{STRANGE}"})
        context.track_file_operation(f"/path{STRANGE}", f"op{STRANGE}", f"source{STRANGE}")
        context.track_model_usage(f"model{STRANGE}", f"@provider{STRANGE}", f"mode{STRANGE}", cost=0.5)
        await context.save()
        context.metadata[f"key{STRANGE}"] = value
        context.file_tracker.clear()
        await context.save()


@pytest.fixture
def strange(tmp_path: Path, sqlite_file: Path) -> str:
    """A database with strange words wherever words can be."""
    address = f"sqlite:///{shutil.copy(sqlite_file, tmp_path)}"
    asyncio.run(fill(address, f"data{STRANGE}"))
    return address


@pytest.mark.parametrize(
    "command",
    [
        *(["report", name] for name in ("runs", "models", "files", "activity", "errors", "largest", "users")),
        *(["report", name, "--format", "csv"] for name in ("models", "activity", "errors", "users")),
        ["show", f"nobody{STRANGE}", "c"], [f"no{STRANGE}"], ["report", "--html", f"none{STRANGE}/x.html"],
        ["--traceback", "log", f"nobody{STRANGE}", CHAT], ["erase", USER],
    ],
    ids=lambda command: plain(" ".join(command)),
)  # fmt: skip
def test_no_command_sends_stored_controls_to_the_terminal(
    command: list[str], strange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTX_DATABASE_URL", strange)
    done = run(*command)
    assert not done.exception or isinstance(done.exception, SystemExit)
    assert not set(done.output) & set(CONTROLS)


def test_the_page_has_no_marks_of_direction(strange: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("report", "--html", page, "--database-url", strange).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert not set(text) & set(CONTROLS)
    assert "<svg" in text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\r=1", "'=1", '"=1', "\uff1d1"])
def test_no_text_is_a_formula_to_a_spreadsheet(text: str) -> None:
    assert spreadsheet_cell(text).startswith("'")
    assert spreadsheet_cell("a=1") == "a=1"


def test_csv_has_no_formula_and_every_number(strange: str) -> None:
    done = run("report", "models", "--format", "csv", "--database-url", strange)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["provider_id"].startswith("'@provider")
    assert float(row["cost"]) == 0.5
    (error,) = csv.DictReader(io.StringIO(run("report", "errors", "--format", "csv", "--database-url", strange).stdout))
    assert error["message"].startswith("'=cmd")


def deep() -> Any:
    value: Any = "bottom"
    for _ in range(880):
        value = [value]
    return value


UNUSUAL = [
    math.nan, -math.inf, {1: "one", "1": "text"}, {(1, 2): b"\x00"}, {"big": 10**5000}, (1, (2,)), {"set": {1, 2}},
    datetime(2026, 1, 2), f"exact{STRANGE}\x00\ud800", {"\ud800": "\u202e"}, deep(),
]  # fmt: skip


@pytest.mark.parametrize("value", UNUSUAL, ids=range(len(UNUSUAL)))
@pytest.mark.parametrize("kind", ["sqlite", "json"])
def test_every_stored_value_is_shown_and_is_exact_as_json(
    value: Any, kind: str, tmp_path: Path, sqlite_file: Path
) -> None:
    address = f"sqlite:///{shutil.copy(sqlite_file, tmp_path)}" if kind == "sqlite" else f"json:///{tmp_path}/tasks"
    asyncio.run(fill(address, value))
    about = [USER, CHAT, "--database-url", address]
    commands = [["show"], ["diff"]] if kind == "sqlite" else [["show"]]
    for (name,) in commands:
        revisions = ["1", "2"] if name == "diff" else []
        done = run(name, *about, *revisions)
        assert done.exit_code == 0, done.output
        assert not set(done.output) & set(CONTROLS)
        done = run(name, *about, *revisions, "--json")
        assert done.exit_code == 0, done.output
        assert done.stdout.isascii()
        parsed(done.stdout)
    shown = parsed(run("show", *about, "--json").stdout)["context_history"][0]["data"]
    expected = parsed(codec.encode(value, warn=False))
    assert json.dumps(shown) == json.dumps(expected)


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize(
    "moment", ["9999-12-31", "0001-01-01", "9999-12-31T23:59:59.999999", "0001-01-01T00:00:00+14:00", "99999999999w"]
)
def test_the_ends_of_time_are_times(option: str, moment: str, strange: str, tmp_path: Path) -> None:
    for command in (
        ["list"], ["search", "data"], ["report", "activity"], ["report", "models"],
        ["report", "--html", tmp_path / "x"],
    ):  # fmt: skip
        (tmp_path / "x").unlink(missing_ok=True)
        done = run(*command, option, moment, "--database-url", strange)
        assert not done.exception or isinstance(done.exception, SystemExit), done.exception


def test_updates_at_the_ends_of_time_and_costs_without_end_have_a_page(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/t.db"

    async def fill_wide() -> None:
        async with open_store(address) as store:
            context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
            for moment in (0.0, datetime(9999, 12, 31, 23).timestamp(), -1e30, 1e30):
                context.add_context_update("message", "x")
                context.context_history[-1].timestamp = moment
            for cost in (math.inf, math.nan, 1.0):
                context.track_model_usage("m", "p", "x", cost=cost)
            await context.save()

    asyncio.run(fill_wide())
    for words in ([], ["--user", "u", "--chat", "c"], ["--until", str(date.max)]):
        done = run("report", "--html", tmp_path / f"{len(words)}.html", "--database-url", address, *words)
        assert done.exit_code == 0, done.exception
    for name in ("activity", "models"):
        for form in ("table", "csv", "json"):
            done = run("report", name, "--format", form, "--database-url", address)
            assert done.exit_code == 0, done.exception
            if form == "json":
                parsed(done.stdout)


@pytest.mark.wide
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1:strict"])
def test_output_of_a_small_character_set_has_replacements(encoding: str, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/t.db"
    asyncio.run(fill(address, "done \U0001f44d \u6a21\u578b " * 10))
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TASKCTX_DATABASE_URL": address}
    for command in (["search", "done"], ["report", "models", "--format", "csv"]):
        done = subprocess.run(
            [sys.executable, "-m", "taskctx_sql", *command], capture_output=True, env=environment, timeout=120
        )
        assert done.returncode == 0
        assert b"Traceback" not in done.stderr


def test_a_page_is_its_owners_and_replaces_nothing_unasked(strange: str, tmp_path: Path) -> None:
    page, link, precious = tmp_path / "page.html", tmp_path / "link.html", tmp_path / "precious"
    precious.write_text("precious")
    link.symlink_to(precious)
    mask = os.umask(0o022)
    try:
        assert run("report", "--html", page, "--database-url", strange).exit_code == 0
        assert page.stat().st_mode & 0o777 == 0o600
        for there in (page, link):
            done = run("report", "--html", there, "--database-url", strange)
            assert done.exit_code == 1
            assert "--replace" in done.output
        page.chmod(0o644)
        for there in (page, link):
            assert run("report", "--html", there, "--replace", "--database-url", strange).exit_code == 0
            assert there.stat().st_mode & 0o777 == 0o600
            assert there.read_text(encoding="utf-8").startswith("<!")
    finally:
        os.umask(mask)
    assert precious.read_text() == "precious"


async def test_a_database_made_through_a_link_is_its_owners(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    mask = os.umask(0o022)
    try:
        async with open_store(f"sqlite:///{tmp_path}/link.db"):
            assert (tmp_path / "real.db").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(mask)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("sqlite:///file:{}/x.db?uri=true", "x.db"), ("sqlite:///file://{}/a%2520b.db?uri=true", "a b.db"),
        ("sqlite:///file:{}/y.db?uri=true&mode=rwc", "y.db"), ("sqlite:///file://localhost{}/z.db?uri=true", "z.db"),
    ],
)  # fmt: skip
async def test_a_database_made_by_a_uri_is_its_owners(address: str, name: str, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        async with open_store(address.format(tmp_path)) as store:
            context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
            context.add_context_update("message", "kept")
            await context.save()
            found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        assert found == dict.fromkeys((name, f"{name}-wal", f"{name}-shm"), 0o600)
    finally:
        os.umask(mask)
