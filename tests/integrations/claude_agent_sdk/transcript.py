"""Entries of a transcript, as Claude Code writes them, and a transport that plays them in its place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from claude_agent_sdk import SessionKey, Transport, project_key_for_directory

Entry = Any

SESSION = "0b9c2f6e-6a5e-4b0e-9d6f-0d6d1a4c7c11"
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "output_tokens": 1,
}


def key(project: str = "p", subpath: str | None = None) -> SessionKey:
    found: SessionKey = {"project_key": project, "session_id": SESSION}
    return found if subpath is None else {**found, "subpath": subpath}


def _entry(kind: str, name: str, second: int, **fields: Any) -> Entry:
    same = {"sessionId": SESSION, "cwd": "/home/ann/shop", "isSidechain": False, "parentUuid": None}
    return {"type": kind, "uuid": name, "timestamp": f"2026-01-02T03:04:{second:02}.250Z", **same, **fields}


def asked(name: str, text: str, second: int = 0) -> Entry:
    return _entry("user", name, second, message={"role": "user", "content": text})


def answered(
    name: str, message: str, blocks: list[Any], second: int = 0, output_tokens: int = 1, **fields: Any
) -> Entry:
    content = {"id": message, "role": "assistant", "model": "claude-sonnet-4-5", "content": blocks, "stop_reason": None}
    usage = {**USAGE, "output_tokens": output_tokens}
    return _entry("assistant", name, second, message={**content, "usage": usage, **fields})


def result(name: str, call: str, text: str, second: int = 0, is_error: bool = False) -> Entry:
    block = {"type": "tool_result", "tool_use_id": call, "content": text, "is_error": is_error}
    return _entry("user", name, second, message={"role": "user", "content": [block]})


def text(said: str) -> Any:
    return {"type": "text", "text": said}


def tool_use(call: str, name: str = "Bash", **arguments: Any) -> Any:
    return {"type": "tool_use", "id": call, "name": name, "input": arguments}


# A turn with a tool, whose first message is in three entries.
TURN = [
    {"type": "file-history-snapshot", "messageId": "m0", "snapshot": {}},
    asked("u1", "How many files are there?", 0),
    answered("a1", "msg_1", [text("I look.")], 1),
    answered("a2", "msg_1", [tool_use("call_1", command="ls | wc -l")], 2, output_tokens=30),
    answered("a3", "msg_1", [tool_use("call_2", command="pwd")], 2, output_tokens=30),
    result("u2", "call_1", "3", 3),
    result("u3", "call_2", "not allowed", 4, is_error=True),
    answered("a4", "msg_2", [text("Three.")], 5, output_tokens=5, stop_reason="end_turn"),
]


class Playing(Transport):
    """Plays a transcript, as Claude Code would send it."""

    def __init__(self, projects: str, entries: list[Entry]) -> None:
        self._path = f"{projects}/{project_key_for_directory()}/{SESSION}.jsonl"
        self._entries = entries
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def connect(self) -> None: ...

    async def write(self, data: str) -> None:
        self._received.put_nowait(json.loads(data))

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        request = await self._received.get()
        yield {
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request["request_id"], "response": {}},
        }
        for entry in self._entries:
            yield {"type": "transcript_mirror", "filePath": self._path, "entries": [entry]}
        yield {
            **{"type": "result", "subtype": "success", "session_id": SESSION, "is_error": False, "result": "Three."},
            **{"duration_ms": 5000, "duration_api_ms": 4000, "num_turns": 1},
        }

    async def close(self) -> None: ...

    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None: ...
