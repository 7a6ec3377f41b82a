from __future__ import annotations

from taskctx_sql.integrations import recording


def test_an_update_has_the_metadata_that_it_was_given() -> None:
    written = recording.update("adk", recording.TOOL_RESULT, {"a": None}, call_id="c1", error="boom")
    assert written == ("tool_result", {"a": None}, {"framework": "adk", "group": "c1", "error": "boom"})
    assert recording.update("adk", recording.MESSAGE, 1, role="user")[2] == {"framework": "adk", "role": "user"}


def test_a_tool_call_beside_its_message_has_its_name_and_arguments() -> None:
    written = recording.tool_call("langgraph", "c1", "search", {"q": "x"})
    assert written[:2] == ("tool_call", {"name": "search", "arguments": {"q": "x"}})
    assert written[2] == {"framework": "langgraph", "group": "c1", "name": "search"}


def test_a_model_use_has_only_what_was_measured() -> None:
    use = recording.model_use("m", "openai", "agent", timestamp=5.0, input_tokens=3, reasoning_tokens=0)
    same = {"model_id": "m", "provider_id": "openai", "mode": "agent", "timestamp": 5.0}
    assert use == {**same, "input_tokens": 3, "reasoning_tokens": 0}
