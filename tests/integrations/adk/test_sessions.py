from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions, EventCompaction
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session
from google.genai import types

from taskctx_sql import Store
from taskctx_sql.errors import InvalidIdError, RowLevelSecurityError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.adk import ContextSessionService
from tests.support.counted_calls import count_reads


def said(text: str, *, author: str = "user", invocation_id: str = "i1", **given: Any) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(author=author, invocation_id=invocation_id, content=content, **given)


def changed(**delta: Any) -> Event:
    return Event(author="agent", invocation_id="i1", actions=EventActions(state_delta=delta))


async def read(service: ContextSessionService, session: Session, **config: Any) -> Session:
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id, config=GetSessionConfig(**config)
    )
    assert found is not None
    return found


@pytest.fixture
async def session(service: ContextSessionService, app: str, user: str) -> Session:
    return await service.create_session(app_name=app, user_id=user, session_id="s1", state={"a": 1})


async def test_events_come_back_equal_and_in_the_order_of_their_appends(
    service: ContextSessionService, session: Session
) -> None:
    parts = [
        types.Part.from_bytes(data=b"\xff\x00", mime_type="image/png"),
        types.Part(text="so", thought=True, thought_signature=b"\xfe"),
        types.Part(function_call=types.FunctionCall(id="c1", name="find", args={"deep": {"x": None}})),
    ]
    events = [
        # The second is older by its clock.
        said("first", timestamp=100.0),
        Event(author="agent", invocation_id="i1", content=types.Content(role="model", parts=parts), timestamp=50.0),
        changed(b={"c": None}, d=None),
    ]
    for event in events:
        await service.append_event(session, event)
    assert (await read(service, session)).events == events
    assert await read(service, session) == session


async def test_a_session_is_a_context_with_labels(sql: Store, session: Session, app: str, user: str) -> None:
    (summary,) = await sql.contexts(user, labels={"framework": "adk", "app": app})
    assert (summary.chat_id, summary.labels["session"]) == (identity.key("adk", user, app, "s1").chat_id, "s1")


async def test_a_tool_call_and_its_result_share_a_group(
    sql: Store, service: ContextSessionService, session: Session
) -> None:
    call = types.Part(function_call=types.FunctionCall(id="c1", name="find", args={"q": "x"}))
    await service.append_event(session, Event(author="agent", content=types.Content(role="model", parts=[call])))
    key = identity.key("adk", session.user_id, session.app_name, "s1")
    assert [(found.call_id, found.name) for found in await sql.open_calls(key)] == [("c1", "find")]
    failed = types.FunctionResponse(id="c1", name="find", response={"error": "nothing there"})
    answer = types.Content(role="user", parts=[types.Part(function_response=failed)])
    await service.append_event(session, Event(author="agent", content=answer))
    assert await sql.open_calls(key) == []
    result = (await sql.load(key)).history[-1]
    assert result.metadata == {"framework": "adk", "group": "c1", "error": "nothing there"}


async def test_the_tokens_that_an_event_reports_are_a_use_of_a_model(
    sql: Store, service: ContextSessionService, session: Session
) -> None:
    usage = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=100,
        tool_use_prompt_token_count=7,
        cached_content_token_count=40,
        candidates_token_count=20,
        thoughts_token_count=5,
        prompt_tokens_details=[types.ModalityTokenCount(modality=types.MediaModality.AUDIO, token_count=9)],
    )
    await service.append_event(
        session, said("hi", author="agent", usage_metadata=usage, model_version="gemini-2.5-flash")
    )
    ((_, use),) = (await sql.load(identity.key("adk", session.user_id, session.app_name, "s1"))).models
    assert (use["model_id"], use["provider_id"], use["mode"]) == ("gemini-2.5-flash", "google", "agent")
    kinds = ("input_tokens", "output_tokens", "cached_read_tokens", "reasoning_tokens", "audio_tokens")
    assert [use[kind] for kind in kinds] == [107, 25, 40, 5, 9]


async def test_each_scope_of_state_reaches_as_far_as_it_says(
    service: ContextSessionService, session: Session, app: str, user: str
) -> None:
    await service.append_event(session, changed(**{"own": 1, "user:u": 2, "app:a": 3, "temp:t": 4}))
    assert session.state == {"a": 1, "own": 1, "user:u": 2, "app:a": 3, "temp:t": 4}
    same_user = await service.create_session(app_name=app, user_id=user)
    other_user = await service.create_session(app_name=app, user_id=f"{user}-2", state={"user:u": 9})
    other_app = await service.create_session(app_name=f"{app}_2", user_id=user)
    assert same_user.state == {"user:u": 2, "app:a": 3}
    assert other_user.state == {"user:u": 9, "app:a": 3}
    assert other_app.state == {}
    assert await service.get_user_state(app_name=app, user_id=user) == {"u": 2}
    assert (await read(service, session)).state == {"a": 1, "own": 1, "user:u": 2, "app:a": 3}


async def test_an_event_and_the_state_that_it_changes_are_written_together_or_not_at_all(
    sql: Store, service: ContextSessionService, session: Session
) -> None:
    await read(service, session)
    stale = session.model_copy(deep=True)
    await service.append_event(session, said("hi"))
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(stale, changed(**{"user:u": 1, "app:a": 1, "own": 1}))
    assert (await read(service, session)).state == {"a": 1}


async def test_of_two_appends_at_once_one_is_refused(service: ContextSessionService, session: Session) -> None:
    both = [session.model_copy(deep=True) for _ in range(2)]
    done = await asyncio.gather(*(service.append_event(one, said("hi")) for one in both), return_exceptions=True)
    assert sorted(type(result).__name__ for result in done) == ["Event", "StaleSessionError"]
    assert len((await read(service, session)).events) == 1


async def test_agents_in_parallel_append_to_one_session(service: ContextSessionService, session: Session) -> None:
    await asyncio.gather(*(service.append_event(session, said(str(number))) for number in range(5)))
    assert (await read(service, session)).events == session.events
    assert len(session.events) == 5


async def test_a_title_does_not_make_a_session_stale(
    sql: Store, service: ContextSessionService, session: Session
) -> None:
    await service.append_event(session, said("hi"))
    await sql.label(identity.key("adk", session.user_id, session.app_name, "s1"), title="Greetings")
    await service.append_event(session, said("ho"))
    assert len((await read(service, session)).events) == 2


async def test_a_session_that_traveled_as_json_goes_on(service: ContextSessionService, session: Session) -> None:
    await service.append_event(session, said("hi"))
    traveled = Session.model_validate_json(session.model_dump_json())
    await service.append_event(traveled, said("ho"))
    with pytest.raises(StaleSessionError):
        await service.append_event(Session.model_validate_json(session.model_dump_json()), said("late"))


async def test_the_newest_events_and_those_since_a_time(service: ContextSessionService, session: Session) -> None:
    for at in range(1, 6):
        await service.append_event(session, said(str(at), timestamp=float(at)))

    async def times(**config: Any) -> list[float]:
        return [event.timestamp for event in (await read(service, session, **config)).events]

    assert await times(num_recent_events=2) == [4.0, 5.0]
    assert await times(num_recent_events=0) == []
    assert await times(after_timestamp=3.0) == [3.0, 4.0, 5.0]
    assert await times(after_timestamp=3.0, num_recent_events=2) == [4.0, 5.0]
    assert await times(after_timestamp=4.5, num_recent_events=3) == [5.0]
    assert (await read(service, session, num_recent_events=0)).last_update_time == 5.0


async def test_a_session_read_without_its_events_can_be_appended_to(
    service: ContextSessionService, session: Session
) -> None:
    await service.append_event(session, said("hi"))
    short = await read(service, session, num_recent_events=0)
    await service.append_event(short, said("ho"))
    assert len((await read(service, session)).events) == 2


async def test_sessions_are_listed_by_their_last_save(service: ContextSessionService, app: str, user: str) -> None:
    for name in ("x", "y"):
        await service.create_session(app_name=app, user_id=user, session_id=name, state={"name": name})
    other = await service.create_session(app_name=app, user_id=f"{user}-2", session_id="z", state={"user:u": 1})
    x = await service.get_session(app_name=app, user_id=user, session_id="x")
    assert x is not None
    await service.append_event(x, changed(**{"app:a": 1}))
    mine = (await service.list_sessions(app_name=app, user_id=user)).sessions
    assert [session.id for session in mine] == ["y", "x"]
    assert mine[0].state == {"name": "y", "app:a": 1}
    everybody = (await service.list_sessions(app_name=app)).sessions
    assert [session.id for session in everybody] == ["y", "z", "x"]
    assert everybody[1].state == {"user:u": 1, "app:a": 1}
    assert everybody[1].user_id == other.user_id


async def test_a_list_of_sessions_takes_no_read_for_each(
    sql: Store, service: ContextSessionService, app: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await service.create_session(app_name=app, user_id=user, session_id=f"s{number}", state={"n": number})
    reads = count_reads(sql, monkeypatch)
    sessions = (await service.list_sessions(app_name=app, user_id=user)).sessions
    assert [session.state for session in sessions] == [{"n": number} for number in range(5)]
    # A page and the one after it; the user's state and the app's.
    assert reads == {"contexts": 2, "state": 2}


async def test_a_deleted_session_is_gone_and_its_users_state_is_not(
    service: ContextSessionService, session: Session, app: str, user: str
) -> None:
    await service.append_event(session, changed(**{"user:u": 1}))
    await service.delete_session(app_name=app, user_id=user, session_id="s1")
    assert await service.get_session(app_name=app, user_id=user, session_id="s1") is None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, said("late"))
    assert await service.get_user_state(app_name=app, user_id=user) == {"u": 1}


async def test_a_session_is_created_once(service: ContextSessionService, session: Session, app: str, user: str) -> None:
    with pytest.raises(AlreadyExistsError):
        await service.create_session(app_name=app, user_id=user, session_id=" s1 ", state={"user:u": 1})
    assert await service.get_user_state(app_name=app, user_id=user) == {}
    assert await read(service, session) == session


async def test_an_id_that_is_too_long_is_refused(service: ContextSessionService, app: str, user: str) -> None:
    with pytest.raises(InvalidIdError):
        await service.create_session(app_name=app, user_id=user, session_id="x" * 256)


async def test_a_summary_of_older_events_is_a_checkpoint(
    sql: Store, service: ContextSessionService, session: Session
) -> None:
    await service.append_event(session, said("long"))
    short = types.Content(role="model", parts=[types.Part(text="short")])
    compaction = EventCompaction(start_timestamp=0.0, end_timestamp=1.0, compacted_content=short)
    await service.append_event(session, Event(author="user", actions=EventActions(compaction=compaction)))
    kept = await sql.load(identity.key("adk", session.user_id, session.app_name, "s1"), types=("checkpoint",))
    assert len(kept.history) == 1
    assert (await read(service, session)).events == session.events


async def test_a_fork_of_a_session_goes_on_by_itself(
    sql: Store, service: ContextSessionService, session: Session, app: str, user: str
) -> None:
    await service.append_event(session, said("hi"))
    await sql.fork(identity.key("adk", user, app, "s1"), identity.key("adk", user, app, "s2").chat_id)
    fork = await service.get_session(app_name=app, user_id=user, session_id="s2")
    assert fork is not None
    await service.append_event(fork, said("elsewhere"))
    assert [len(one.events) for one in (await read(service, session), await read(service, fork))] == [1, 2]


def test_a_service_of_a_database_url_serves_one_event_loop_after_the_other(
    database_url: str, app: str, user: str
) -> None:
    service = ContextSessionService(database_url)
    session = asyncio.run(service.create_session(app_name=app, user_id=user))
    asyncio.run(service.append_event(session, said("hi")))
    assert len(asyncio.run(read(service, session)).events) == 1
    asyncio.run(service.close())


@pytest.mark.parametrize("name", ["adk:{}", "adk%3A{}", "adk%253A{}"])
async def test_no_user_has_the_name_that_owns_the_state_of_an_app(
    service: ContextSessionService, app: str, name: str
) -> None:
    hostile = name.format(app)
    session = await service.create_session(app_name=app, user_id=hostile, state={"user:u": 1, "app:a": 2})
    assert session.state == {"user:u": 1, "app:a": 2}
    assert await service.get_user_state(app_name=app, user_id=hostile) == {"u": 1}
    listed = (await service.list_sessions(app_name=app, user_id=hostile)).sessions
    assert [(one.user_id, one.state) for one in listed] == [(hostile, {"user:u": 1, "app:a": 2})]


async def test_under_row_level_security_an_event_changes_the_state_of_all_three_scopes(
    tenant_url: str, app: str, user: str
) -> None:
    async with ContextSessionService(tenant_url) as service:
        session = await service.create_session(app_name=app, user_id=user)
        await service.append_event(session, changed(**{"own": 1, "user:u": 2, "app:a": 3}))
        assert (await read(service, session)).state == {"own": 1, "user:u": 2, "app:a": 3}
        other = await service.create_session(app_name=app, user_id=f"{user}-2")
        assert other.state == {"app:a": 3}
        with pytest.raises(RowLevelSecurityError):
            await service.list_sessions(app_name=app)
