"""Who may look, and that nothing stored does anything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, ContextUpdate, Store, open_store, schema
from taskctx_sql.ui.security import HEADERS
from tests.benchmarks import servers
from tests.support.command import taskctx
from tests.ui.conftest import client
from tests.ui.page import Page

HOSTILE = (
    "</title></style></svg><script>document.title = 'it ran'</script><img src=x onerror=\"document.title = 'it ran'\">"
    "<a href='javascript:alert(1)'>\" onload=alert(1) ' {{ 7 * 7 }} &amp; \u202e=1+1"
)
VIEWS = ("/", "/tasks", "/runs", "/calls", "/models", "/tools", "/errors", "/files", "/users", "/search?q=script")


@pytest.fixture
async def hostile(database_url: str, user: str) -> AsyncIterator[Store]:
    """A store in which every text of a user is hostile."""
    async with open_store(database_url) as store:
        called = ContextUpdate(1.8e9, "tool_call", {}, {"group": HOSTILE, "name": HOSTILE})
        failed = ContextUpdate(1.8e9, "tool_result", {}, {"group": HOSTILE, "error": HOSTILE})
        await store.write(
            ContextKey(user, HOSTILE[:250]),
            updates=[called, failed, *(ContextUpdate(1.8e9, kind, HOSTILE, {}) for kind in ("error", HOSTILE))],
            models=[{"model_id": HOSTILE, "provider_id": HOSTILE, "mode": HOSTILE, "timestamp": 1.8e9, "cost": 1.0}],
            title=HOSTILE,
            labels={HOSTILE: HOSTILE},
        )
        yield store


async def test_what_is_stored_is_only_text(hostile: Store, user: str) -> None:
    async with client(hostile, user_id=user) as look:
        shown = 0
        for view in VIEWS:
            answer = await look.get(view, params={**dict(httpx.URL(view).params), "period": "all"})
            found = Page(answer)
            assert not {"img", "iframe", "object", "style"} & {tag for tag, _ in found.elements}, view
            assert [values for tag, values in found.elements if tag == "script"] == [
                {"src": values["src"], "defer": ""} for tag, values in found.elements if tag == "script"
            ]
            for tag, values in found.elements:
                assert not [name for name in values if name.startswith("on") or name == "style"], view
                assert tag != "a" or values["href"].startswith(("/", "#"))
            assert "\u202e" not in answer.text
            shown += found.text.count("document.title = 'it ran'")
        assert shown > 10
        # Addresses come back as what they were made of, whatever is in them.
        tasks = Page(await look.get("/tasks?period=all"))
        model = next(
            href for href, text in Page(await look.get("/models?period=all")).links if href.startswith("/tasks")
        )
        assert "1 to 1 of 1" in Page(await look.get(model)).text
        assert any(href.startswith("/task?") for href, _ in tasks.links)
        cells = (await look.get("/tasks.csv?period=all")).text
        assert "\u202e" not in cells


async def test_a_spreadsheet_takes_no_cell_for_a_formula(sql_store: Store, user: str) -> None:
    await sql_store.write(ContextKey(user, "=1+1"), updates=[ContextUpdate(1.8e9, "error", "@SUM(1)", {})])
    async with client(sql_store, user_id=user) as look:
        assert "'=1+1" in (await look.get("/tasks.csv?period=all")).text
        assert "'@SUM(1)" in (await look.get("/errors.csv?period=all")).text


async def test_every_answer_has_the_policy(sql_store: Store) -> None:
    async with client(sql_store) as look:
        for address in ("/", "/nowhere", "/tasks.csv", "/static/style.css", "/tasks?page=x"):
            answer = await look.get(address)
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert answer.headers["cache-control"] == (
                "public, max-age=31536000, immutable" if "static" in address else "no-store"
            )
        assert "unsafe" not in HEADERS["Content-Security-Policy"]
        assert HEADERS["Content-Security-Policy"].startswith("default-src 'none'")


async def test_without_the_token_nothing_is_shown(sql_store: Store) -> None:
    async with client(sql_store, token="secret+&") as look:
        for address in ("/", "/tasks", "/tasks.csv", "/nowhere", "/?token=wrong", "/?token="):
            answer = await look.get(address)
            assert "A token is needed" in Page(answer, 403).text
            assert sql_store.database_url not in answer.text
        assert (await look.get("/static/style.css")).status_code == 200
        answer = await look.get("/tasks", params={"token": "secret+&", "q": "a b&c", "user": "ü"})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/tasks?q=a+b%26c&user=%C3%BC"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await look.get("/tasks")).status_code == 200
    # One server's cookie is none of another's.
    async with client(sql_store, token="other") as look:
        assert (await look.get("/", headers={"cookie": cookie.partition(";")[0]})).status_code == 403


async def test_a_link_on_another_site_leads_on_to_the_view(sql_store: Store) -> None:
    async with client(sql_store, token="t") as look:
        # The browser leaves out the cookie, and brings it when the page itself leads on.
        answer = await look.get("/tasks?q=1", headers={"sec-fetch-site": "cross-site"})
        refresh = next(values for tag, values in Page(answer, 403).elements if values.get("http-equiv") == "refresh")
        assert refresh["content"] == "0; url=/tasks?q=1"
        # No address of another site can be led on to.
        answer = await look.get("http://127.0.0.1:8640//evil.example/", headers={"sec-fetch-site": "cross-site"})
        assert "url=/evil.example" in answer.text
        assert "location" not in (await look.get("/", headers={"sec-fetch-site": "same-origin"})).headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8640", "", "127.0.0.1.evil.example", "localhost.evil"])
async def test_another_host_is_refused(sql_store: Store, host: str) -> None:
    async with client(sql_store) as look:
        assert "Another host" in Page(await look.get("/", headers={"host": host}), 421).text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost:8640", "[::1]:8640", "[::1]", "10.1.2.3", "tasks.Example"]
)
async def test_addresses_and_given_names_are_answered(sql_store: Store, host: str) -> None:
    async with client(sql_store, names=["tasks.example"]) as look:
        assert (await look.get("/users", headers={"host": host})).status_code == 200


async def test_nothing_can_be_sent(sql_store: Store) -> None:
    async with client(sql_store) as look:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            answer = await look.request(method, "/")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        answer = await look.head("/")
        assert (answer.status_code, answer.text) == (200, "")


async def test_with_a_user_only_theirs_is_shown(sql_store: Store, user: str) -> None:
    for name in (user, f"other-{user}"):
        await sql_store.write(ContextKey(name, "c"), updates=[ContextUpdate(1.8e9, "message", "hello", {})])
    async with client(sql_store, user_id=user) as look:
        for view in VIEWS:
            answer = await look.get(f"{view}{'&' if '?' in view else '?'}period=all&user=other-{user}")
            assert f"other-{user}" not in answer.text
        assert f"other-{user}" not in (await look.get("/tasks.csv?period=all")).text


async def test_under_row_level_security_a_user_is_needed(tenant_store: Store, mine: ContextKey) -> None:
    async with client(tenant_store) as look:
        found = Page(await look.get("/"), 403).text
        assert "row-level security shows this account one user at a time" in found
        assert "--user USER" in found
    async with client(tenant_store, user_id=mine.user_id) as look:
        assert "1 to 1 of 1" in Page(await look.get("/tasks?period=all")).text


async def test_a_database_that_is_away_is_said_without_its_password(postgres_server: str) -> None:
    async with servers.databases(postgres_server, 1) as (plain,):
        await schema.upgrade(plain)
        url = sa.make_url(plain).set(password="hidden-word", username=sa.make_url(plain).username or "postgres")
        address = url.render_as_string(hide_password=False)
        async with open_store(address, retry_seconds=2) as store, client(store) as look:
            assert Page(await look.get("/")).text
            connection = await asyncpg.connect(postgres_server)
            await connection.execute(f"DROP DATABASE {url.database} WITH (FORCE)")
            await connection.close()
            answer = await look.get("/tasks")
            assert "The database" in Page(answer, 503).text
            assert "hidden-word" not in answer.text


def test_what_cannot_be_shown_is_said_at_once() -> None:
    for arguments, said in (
        (("ui", "json:///tasks"), "needs a database"),
        (("ui", "nothing.db"), "there is no file"),
        (("ui",), "give the store"),
        (("ui", "a.db", "-d", "b.db"), "give the store once"),
        (("ui", "a.db", "--token", "x", "--no-token"), "--token or --no-token"),
        (("ui", "a.db", "--token", ""), "the token is empty"),
    ):
        done = taskctx(*arguments)
        assert done.returncode != 0
        assert said in done.stderr, done.stderr


async def test_an_old_schema_is_said_and_not_upgraded() -> None:
    await schema.upgrade("sqlite:///old.db")
    await schema.downgrade("sqlite:///old.db", "taskctx_0009")
    done = taskctx("ui", "old.db")
    assert done.returncode == 1
    assert "run `taskctx upgrade" in done.stderr
    assert await schema.current("sqlite:///old.db") == "taskctx_0009"
