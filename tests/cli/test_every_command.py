"""Every command: on narrow terminals, in a pipe, with wrong words, without a store, with hostile content."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskctx_sql import TaskContext, open_store
from taskctx_sql.cli import main, stores
from tests.support.command import taskctx

CONTROLS = "\x1b\x07\x9b\u202e\u2066\u200f\x00\ud800"
HOSTILE = "\x1b]0;title\x07\x1b[31m\u202e\u2066\x9b31m[bold]tag[/bold]:smile:`rm`$(rm)'\""
USER, CHAT = f"u{HOSTILE}", f"c{HOSTILE}"
SECRET = "hunter2"


@dataclass(frozen=True)
class Case:
    """What a command is tested with, besides its store.

    ``forms`` are those of --format; ``is_table`` says that its lines are cut at the end of the terminal. ``without``
    is its exit code without any store.
    """

    words: tuple[str, ...] = ()
    wrong: tuple[tuple[str, ...], ...] = (("--no-such-option",), ("too", "many", "words", "for", "any", "command"))
    forms: tuple[str, ...] = ("text", "json")
    is_table: bool = False
    code: int = 0
    names_its_store: bool = True
    without: int = 2


ROWS = ("table", "json", "csv")
CONTEXT = (USER, CHAT)
CASES = {
    "demo": Case(("hostile",), without=0),
    "upgrade": Case(),
    "current": Case(),
    "list": Case(wrong=(("extra",), ("--since", "soon"), ("--limit", "0")), forms=ROWS, is_table=True),
    "show": Case(CONTEXT, wrong=((), ("u",), ("u", "c", "more")), forms=ROWS),
    "tree": Case(CONTEXT, wrong=((), ("u",), ("u", "c", "more")), forms=ROWS, is_table=True),
    "search": Case(("data",), wrong=((), ("a", "b")), forms=ROWS, is_table=True),
    "report": Case(("tasks",), wrong=((), ("no such",), ("tasks", "runs")), forms=ROWS, is_table=True),
    "log": Case(CONTEXT, wrong=((), ("u",)), forms=ROWS, is_table=True),
    "diff": Case((*CONTEXT, "1", "2"), wrong=((*CONTEXT, "1"), (*CONTEXT, "one", "2"))),
    "restore": Case((*CONTEXT, "1"), wrong=(CONTEXT, (*CONTEXT, "1", "--at", "1h"))),
    "label": Case(
        (*CONTEXT, "--title", HOSTILE.replace("\x00", ""), "--label", "a=b"),
        wrong=(CONTEXT, (*CONTEXT, "--label", "name"), (*CONTEXT, "--label", "a=b", "--remove", "a")),
    ),
    "undo": Case(CONTEXT, wrong=((), ("u",))),
    "fork": Case((*CONTEXT, f"new{HOSTILE}"), wrong=(CONTEXT,)),
    "import": Case(("hostile", "--user", USER), wrong=((), ("folder",)), code=1),
    "export": Case(("out",), wrong=((), ("out", "--chat", "c"))),
    "copy": Case(("copied.db", "again.db"), wrong=((), ("a.db",)), names_its_store=False, without=1),
    "doctor": Case(wrong=(("extra",), ("--ignore", "no-such-check")), forms=ROWS, code=-1),
    "diagnose": Case(CONTEXT, wrong=(("a", "b", "c"),), forms=ROWS),
    "prune": Case(("--keep", "0", "--yes"), wrong=((), ("--older-than", "soon"), ("--keep", "-1"))),
    "erase": Case((USER, "--yes"), wrong=((), ("a", "b", "c"))),
}
# These do not end by themselves; see test_reports.py, tests/mcp and tests/ui.
FOLLOWS = {"tail", "mcp", "ui"}


def test_a_new_command_is_tested() -> None:
    assert set(CASES) | FOLLOWS == set(main.commands)


async def _fill(address: str) -> None:
    async with open_store(address) as store:
        context = TaskContext({"user_id": USER, "chat_id": CHAT}, store=store)
        context.add_context_update(f"type{HOSTILE}", f"data{HOSTILE}" * 5, {"why": HOSTILE})
        context.track_file_operation(f"/path{HOSTILE}", f"op{HOSTILE}", f"source{HOSTILE}")
        context.track_model_usage(f"model{HOSTILE}", f"@provider{HOSTILE}", f"mode{HOSTILE}", cost=0.5)
        await context.save()
        context.metadata[f"key{HOSTILE}"] = HOSTILE
        await context.save()
        context.optimize_context(20)
        await context.save()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and with files that are hostile."""
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(_fill(f"sqlite:///{folder}/copied.db"))
    files = folder / "hostile"
    files.mkdir()
    (files / f"context_history_c{HOSTILE}.json".replace("/", "_").replace("\x00", "")).write_text("[{")
    (files / f"context_history_{'x' * 80}.json").write_text("[]")
    return folder


@pytest.fixture
def place(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a copy of it, to be changed."""
    place = tmp_path / "place"
    shutil.copytree(filled, place)
    monkeypatch.chdir(place)
    return place


def ran(name: str, *words: str, **environment: str) -> tuple[int, str, str]:
    done = taskctx(name, *words, **environment)
    assert "Traceback" not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not set(done.stdout + done.stderr) & set(CONTROLS)
    return done.returncode, done.stdout, done.stderr


def with_store(name: str, case: Case) -> tuple[str, ...]:
    return (*case.words, *(("-d", "copied.db") if case.names_its_store else ()))


@pytest.mark.parametrize("columns", ["80", "60", ""], ids=["80 columns", "60 columns", "pipe"])
@pytest.mark.parametrize("name", CASES)
def test_it_prints_what_fits_and_nothing_that_controls_a_terminal(name: str, columns: str, place: Path) -> None:
    case = CASES[name]
    code, out, err = ran(name, *with_store(name, case), COLUMNS=columns)
    # A search says that there is no index.
    assert (code == case.code or case.code == -1, err if name != "search" else "") == (True, "")
    assert out
    if columns and case.is_table:
        assert max(map(len, out.splitlines()[1:])) <= int(columns)
    # A search quotes what is around a match.
    if not columns and name != "search":
        assert "\u2026" not in out


@pytest.mark.parametrize("name", CASES)
def test_it_is_json_or_csv_for_programs_and_silent_if_quiet(name: str, place: Path) -> None:
    case = CASES[name]
    for form in case.forms[1:]:
        # Each changes the database.
        shutil.copy("copied.db", "kept.db")
        # For `export`, --format is that of the files it writes.
        asked = ("--json",) if form == "json" else ("--format", form)
        code, out, err = ran(name, *with_store(name, case), *asked)
        assert (code == case.code or case.code == -1, err) == (True, "")
        if form == "json":
            assert out.isascii()
            json.loads(out)
        else:
            assert out.splitlines()[0].count(",") >= 3
        shutil.copy("kept.db", "copied.db")
    code, out, _ = ran(name, *with_store(name, case), "--quiet")
    if case.forms == ("text", "json") and case.code == 0 and name not in ("demo", "diff", "current"):
        assert out == ""


@pytest.mark.parametrize("name", CASES)
def test_its_colors_are_all_that_controls_a_terminal(name: str, place: Path) -> None:
    case = CASES[name]
    done = taskctx(name, *with_store(name, case), "--color", "always")
    assert not set(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)) & set(CONTROLS)
    done = taskctx(name, "--no-such-option", "--color", "never", NO_COLOR="")
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", CASES)
def test_wrong_words_are_wrong_usage(name: str, place: Path) -> None:
    case = CASES[name]
    for words in (*case.wrong, ("--json", "--format", case.forms[0]), (f"--no{HOSTILE}",)):
        store = () if name == "copy" else ("-d", "copied.db")
        more = case.words if words[:1] == ("--json",) else ()
        code, out, err = ran(name, *store, *more, *words)
        assert (code, out) == (2, "")
        assert err.startswith(f"Usage: taskctx {name} ")
        assert err.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("name", CASES)
def test_without_a_store_it_says_which_to_give(
    name: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    shutil.copytree(filled / "hostile", tmp_path / "hostile")
    code, _, err = ran(name, *case.words)
    assert code == case.without
    if code == 2:
        assert "--database-url URL" in err
    monkeypatch.setattr(stores, "REACH_SECONDS", 0.0)
    addresses = {"missing.db": "there is no", f"postgresql://me:{SECRET}@127.0.0.1:1/x": "could not connect to "}
    for address, message in addresses.items():
        words = (address, "to.db") if name == "copy" else (*case.words, "-d", address)
        code, out, err = ran(name, *words)
        if name in ("upgrade", "demo", "current", "import") and address == "missing.db":
            # They create it, or say that there is nothing in it.
            continue
        assert code == 1
        assert message in out + err
        # These two find it, and do not fail.
        is_found = message == "there is no" and name in ("doctor", "diagnose")
        assert len(re.findall("^Error: ", err, re.MULTILINE)) == (0 if is_found else 1)
    assert not (tmp_path / "to.db").exists()


@pytest.mark.parametrize("name", CASES)
def test_a_folder_of_files_is_a_store_or_is_refused_by_name(name: str, place: Path) -> None:
    case = CASES[name]
    (place / "tasks").mkdir()
    shutil.copy(place / "hostile" / f"context_history_{'x' * 80}.json", place / "tasks" / "context_history_c.json")
    replaced = {USER: "u", CHAT: "c", "copied.db": "tasks/", "again.db": "files/"}
    words = [replaced.get(word, word) for word in case.words]
    code, _, err = ran(name, *words, *(("-d", "./tasks/") if case.names_its_store else ()))
    assert code in (0, 1)
    if code == 1 and name not in ("import", "doctor", "diagnose"):
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert re.search(r"database|no context|pass a chat", err)
