from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from a2a.server.context import ServerCallContext
from a2a.types.a2a_pb2 import AuthenticationInfo, TaskPushNotificationConfig
from cryptography.fernet import Fernet

from taskctx_sql import StateEntry, Store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.a2a import ContextPushConfigStore
from tests.integrations.a2a.tasks import called_by
from tests.support.counted_calls import count_reads


@pytest.fixture
def task_id(user: str) -> str:
    """A task that no other test has: configurations are dispatched over all owners."""
    return f"task-{user}"


def config(name: str, url: str = "https://ann.example/hook") -> TaskPushNotificationConfig:
    login = AuthenticationInfo(scheme="Bearer", credentials="secret")
    return TaskPushNotificationConfig(id=name, url=url, token="secret", authentication=login)


async def test_configurations_are_set_replaced_and_deleted(
    store: Store, caller: ServerCallContext, task_id: str, user: str
) -> None:
    configs = ContextPushConfigStore(store)
    for made in (config("b"), config("a"), config("b", "https://new.example"), config("")):
        returned = await configs.set_info(task_id, made, caller)
        assert (returned.task_id, returned.id) == (task_id, made.id or task_id)
    found = await configs.get_info(task_id, caller)
    assert [(item.id, item.url) for item in found] == [
        ("a", "https://ann.example/hook"),
        ("b", "https://new.example"),
        (task_id, "https://ann.example/hook"),
    ]
    assert found[0].authentication.credentials == "secret"
    await configs.delete_info(task_id, caller, "a")
    await configs.delete_info(task_id, caller, "none")
    assert [item.id for item in await configs.get_info(task_id, caller)] == ["b", task_id]
    await configs.delete_info(task_id, caller)
    assert await configs.get_info(task_id, caller) == []
    assert await store.contexts(user) == []


async def test_a_configuration_that_is_added_while_the_only_other_one_is_deleted_stays(
    store: Store, task_id: str, caller: ServerCallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = ContextPushConfigStore(store)
    await configs.set_info(task_id, config("a"), caller)
    read = store.state

    async def state(*args: Any, **options: Any) -> Sequence[StateEntry]:
        found = await read(*args, **options)
        await configs.set_info(task_id, config("b"), caller)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(store, "state", state)
        await configs.delete_info(task_id, caller, "a")
    assert [item.id for item in await configs.get_info(task_id, caller)] == ["b"]


async def test_all_owners_are_notified_and_see_only_their_own(
    store: Store, task_id: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = ContextPushConfigStore(store)
    for owner in ("ann", "bob"):
        await configs.set_info(task_id, config(owner), called_by(f"{user}-{owner}"))
    assert [item.id for item in await configs.get_info(task_id, called_by(f"{user}-bob"))] == ["bob"]
    reads = count_reads(store, monkeypatch)
    assert sorted(item.id for item in await configs.get_info_for_dispatch(task_id)) == ["ann", "bob"]
    # A page and the one after it, and no read for each owner.
    assert reads == {"contexts": 2}


async def test_a_configuration_is_encrypted(
    store: Store, caller: ServerCallContext, task_id: str, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain, encrypted = (
        ContextPushConfigStore(store),
        ContextPushConfigStore(store, encryption_key=Fernet.generate_key()),
    )
    await plain.set_info(task_id, config("plain"), caller)
    await encrypted.set_info(task_id, config("secret"), caller)
    assert [item.id for item in await encrypted.get_info(task_id, caller)] == ["plain", "secret"]
    key = identity.key("a2a", user, task_id, "push_configs")
    (stored,) = await store.state(key, "secret")
    assert "example" not in json.dumps(stored.value)
    for other, reason in ((plain, "no encryption_key"), (None, "another key")):
        configs = other or ContextPushConfigStore(store, encryption_key=Fernet.generate_key())
        caplog.clear()
        assert [item.id for item in await configs.get_info(task_id, caller)] == ["plain"]
        assert reason in caplog.text
