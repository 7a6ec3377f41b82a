"""Updates: compared by their fields, and read when they are asked for; and bad input, which is named."""

from __future__ import annotations

import copy
import json
import pickle
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from taskctx_sql import ContextUpdate, TaskContext, build_context
from taskctx_sql.errors import InvalidArgumentError, InvalidContextError, InvalidIdError, UnknownKeyWarning
from taskctx_sql.model import Source, unread_updates


@pytest.mark.parametrize("bad", [None, [], "x", 5])
def test_data_that_is_no_dict_is_refused(bad: Any) -> None:
    for make in (TaskContext, build_context):
        with pytest.raises(InvalidContextError, match="data must be a dict"):
            make(bad)


@pytest.mark.parametrize(
    ("key", "remedy"), [("userid", "did you mean 'user_id'?"), (7, "known keys are user_id, chat_id")]
)
def test_an_unknown_key_of_the_data_is_named_in_a_warning(key: Any, remedy: str, tmp_path: Path) -> None:
    for make in (lambda data: TaskContext(data, tmp_path), build_context):
        with pytest.warns(UnknownKeyWarning, match=re.escape(remedy)):
            make({key: "u1"})


@pytest.mark.parametrize("field", ["metadata", "metadata_toggles"])
def test_a_mapping_that_is_none_is_refused_by_name(field: str) -> None:
    with pytest.raises(InvalidContextError, match=field):
        build_context({field: [1]})
    assert build_context({field: None})["metadata"] == {}


@pytest.mark.parametrize("bad", [-1, "5", 1.5])
def test_a_history_limit_that_is_no_count_is_refused(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="history_limit"):
        TaskContext({}, tmp_path, history_limit=bad)


async def test_an_invalid_id_is_reported_on_loading_and_saving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = TaskContext({"chat_id": None}, tmp_path)
    assert "chat_id" in caplog.text
    for attempt in (context.load, context.load, context.save):
        with pytest.raises(InvalidIdError, match="chat_id"):
            await attempt()
    assert list(tmp_path.iterdir()) == []


def test_copies_are_plain_and_belong_to_nobody(tmp_path: Path) -> None:
    context = TaskContext({}, tmp_path)
    context.add_context_update("message", {"a": [1]})
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    for again in (copy.deepcopy(context.context_history), pickle.loads(pickle.dumps(context.context_history))):
        assert again == context.context_history
        assert type(again) is list
    for again in (copy.deepcopy(context.file_tracker), pickle.loads(pickle.dumps(context.model_tracker))):
        assert type(again) in (dict, list)
    found = context.to_dict()
    assert type(found["file_tracker"]["a"]) is type(found["model_tracker"][0]) is dict
    found["file_tracker"]["a"]["state"] = "changed"
    assert context.file_tracker["a"]["state"] == "active"
    json.dumps(found)


def test_updates_are_equal_by_their_four_fields() -> None:
    one, other = ContextUpdate(1.0, "a", {}, {}), ContextUpdate(1.0, "a", {}, {})
    assert one == other
    one.watch({})
    assert one == other
    other.data = 1
    assert one != other
    assert repr(one) == "ContextUpdate(timestamp=1.0, update_type='a', data={}, metadata={})"


MADE = ContextUpdate(1.5, "message", {}, {})


def unread(calls: list[bytes], log: dict[int, Any] | None = None) -> ContextUpdate:
    def read(seq: int, text: bytes) -> dict[str, Any]:
        assert seq == 7
        calls.append(text)
        return {"data": {"text": text.decode()}, "metadata": {"meta": 1}}

    source = Source(read, () if log is None else (log,))
    (update,) = unread_updates([1.5], ["message"], [7], [b"the text"], source)
    return update


def test_an_update_is_read_once_and_only_if_it_is_asked_for() -> None:
    calls: list[bytes] = []
    update = unread(calls)
    assert (update.timestamp, update.update_type, calls) == (1.5, "message", [])
    assert update.data == {"text": "the text"}
    assert update.data is update.data
    assert update.metadata == {"meta": 1}
    assert calls == [b"the text"]
    assert update == ContextUpdate(1.5, "message", {"text": "the text"}, {"meta": 1})
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = getattr(update, "other")  # noqa: B009


@pytest.mark.parametrize(
    "use",
    [repr, copy.copy, copy.deepcopy, pickle.dumps, replace, asdict, orjson.dumps, lambda update: update == update],
)
def test_every_use_of_an_unread_update_reads_it(use: Any) -> None:
    calls: list[bytes] = []
    use(unread(calls))
    assert calls == [b"the text"]


def test_an_unread_update_passes_for_any_other() -> None:
    update = unread([])
    assert update.__class__ is ContextUpdate
    assert isinstance(update, ContextUpdate)
    assert [type(again) for again in (copy.copy(update), pickle.loads(pickle.dumps(unread([]))))] == [ContextUpdate] * 2
    assert unread([]) == replace(unread([])) == unread([])
    assert type(update) is ContextUpdate


def test_what_is_set_on_an_unread_update_stays() -> None:
    log: dict[int, Any] = {}
    update = unread([], log)
    update.data = "set"
    assert update.metadata == {"meta": 1}
    assert update.data == "set"
    assert log == {id(update): update}
