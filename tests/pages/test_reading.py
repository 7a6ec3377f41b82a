"""What is read of an update: the text, the role and the tool, whatever framework wrote it; long and broken data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskctx_sql.model.context_rows import TimelineEntry
from taskctx_sql.pages import reading
from taskctx_sql.pages.entries import Entry, entries_of, entry_of


def row(data: str, metadata: str = "{}", *, update_type: str = "message", whole: int | None = None) -> TimelineEntry:
    lengths = (len(data) if whole is None else whole, len(metadata))
    return TimelineEntry(1, 1.0, update_type, data, False, metadata, *lengths, "r", 1, None, None)


def entry(data: Any, metadata: Any = None, update_type: str = "message") -> Entry:
    return entry_of(row(json.dumps(data), json.dumps(metadata or {}), update_type=update_type))


@pytest.mark.parametrize(
    ("data", "role", "text"),
    [
        ("Hello", "system", "Hello"),
        ({"role": "user", "content": "Hello"}, "user", "Hello"),
        # OpenAI's items, with parts.
        ({"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}, "assistant", "Hello"),
        # LangGraph
        ({"type": "ai", "data": {"content": "no"}, "content": "Hello"}, "assistant", "Hello"),
        ({"type": "human", "data": {"content": "Hello", "type": "human", "name": None}}, "user", "Hello"),
        ({"role": "user", "content": [{"type": "image", "data": "iVBORw0KGgo="}]}, "user", ""),
        # Pydantic AI
        ({"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Hello"}]}, "user", "Hello"),
        # Claude's transcripts, whose calls of tools are updates of their own.
        (
            {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": "Hello"}]}},
            *("user", "Hello"),
        ),
        (
            {"message": {"role": "assistant", "content": [{"type": "tool_use", "input": {}, "text": "no"}]}},
            "assistant",
            "",
        ),
        # Agent Development Kit
        ({"author": "user", "content": {"parts": [{"text": "Hel"}, {"text": "lo"}]}}, "user", "Hel\n\nlo"),
        # A2A
        ({"role": "ROLE_AGENT", "parts": [{"text": "Hello"}]}, "assistant", "Hello"),
    ],
)
def test_the_text_of_a_message_is_found(data: Any, role: str, text: str) -> None:
    assert (entry(data).role, entry(data).text) == (role, text)


def test_calls_and_results_say_their_tool_on_a_line() -> None:
    call = row(
        '{"name": "search", "arguments": {"query": "a b", "limit": 3}}',
        '{"group": "1", "name": "search"}',
        update_type="tool_call",
    )
    result = row('{"result": {"rows": 2}}', '{"group": "1"}', update_type="tool_result")
    failed = row('{"error": "no"}', '{"group": "2", "error": "no"}', update_type="tool_result")
    one, two, three = entries_of([call, result, failed])
    assert (one.name, one.text, one.heading) == ("search", 'query="a b", limit=3', "call")
    assert (two.name, two.text, two.failed) == ("search", '{"rows": 2}', False)
    assert (three.name, three.text, three.failed) == ("", "no", True)


def test_long_data_is_read_as_far_as_it_is_there() -> None:
    text = json.dumps({"role": "user", "parts": [{"text": 'a "quoted" \\ text\n' * 20}], "more": [1, {"a": None}]})
    for size in range(len(text)):
        try:
            found = reading.beginning_of(text[:size])
        except ValueError:
            assert size < 2
            continue
        assert isinstance(found, dict)
    cut = entry_of(row(text[:200], whole=len(text)))
    assert cut.is_cut
    assert not cut.is_broken
    assert cut.role == "user"
    assert cut.text.startswith('a "quoted" \\ text\na')


@pytest.mark.parametrize("data", ['{"a": ', "nothing", '{"__datetime__": "never"}', "[" * 100_000, '"' + "x" * 50])
def test_broken_data_is_shown_as_it_stands(data: str) -> None:
    # What only the codec refuses is JSON all the same.
    is_json = data.startswith('{"__')
    found = entry_of(row(data))
    assert found.is_broken != is_json
    assert is_json or found.data == data


def test_data_of_any_type_and_depth_is_an_entry() -> None:
    deep = "[" * 20_000 + "]" * 20_000
    values = ["null", "1e999", "NaN", "1" * 5_000, "[]", '{"content": {"content": {"parts": [[[]]]}}}', deep]
    for text in values:
        for kind in ("message", "tool_call", "tool_result", "error", "reasoning", "file_operation", "model_usage", "x"):
            found = entry_of(row(text, text, update_type=kind))
            assert found.update_type == kind
