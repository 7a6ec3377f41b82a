"""Many updates to search in, as saves would write them, put into the tables directly."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, Final

from taskctx_sql import ContextKey
from taskctx_sql.sql.row_codec import context_id
from taskctx_sql.sql.schema import contexts, revisions, runs, updates
from tests.benchmarks.filling import filling

OF_A_CONTEXT: Final = 100
FIRST: Final = 1_780_000_000.0
# Every tenth context is this user's; the others are spread over as many as that.
LARGE_USER: Final = "large"
SMALL_USERS: Final = 100
SEARCHES: Final = {
    "rare word": "zanzibarite",
    "frequent word": "commonplace",
    "part of a rare word": "nzibari",
    "phrase": '"quite a rare phrase"',
    "two words": "commonplace zanzibarite",
    "rare Chinese word": "量子",
    "frequent Chinese word": "服务",
    "one Chinese character": "量",
    "word of the oldest third": "yesteryear",
    "no hit": "nowherefound",
    "two letters, rare": "q!",
}

_LETTERS: Final = "etaoinshrdlucmfwypvbgk"
_CHINESE: Final = "服务器没有回应连接拒绝任务完成文件读取写入成功失败重试模型调用工具结果用户请求"
_WORDS: Final = 30_000
_AT_ONCE: Final = 100


def texts(count: int) -> Iterator[str]:
    """Yield texts of some 340 characters, with words as frequent as those of a language, and what is searched for."""
    chance = random.Random(5)
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(2, 9))) for _ in range(_WORDS)]
    weights = list(itertools.accumulate(rank**-0.6 - (rank + 1) ** -0.6 for rank in range(1, _WORDS + 1)))
    rare = max(count // 10, 1)
    for number in range(count):
        parts = chance.choices(words, cum_weights=weights, k=50)
        if number % 2:
            parts[7] = "Commonplace"
        if number % 10 == 0:
            parts[20:40] = ["".join(chance.choices(_CHINESE, k=60))]
        if number % rare == 5:
            parts[3], parts[9], parts[12] = "Zanzibarite", "quite a rare phrase", "量子 q!"
        if number < count // 3:
            parts[1] = "yesteryear"
        yield " ".join(parts)


def key_of(number: int) -> ContextKey:
    """Return the user and the chat of a context."""
    return ContextKey(f"user{number % SMALL_USERS}" if number % 10 else LARGE_USER, f"chat{number}")


async def fill(url: str, count: int) -> None:
    """Put so many updates, one a second, into the empty tables of a database."""
    made = texts(count)
    async with filling(url) as insert:
        for first in range(0, count // OF_A_CONTEXT, _AT_ONCE):
            found: dict[Any, list[dict[str, Any]]] = {contexts: [], runs: [], revisions: [], updates: []}
            for number in range(first, min(first + _AT_ONCE, count // OF_A_CONTEXT)):
                key, at = key_of(number), FIRST + number * OF_A_CONTEXT
                of, last = {"context_id": context_id(key), "run_id": f"run{number}"}, at + OF_A_CONTEXT
                nexts = {"next_seq": OF_A_CONTEXT + 1, "next_model": 1, "next_position": 1}
                own = {"user_id": key.user_id, "chat_id": key.chat_id, "metadata": "{}", "metadata_toggles": "{}"}
                times = {"created_at": at, "updated_at": last}
                found[contexts].append({**of, **own, **nexts, **times, "revision": 1})
                found[runs].append({**of, "started_at": at, "ended_at": last, "outcome": "completed", "saves": 1})
                found[revisions].append({**of, **nexts, "revision": 1, "saved_at": last, "save_number": 1})
                for seq, text in enumerate(itertools.islice(made, OF_A_CONTEXT), 1):
                    kind, data = "message" if seq % 5 else "tool_result", json.dumps({"text": text}, ensure_ascii=False)
                    row = {"seq": seq, "timestamp": at + seq, "update_type": kind, "data": data, "metadata": "{}"}
                    found[updates].append({**of, **row, "added_in": 1})
            for table, rows in found.items():
                names = [column.name for column in table.columns]
                await insert(table, [tuple(map(row.get, names)) for row in rows])
