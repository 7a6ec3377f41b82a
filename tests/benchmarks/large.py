"""A large database in a short time: rows as saves would write them, put into the tables directly.

Each task has five updates: a message, a call of a tool with its result, an error in one of fifty, and an answer; two
uses of models, a file, a run, three labels. The first task may have more updates, and with them more uses of models,
files and revisions; the other tasks of its user are its sub-tasks.

What tasks have by chance is made for a thousand of them. The others are like these, but for their ids, times, title and
path.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql import ContextKey
from taskctx_sql.sql.row_codec import context_id, path_id
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates
from tests.benchmarks.filling import Row, filling

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

# Tasks whose numbers are so far apart are alike. It is prime, so that each user has tasks of all kinds.
_KINDS: Final = 997
# Of a hundred tasks; the others were completed, and those with None have not ended.
_OUTCOMES: Final = {11: "failed", 41: "failed", 71: "failed", 23: "cancelled", 37: None, 87: None}
_WORDS: Final = ("order", "invoice", "customs", "form", "refund", "retry", "ledger", "report", "ferry", "lithium")
_TIMES: Final = ("timestamp", "created_at", "updated_at", "started_at", "ended_at", "saved_at")


def key_of(number: int) -> ContextKey:
    """Return the user and the chat of a task; that of number 0 is the first one."""
    return ContextKey(f"user-{number % USERS}", f"chat-{number}")


def task_rows(number: int, at: float, steps: int = UPDATES) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    """Yield the rows of a task that began at a time, without the id of its context, nor the label ``parent``."""
    chance = random.Random(number)
    outcome = _OUTCOMES.get(number % 100, "completed")
    last = at + 0.5 * steps
    saves, uses = -(-steps // SAVED), 2 * (steps // UPDATES)
    yield (
        contexts,
        {
            **_own(contexts, number),
            **{"metadata": "{}", "metadata_toggles": "{}"},
            **{"revision": saves, "next_seq": steps + 1, "next_model": uses + 1, "next_position": saves + 1},
            **{"created_at": at, "updated_at": last},
        },
    )
    ended_at = None if outcome is None else last
    error = "ToolError: it broke" if outcome == "failed" else None
    run = {"started_at": at, "ended_at": ended_at, "outcome": outcome, "error": error, "saves": saves}
    yield runs, {**_own(runs, number), **run}
    for save in range(1, saves + 1):
        until = min(save * SAVED, steps)
        known = {"next_seq": until + 1, "next_model": uses * until // steps + 1, "next_position": save + 1}
        saved = {"revision": save, "saved_at": at + 0.5 * until, "save_number": save, "changed_state": 3}
        yield revisions, {**_own(revisions, number), **known, **saved}
        of = {**_own(files, number, save - 1), "operation": "read", "source": "read_file", "state": "active"}
        yield files, {**of, "added_in": save, "position": save, "timestamp": at + 0.5 * SAVED * (save - 1) + 1}
    for name, value in (("team", chance.choice(TEAMS)), ("demo", "1")):
        label = {"kind": "label", "name": name, "added_in": 1, "value": json.dumps(value), "saved_at": at}
        yield state, {**_own(state, number), **label}
    title = {"value": _title(number), "saved_at": at}
    yield state, {**_own(state, number), "kind": "label", "name": "title", "added_in": 1, **title}
    for seq in range(1, steps + 1):
        row = {"seq": seq, "timestamp": at + 0.5 * seq, "added_in": -(-seq // SAVED), **_update(chance, seq)}
        yield updates, {**_own(updates, number), **row}
    for seq in range(1, uses + 1):
        used: dict[str, Any] = {"provider_id": "gateway", "mode": "chat"}
        used |= {"model_id": chance.choices(MODELS, (5, 3, 2, 1, 1))[0]}
        used |= {"input_tokens": chance.randrange(300, 9000), "output_tokens": chance.randrange(20, 900)}
        used |= {"cost": round(chance.random() * 0.05, 6), "duration": 1.5}
        added_in = -(-(steps * seq // uses) // SAVED)
        yield models, {**_own(models, number), **used, "seq": seq, "timestamp": at + seq, "added_in": added_in}


def _own(table: sa.Table, number: int, save: int = 0) -> dict[str, Any]:
    """Return what a row has of its task's number, besides the id of the context."""
    if table is contexts:
        key = key_of(number)
        return {"user_id": key.user_id, "chat_id": key.chat_id}
    own = {"run_id": f"00000000-0000-4000-8000-{number:012x}"}
    if table is files:
        path = f"/src/{_word(number)}/{(number + save) % 5000}.py"
        own |= {"path_id": path_id(path), "path": path}
    return own


def _title(number: int) -> str:
    return json.dumps(f"{_word(number)} {number}")


def _word(number: int) -> str:
    return _WORDS[number % _KINDS % len(_WORDS)]


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


def rows_of(table: sa.Table, ids: Sequence[str], ended: float, longest: int) -> Iterator[Row]:
    """Yield a table's rows of all tasks, given their ids; they are spread over the days before ``ended``."""
    places = {column.name: place for place, column in enumerate(table.columns)}
    kinds = [_kind(table, number) for number in range(min(len(ids), _KINDS))]
    for number, task_id in enumerate(ids):
        at = ended - DAYS * DAY * (1 - (number + 1) / (len(ids) + 1)) - 60
        if number == 0 and longest != UPDATES:
            rows = (row for kind, row in task_rows(0, at, longest) if kind is table)
            yield from (tuple(map({**row, "context_id": task_id}.get, places)) for row in rows)
            continue
        own = [(places[name], value) for name, value in _own(table, number).items()]
        for model, times in kinds[number % _KINDS]:
            row = model.copy()
            for place in times:
                row[place] += at
            row[0] = task_id
            for place, value in own:
                row[place] = value
            if table is state and row[places["name"]] == "title":
                row[places["value"]] = _title(number)
            yield tuple(row)
        if table is state and number and number % USERS == 0:
            parent = {"name": "parent", "value": json.dumps(key_of(0).chat_id), "parent_id": ids[0]}
            label = {"context_id": task_id, "kind": "label", "added_in": 1, "saved_at": at}
            yield tuple(map({**_own(state, number), **parent, **label}.get, places))


def _kind(table: sa.Table, number: int) -> list[tuple[list[Any], list[int]]]:
    """Return a task's rows of a table, as if it began at 0, each with the places of its times."""
    names = [column.name for column in table.columns]
    found = [list(map(row.get, names)) for kind, row in task_rows(number, 0.0) if kind is table]
    times = [place for place, name in enumerate(names) if name in _TIMES]
    return [(row, [place for place in times if row[place] is not None]) for row in found]


async def fill(
    url: str,
    tasks: int,
    *,
    longest: int = UPDATES,
    ended: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Fill a database at the newest schema with so many tasks of the days before ``ended``.

    Args:
        url: The database, which nobody else uses, and which has no rows.
        tasks: How many.
        longest: How many updates the first of them has.
        ended: Seconds since the epoch; now by default.
        say: Is told what is being done.
    """
    until = time.time() if ended is None else ended
    ids = [context_id(key_of(number)) for number in range(tasks)]
    async with filling(url, say) as insert:
        # One table after the other, since the index of a key is smaller than those of all.
        for table in TABLES:
            await insert(table, rows_of(table, ids, until, longest))
