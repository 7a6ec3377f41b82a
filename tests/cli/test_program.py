"""The command ``taskctx``, as a person and as a program would use it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from taskctx_sql import task_context
from tests.support.command import parsed, taskctx, taskctx_process

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of documents, some of them unusual."""
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.md").write_text("# Harvest\n\nApples apples pears. The apples are red apples.\n")
    (folder / "deep" / "two.txt").write_text("Pears and pears, naïve Äpfel\n")
    (folder / "broken.txt").write_bytes(b"\xff\xfe\x00broken")
    (folder / "picture.png").write_bytes(b"no text")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "secret.txt").write_text("secret")
    (folder / "[red]markup.md").write_text("## [bold]Not markup[/bold]\n")
    return folder


def test_the_demo_computes_something_worth_having(notes: Path, tmp_path: Path) -> None:
    found = parsed("demo", notes)
    assert found["result"]["documents"] == 3
    assert found["result"]["unreadable"] == ["broken.txt"]
    assert found["result"]["terms"][0] == ["apples", 4]
    index = {document["path"]: document for document in json.loads((tmp_path / "taskctx-demo/index.json").read_text())}
    assert set(index) == {"one.md", "deep/two.txt", "[red]markup.md"}
    assert index["one.md"]["headings"] == ["Harvest"]
    assert index["one.md"]["words"] == 9
    assert index["deep/two.txt"]["terms"] == [["pears", 2], ["naïve", 1], ["äpfel", 1]]


def test_the_demo_reports_what_happened(notes: Path) -> None:
    found = parsed("demo", notes)
    assert {count["name"]: count["count"] for count in found["files_by_operation"]} == {"read": 4, "write": 1}
    types = {count["name"]: count["count"] for count in found["updates_by_type"]}
    assert types == {"file_operation": 5, "document": 3, "model_usage": 3, "message": 2, "resource": 1, "error": 1}
    (run,) = found["runs"]
    assert run["outcome"] == "completed"
    assert run["ended_at"] > run["started_at"]
    assert found["timeline"][-1]["data"] == '"Indexed 3 files"'


def test_a_second_run_goes_on_and_says_what_changed(notes: Path) -> None:
    assert not parsed("demo", notes)["result"]["resumed"]
    found = parsed("demo", notes)
    assert found["result"]["resumed"]
    assert found["result"]["changes"]["unchanged"] == ["[red]markup.md", "deep/two.txt", "one.md"]
    (notes / "one.md").write_text("# Changed\n")
    (notes / "new.md").write_text("# New\n")
    (notes / "deep" / "two.txt").unlink()
    changes = parsed("demo", notes)["result"]["changes"]
    assert changes == {
        "added": ["new.md"],
        "changed": ["one.md"],
        "removed": ["deep/two.txt"],
        "unchanged": ["[red]markup.md"],
    }
    last = parsed("demo", notes)
    assert last["result"]["changes"]["removed"] == []
    assert len(last["runs"]) == 4


def test_the_demo_runs_on_every_store(notes: Path, address: str, kind: str) -> None:
    found = parsed("demo", notes, "--database-url", address)
    assert found["result"]["documents"] == 3
    assert ("runs" in found) == (kind != "json")
    again = parsed("demo", notes, TASKCTX_DATABASE_URL=address)
    assert again["result"]["resumed"]


def test_the_demo_takes_names_that_are_no_text(notes: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xffbytes")
    (notes / f"{name}.md").write_text("Apples")
    for _ in range(2):
        assert parsed("demo", notes)["result"]["documents"] == 4
    found = json.loads((tmp_path / "taskctx-demo" / "index.json").read_bytes())
    assert f"{name}.md" in [document["path"] for document in found]
    # No driver takes such a name for a database.
    done = taskctx("demo", notes, "--output", tmp_path / name)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not UTF-8" in done.stderr
    assert parsed("demo", notes, "--output", tmp_path / name, "--database-url", "sqlite:///x.db")


@pytest.mark.parametrize("there", ["# mine", '{"mine": 1}', "[1, 2]", '[{"path": "mine"}]', "", b"\xff\xfe\x00"])
def test_the_demo_replaces_nothing_but_an_index(notes: Path, tmp_path: Path, there: str | bytes) -> None:
    output, place = tmp_path / "out", tmp_path / "mine.json"
    output.mkdir()
    content = there if isinstance(there, bytes) else there.encode()
    place.write_bytes(content)
    (output / "index.json").symlink_to(place)
    done = taskctx("demo", notes, "--output", output)
    assert (done.returncode, place.read_bytes()) == (1, content)
    assert "move it away, or use --output" in done.stderr
    assert [path.name for path in output.iterdir()] == ["index.json"]


def test_the_demo_without_a_folder_takes_the_projects_own(tmp_path: Path) -> None:
    found = parsed("demo")
    assert found["result"]["folder"] == str(CHECKOUT)
    assert found["result"]["documents"] > 30
    assert {path.name for path in tmp_path.iterdir()} == {"taskctx-demo"}


def test_the_demo_takes_the_checkout_that_it_is_run_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taskctx_sql" / "cli").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert parsed("demo")["result"]["folder"] == str(tmp_path)


def test_the_demo_is_readable(notes: Path) -> None:
    taskctx("demo", notes, "--output", "my output")
    (notes / "one.md").write_text("# Changed\n")
    done = taskctx_process("demo", notes, "--output", "my output")
    assert done.returncode == 0
    assert done.stderr == ""
    for part in ("3 files, ", "Since the last run: 1 changed", "The end of the timeline", "Runs", "completed",
                 "Files by last operation: read 4, write 1", "Not text: broken.txt"):  # fmt: skip
        assert part in done.stdout
    words = shlex.split(done.stdout.split("The record: ")[1])
    assert subprocess.run(words, capture_output=True, timeout=120).returncode == 0


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert parsed("demo", tmp_path / "empty")["result"]["documents"] == 0
    assert taskctx("demo", tmp_path / "empty").returncode == 0


def test_a_context_is_shown(database_url: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "c", "metadata": {"k": "v"}}, database_url=database_url) as context:
        for number in range(30):
            context.add_context_update("message", f"step [bold]{number}[/bold]")
        context.track_file_operation("in put.pdf", "read")
        context.track_model_usage("gpt-4", "openai", "chat")
    found = parsed("show", user, "c", "--database-url", database_url)
    assert len(found["context_history"]) == 20
    assert found["metadata"] == {"k": "v"}
    assert not found["complete"]
    assert [run["outcome"] for run in found["runs"]] == ["completed"]
    assert len(parsed("show", user, "c", "--database-url", database_url, "--limit", "100")["context_history"]) == 32
    done = taskctx("show", user, "c", TASKCTX_DATABASE_URL=database_url)
    for part in (
        "outcome: completed (1 run: 1 completed)",
        "step [bold]29[/bold]",
        "in put.pdf: read",
        "gpt-4: chat",
        '{"k": "v"}',
        "the newest ones",
    ):
        assert part in done.stdout


def test_a_context_that_is_not_there_is_a_sentence(address: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "another"}, database_url=address):
        pass
    done = taskctx("show", user, "no such chat", "--database-url", address)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no context of user")
    assert done.stderr.count("\n") == 1


def test_a_database_is_set_up_and_its_revision_printed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    done = taskctx("current", "-d", url)
    assert (done.returncode, done.stdout) == (1, "nothing (this version needs taskctx_0011)\n")
    assert "there is no file" in taskctx("show", "u", "c", "--database-url", url).stderr
    assert list(tmp_path.iterdir()) == []
    assert taskctx("upgrade", "-d", url).stdout == "The schema went from nothing to taskctx_0011.\n"
    assert taskctx("upgrade", "-d", url).stdout == "The schema is already at taskctx_0011.\n"
    assert parsed("current", "-d", url) == {
        "current": "taskctx_0011",
        "head": "taskctx_0011",
        "row_level_security": False,
        "search_backlog": None,
        "sums_backlog": None,
    }
    after = {"before": "taskctx_0011", "after": "taskctx_0011", "head": "taskctx_0011", "row_level_security": False}
    assert parsed("upgrade", "-d", url) == {**after, "search_backlog": None, "sums_backlog": None}


def test_the_store_is_named_once_before_the_command_or_after_it(tmp_path: Path) -> None:
    for number, words in enumerate((("upgrade", "-d"), ("-d",), ("--database-url",))):
        name = f"{number}.db"
        assert taskctx(*words, name, *(() if words[0] == "upgrade" else ("upgrade",))).returncode == 0
        assert (tmp_path / name).is_file()
        assert taskctx("list", "-d", name, TASKCTX_DATABASE_URL="sqlite:///another.db").returncode == 0
        assert taskctx("-d", name, "list", "-d", name).returncode == 0
    done = taskctx("-d", "0.db", "list", "-d", "1.db")
    assert (done.returncode, "give it once" in done.stderr) == (2, True)


def test_without_a_store_a_command_says_how_to_give_one(tmp_path: Path) -> None:
    for words in (["list"], ["show", "u", "c"], ["upgrade"], ["export", "x"], ["doctor"], ["erase", "u"]):
        done = taskctx(*words)
        assert done.returncode == 2
        assert "--database-url URL" in done.stderr
        assert "TASKCTX_DATABASE_URL" in done.stderr
    assert taskctx("show", "u", "c", "-d", "nightly").stderr.startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_diagnosis_is_printed_and_is_an_exit_code(tmp_path: Path) -> None:
    done = taskctx("diagnose", "u", "c", "--database-url", f"json:///{tmp_path}/tasks")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["error", "ok", "ok"]
    with task_context({"user_id": "u", "chat_id": "c"}, tmp_path / "tasks"):
        pass
    assert parsed("diagnose", "u", "c", "--database-url", f"json:///{tmp_path}/tasks")["loading"]["ok"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["upgrade", "-d", "mysql://me:hidden@x/y"], "mysql is not supported"),
        (["upgrade", "-d", "sqlite:////no/such/folder/x.db"], "check that the folder exists"),
        (["show", "u", "c", "--database-url", "json:x"], "json: needs three slashes"),
        (["show", "u", "x" * 300], "the limit is 255"),
    ],
)
def test_an_error_is_one_line_with_the_remedy_and_no_password(arguments: list[str], message: str) -> None:
    done = taskctx(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" in taskctx("--traceback", *arguments).stderr


@pytest.mark.wide
def test_an_unavailable_server_is_retried_and_then_reported() -> None:
    done = taskctx("current", "-d", "postgresql://me:hidden@127.0.0.1:1/x")
    assert done.returncode == 1
    warning, error = done.stderr.splitlines()
    assert warning.startswith("WARNING could not connect in postgresql://me:***@127.0.0.1:1/x, trying again")
    assert error.startswith("Error: could not connect to postgresql://me:***@127.0.0.1:1/x within ")
    assert "hidden" not in done.stderr


def test_wrong_usage_is_reported() -> None:
    assert taskctx("no-such-command").returncode == 2
    assert taskctx("demo", "/no/such/folder").returncode == 2
    assert taskctx("show", "u", "c", "--limit", "-1").returncode == 2
    assert taskctx("demo", AIECS_LOG_LEVEL="LOUD").returncode == 1


def test_the_version_is_printed() -> None:
    assert taskctx("--version").stdout.startswith("taskctx")
