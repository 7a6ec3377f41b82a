from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import open_store
from taskctx_sql.errors import MissingHistoriesError
from taskctx_sql.integrations.claude_agent_sdk import ContextSessionStore, import_transcripts
from tests.integrations.claude_agent_sdk.transcript import SESSION, TURN, asked, key
from tests.support.command import parsed, taskctx

SNAPSHOT = TURN[0]
SUBAGENT = [asked("s1", "Count."), SNAPSHOT, SNAPSHOT]


def write(path: Path, entries: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    """A folder of projects with a session, its subagent, and a session of another project."""
    folder = tmp_path / "projects"
    write(folder / "p" / f"{SESSION}.jsonl", TURN)
    write(folder / "p" / SESSION / "subagents" / "agent-1.jsonl", SUBAGENT)
    (folder / "p" / SESSION / "subagents" / "agent-1.meta.json").write_text('{"agentType": "counter"}')
    write(folder / "q" / "other.jsonl", [asked("o1", "Hello")])
    return folder


async def test_transcripts_are_imported_once(projects: Path, database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        done = await import_transcripts(projects, store, user_id=user)
        assert (done.contexts, done.updates, done.added, done.verified, done.ok) == (3, 13, 13, 13, True)
        sessions = ContextSessionStore(store, user_id=user)
        assert await sessions.load(key()) == TURN
        assert await sessions.load(key(subpath="subagents/agent-1")) == [
            *SUBAGENT,
            {"agentType": "counter", "type": "agent_metadata"},
        ]
        write(projects / "p" / f"{SESSION}.jsonl", [*TURN, SNAPSHOT, asked("u9", "More?")])
        done = await import_transcripts(projects, store, user_id=user)
        assert (done.added, done.outcomes["extended"], done.outcomes["unchanged"]) == (2, 1, 2)
        assert await sessions.load(key()) == [*TURN, SNAPSHOT, asked("u9", "More?")]
        assert len((await store.load(sessions.key(key()))).models) == 2


async def test_the_command_imports_and_lists_lines_that_are_no_entries(
    projects: Path, database_url: str, user: str
) -> None:
    command = ("import", projects, "--user", user, "-d", database_url)
    assert parsed(*command, "--chat", "other")["added"] == 1
    with (projects / "q" / "other.jsonl").open("a") as file:
        file.write('{"type": "user", "uuid"\n7\n')
    done = taskctx(*command)
    assert done.returncode == 1
    assert "3 contexts (2 added, 1 unchanged), 12 updates written" in done.stdout
    assert "other.jsonl, line 2: it is no JSON" in done.stdout
    assert "other.jsonl, line 3: it is no object with a type" in done.stdout


async def test_a_folder_without_transcripts_is_an_error(tmp_path: Path, database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        with pytest.raises(MissingHistoriesError, match="no transcripts"):
            await import_transcripts(tmp_path, store, user_id=user)
