"""The commands for transfer and maintenance, as a person and as a program would use them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.json_files.test_fixtures import EXPECTED, FOLDER, READABLE
from tests.support.command import parsed, taskctx

WHOLE = sum(int(EXPECTED[name]) for name in READABLE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The original's files, those that are whole."""
    found = Path(shutil.copytree(FOLDER, tmp_path / "original"))
    for path in found.iterdir():
        if path.name not in READABLE:
            path.unlink()
    return found


def test_files_go_into_a_database_and_back(folder: Path, database_url: str, user: str) -> None:
    found = parsed("import", folder, "-d", database_url, "--user", user)
    assert (found["ok"], found["entries"], found["added"]) == (True, WHOLE, WHOLE)
    assert {chat["verified"] for chat in found["chats"]} == {True}
    assert parsed("import", folder, "-d", database_url, "--user", user)["added"] == 0
    found = parsed("export", "-d", database_url, "out", "--user", user)
    assert (found["ok"], found["verified"], found["left_behind"]) == (True, WHOLE, {"runs": len(READABLE)})
    assert parsed("copy", database_url, "sqlite:///copy.db", "--user", user)["verified"] == WHOLE
    found = parsed("copy", "sqlite:///copy.db", "json:///again", "--user", user, "--chat", "long_run", "--no-verify")
    assert (found["updates"], found["verified"]) == (2000, None)
    assert len(json.loads(Path("again/context_history_long_run.json").read_text())) == 2000


def test_damage_is_printed_by_file_and_byte_and_is_an_exit_code(database_url: str, user: str) -> None:
    done = taskctx("import", FOLDER, "-d", database_url, "--user", user)
    assert done.returncode == 1
    assert done.stderr == ""
    assert f"{WHOLE + 15:,} entries of 14 chats, {WHOLE + 15:,} of them new" in done.stdout
    assert "not imported: context_history_cut_short.json, bytes 5,167 to 5,245: it is not a whole entry" in done.stdout
    assert "Imported completely: 11 chats; not completely: 3." in done.stdout


def test_a_summary_of_a_transfer_is_printed(folder: Path, tmp_path: Path) -> None:
    taskctx("import", folder, "-d", "sqlite:///a.db", "--user", "u1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "context_history_none.json").write_text("mine")
    done = taskctx("export", "-d", "sqlite:///a.db", "out", "--user", "u1")
    assert done.returncode == 1
    for part in ("11 contexts (10 added, 1 refused)", "equal: ", "left behind, runs: 10", "has something else"):
        assert part in done.stdout
    done = taskctx("copy", "sqlite:///a.db", "sqlite:///b.db")
    assert done.returncode == 0
    assert f"Compared afterwards, and equal: {WHOLE:,} updates." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere", "-d", "sqlite:///x.db", "--user", "u"], "there is no such folder. Check the path"),
        (["import", ".", "-d", "sqlite:///x.db", "--user", "u"], "it has no context_history_*.json"),
        (["import", ".", "-d", "json:///x", "--user", "u"], "an import needs a database"),
        (["export", "-d", "sqlite:///nowhere.db", "out"], "there is no file"),
        (["export", "-d", "json:///x", "out"], "an export needs a database"),
        (["copy", "json:///nowhere", "sqlite:///x.db"], "pass the user by --user"),
        (["copy", "postgresql://me:hidden@x/y", "postgresql://me:hidden@x/y"], "both ends of the copy"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], message: str) -> None:
    done = taskctx(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hidden" not in done.stderr
    assert not Path("x.db").exists()


def test_a_chat_without_its_user_is_no_command() -> None:
    assert taskctx("export", "-d", "sqlite:///x.db", "out", "--chat", "c").returncode in (1, 2)
    assert taskctx("import", ".", "-d", "sqlite:///x.db").returncode == 2


def test_what_is_old_or_too_much_is_removed_if_one_says_yes(folder: Path, database_url: str, user: str) -> None:
    taskctx("import", folder, "-d", database_url, "--user", user)
    asked = ("prune", "-d", database_url, "--user", user, "--keep", "2")
    would = parsed(*asked, "--dry-run")
    assert (would["by_count"], would["dry_run"]) == (9, True)
    done = taskctx(*asked)
    assert done.returncode == 1
    assert "9 because there are too many" in done.stderr
    assert "Remove it permanently?" in done.stderr
    assert parsed(*asked, "--dry-run")["by_count"] == 9
    done = taskctx(*asked, "--yes")
    assert done.returncode == 0
    assert "Removed 0 contexts because of their age, 9 because there are too many" in done.stdout
    assert parsed(*asked, "--older-than", "1w", "--removed", "0s", "--yes")["rows"] == {}


def test_an_erasure_has_a_receipt(folder: Path, database_url: str, user: str) -> None:
    taskctx("import", folder, "-d", database_url, "--user", user)
    assert taskctx("erase", "-d", database_url, user).returncode == 1
    receipt = parsed("erase", "-d", database_url, user, "long_run", "--yes")
    assert (receipt["chats"], receipt["rows"]["taskctx_updates"]) == (["long_run"], 2000)
    done = taskctx("erase", "-d", database_url, user, "--yes")
    assert "10 contexts of user" in done.stdout
    assert taskctx("erase", "-d", database_url, user, "--yes").returncode == 1


def test_a_folder_of_files_is_pruned_too(folder: Path) -> None:
    assert parsed("prune", "-d", f"json:///{folder}", "--keep", "3", "--yes")["rows"]["files"] == 8
    assert len(list(folder.iterdir())) == 3


def test_a_pruning_of_nothing_or_of_no_age_is_no_command() -> None:
    assert "is required" in taskctx("prune", "-d", "sqlite:///x.db").stderr
    assert "'soon' is not an age" in taskctx("prune", "-d", "sqlite:///x.db", "--older-than", "soon").stderr
    assert "there is no file" in taskctx("prune", "-d", "sqlite:///x.db", "--keep", "1").stderr
    assert "there is no file" in taskctx("erase", "-d", "sqlite:///x.db", "u").stderr
    assert not Path("x.db").exists()


@pytest.mark.wide
def test_a_pruning_on_a_terminal_shows_how_many_contexts_are_done(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    taskctx("import", folder, "-d", url, "--user", "u")
    assert "Counting contexts" in on_a_terminal("prune", "-d", url, "--keep", "0", "--dry-run")
    shown = on_a_terminal("prune", "-d", url, "--keep", "0", "--yes")
    assert "Removing contexts" in shown
    assert f"{len(READABLE)}/?" in shown


def on_a_terminal(*arguments: str) -> str:
    """What a command prints on standard error, if that is a terminal."""
    ours, its = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "taskctx_sql", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=its, env=environment) as process:
        os.close(its)
        shown = b""
        # When nobody has it open any more, reading fails.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()
