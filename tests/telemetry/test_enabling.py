"""Telemetry is there when it is enabled, and only then."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore, blocking, open_store, task_context, telemetry
from taskctx_sql.errors import ContextNotFoundError, MissingPackageError
from tests.support.contract import new_delta
from tests.telemetry.recorded import Recorded
from tests.test_docs import DOCS


def test_nothing_is_observed_after_it_is_disabled(recorded: Recorded) -> None:
    telemetry.disable()
    with task_context({"user_id": "u", "chat_id": "c"}, database_url="sqlite:///x.db") as context:
        context.add_context_update("message", 1)
    assert recorded.spans() == []
    assert type(blocking(_opened())) is SqlStore


async def _opened() -> Any:
    async with open_store("sqlite:///x.db") as store:
        return store


async def test_the_guide_lists_what_is_recorded(database_url: str, recorded: Recorded, user: str) -> None:
    async with open_store(database_url) as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        await store.load(ContextKey(user, "c"))
        with pytest.raises(ContextNotFoundError):
            await store.revisions(ContextKey(user, "none"))
    spans, metrics = (DOCS / "guides" / "telemetry.md").read_text().split("\n## Metrics\n")
    rare = {"taskctx.client.retries", "taskctx.client.outages", "taskctx.client.outage.duration"}
    assert set(re.findall(r"^\| `([\w.]+)` \|", metrics, re.MULTILINE)) == recorded.metrics() | rare
    listed = set(re.findall(r"`([a-z_]+\.[\w.]+)`", spans))
    assert {name for span in recorded.spans() for name in span.attributes or {}} <= listed


def test_it_is_imported_only_when_it_is_enabled() -> None:
    code = (
        "import sys, taskctx_sql\n"
        "from taskctx_sql import schema, telemetry, transfer\n"
        "with taskctx_sql.task_context({'user_id': 'u', 'chat_id': 'c'}, database_url='sqlite:///x.db') as context:\n"
        "    context.add_context_update('message', 1)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
        "telemetry.enable()\n"
        "print('opentelemetry.trace' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True"]


def test_without_the_package_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "taskctx_sql.telemetry."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingPackageError, match=r"taskctx_sql\[opentelemetry\]"):
        telemetry.enable()
