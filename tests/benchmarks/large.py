"""A large database in a short time: rows as saves would write them, put into the tables directly.

Each task has five updates: a message, a call of a tool with its result, an error in one of fifty, and an answer; two
uses of models, a file, a run, three labels. The first task may have more updates, and with them more uses of models,
files and revisions; the other tasks of its user are its sub-tasks.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import asyncpg
import sqlalchemy as sa

from taskctx_sql import ContextKey
from taskctx_sql.sql import engines
from taskctx_sql.sql.row_codec import context_id, path_id
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates

UPDATES: Final = 5
# So many updates come with a save.
SAVED: Final = 50
USERS: Final = 500
DAY: Final = 86_400
DAYS: Final = 60
MODELS: Final = ("claude-sonnet-4-5", "gpt-4o", "claude-haiku-4-5", "gemini-2.5-flash", "gpt-4o-mini")
TOOLS: Final = ("read_file", "edit_file", "run_tests", "web_search", "fetch_page", "find_order", "send_mail")
TEAMS: Final = ("platform", "research", "support", "finance")
TABLES: Final = (contexts, updates, models, files, state, runs, revisions)

_BATCH: Final = 20_000
_WORDS: Final = ("order", "invoice", "customs", "form", "refund", "retry", "ledger", "report", "ferry", "lithium")

Row = tuple[Any, ...]


def key_of(number: int) -> ContextKey:
    """Return the user and the chat of a task; that of number 0 is the first one."""
    return ContextKey(f"user-{number % USERS}", f"chat-{number}")


def task_rows(number: int, ended: float, tasks: int, steps: int = UPDATES) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    """Yield the rows of a task; the tasks are spread over the days before ``ended``."""
    chance = random.Random(number)
    key = key_of(number)
    of = {"context_id": context_id(key), "run_id": str(uuid.UUID(int=chance.getrandbits(128)))}
    at = ended - DAYS * DAY * (1 - (number + 1) / (tasks + 1)) - 60
    outcome = chance.choices(("completed", "failed", "cancelled", None), (940, 30, 10, 20))[0]
    last = at + 0.5 * steps
    saves, uses = -(-steps // SAVED), 2 * (steps // UPDATES)
    yield (
        contexts,
        {
            **of,
            **{"user_id": key.user_id, "chat_id": key.chat_id, "metadata": "{}", "metadata_toggles": "{}"},
            **{"revision": saves, "next_seq": steps + 1, "next_model": uses + 1, "next_position": saves + 1},
            **{"created_at": at, "updated_at": last},
        },
    )
    ended_at = None if outcome is None else last
    error = "ToolError: it broke" if outcome == "failed" else None
    yield runs, {**of, "started_at": at, "ended_at": ended_at, "outcome": outcome, "error": error, "saves": saves}
    for save in range(1, saves + 1):
        until = min(save * SAVED, steps)
        known = {"next_seq": until + 1, "next_model": uses * until // steps + 1, "next_position": save + 1}
        saved = {"revision": save, "saved_at": at + 0.5 * until, "save_number": save, "changed_state": 3}
        yield revisions, {**of, **known, **saved}
    for name, value in (("title", f"{chance.choice(_WORDS)} {number}"), ("team", chance.choice(TEAMS)), ("demo", "1")):
        yield state, {**of, "kind": "label", "name": name, "added_in": 1, "value": json.dumps(value), "saved_at": at}
    if number and number % USERS == 0:
        parent = {"name": "parent", "value": json.dumps(key_of(0).chat_id), "parent_id": context_id(key_of(0))}
        yield state, {**of, **parent, "kind": "label", "added_in": 1, "saved_at": at}
    for seq in range(1, steps + 1):
        added_in = -(-seq // SAVED)
        yield updates, {**of, "seq": seq, "timestamp": at + 0.5 * seq, "added_in": added_in, **_update(chance, seq)}
    for seq in range(1, uses + 1):
        used: dict[str, Any] = {"provider_id": "gateway", "mode": "chat"}
        used |= {"model_id": chance.choices(MODELS, (5, 3, 2, 1, 1))[0]}
        used |= {"input_tokens": chance.randrange(300, 9000), "output_tokens": chance.randrange(20, 900)}
        cost = round(chance.random() * 0.05, 6)
        added_in = -(-(steps * seq // uses) // SAVED)
        yield (
            models,
            {**of, **used, "seq": seq, "timestamp": at + seq, "cost": cost, "duration": 1.5, "added_in": added_in},
        )
    for save in range(1, saves + 1):
        path = f"/src/{chance.choice(_WORDS)}/{(number + save - 1) % 5000}.py"
        touched = {
            "path_id": path_id(path),
            "path": path,
            "operation": "read",
            "source": "read_file",
            "state": "active",
        }
        yield (
            files,
            {**of, **touched, "added_in": save, "position": save, "timestamp": at + 0.5 * SAVED * (save - 1) + 1},
        )


def _update(chance: random.Random, seq: int) -> dict[str, Any]:
    text = " ".join(chance.choices(_WORDS, k=12))
    step = seq % UPDATES
    group, name = f"call-{seq - step}", TOOLS[chance.randrange(len(TOOLS))]
    if step == 2:
        return _as_row("tool_call", {"name": name, "arguments": {"text": text}}, {"group": group, "name": name})
    if step == 3:
        failed = {"error": "it broke"} if chance.random() < 0.1 else {}
        return _as_row("tool_result", {"content": text}, {"group": group, **failed})
    if step == 4 and chance.random() < 0.02:
        return _as_row("error", {"message": text}, {})
    return _as_row("message", text, {"role": "user" if step == 1 else "assistant"})


def _as_row(update_type: str, data: Any, metadata: dict[str, Any]) -> dict[str, Any]:
    return {"update_type": update_type, "data": json.dumps(data), "metadata": json.dumps(metadata)}


async def fill(url: str, tasks: int, *, longest: int = UPDATES, ended: float | None = None) -> None:
    """Fill a database at the newest schema with so many tasks of the days before ``ended``.

    Args:
        url: The database.
        tasks: How many.
        longest: How many updates the first of them has.
        ended: Seconds since the epoch; now by default.
    """
    until = time.time() if ended is None else ended
    lengths = ((number, UPDATES if number else longest) for number in range(tasks))
    every = (row for number, steps in lengths for row in task_rows(number, until, tasks, steps))
    while rows := list(islice(every, 15 * _BATCH)):
        for table in TABLES:
            names = [column.name for column in table.columns]
            found = [tuple(map(row.get, names)) for kind, row in rows if kind is table]
            await insert(url, table, found)
    await analyze(url)


async def insert(url: str, table: sa.Table, rows: Sequence[Row]) -> None:
    """Put rows with a value for each column of a table into it."""
    names = [column.name for column in table.columns]
    parsed = engines.parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        with sqlite3.connect(str(parsed.database)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            marks = ", ".join("?" * len(table.c))
            columns = ", ".join(f'"{name}"' for name in names)
            connection.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", rows)
        connection.close()
        return
    server = await asyncpg.connect(url)
    await server.copy_records_to_table(table.name, records=rows, columns=names)
    await server.close()


async def analyze(url: str) -> None:
    """Leave a database that was filled as it is after some time."""
    parsed = engines.parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        with sqlite3.connect(str(parsed.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return
    server = await asyncpg.connect(url)
    await server.execute("VACUUM ANALYZE")
    await server.close()
