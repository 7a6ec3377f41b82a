from __future__ import annotations

import pytest

from taskctx_sql import ContextKey
from taskctx_sql.errors import InvalidIdError
from taskctx_sql.integrations import identity


def test_the_parts_make_up_the_chat() -> None:
    assert identity.key("adk", "ann", "app", "s1") == ContextKey("ann", "adk/app/s1")


@pytest.mark.parametrize("user", [None, ""])
def test_a_framework_without_a_user_has_an_anonymous_one(user: str | None) -> None:
    assert identity.key("openai_agents", user, "s1") == ContextKey("anonymous", "openai_agents/s1")


PARTS = [("a/b", "c"), ("a", "b/c"), ("a", "b", "c"), ("a%2Fb", "c"), ("a", ""), ("a",), ("", "a"), ("é" * 300,)]


def test_different_parts_make_different_chats() -> None:
    long = identity.key("adk", "ann", "x" * 300)
    parts = [*PARTS, ("x" * 299,), (long.chat_id.removeprefix("adk/"),)]
    assert len({identity.key("adk", "ann", *some) for some in parts} | {long}) == len(parts) + 1


def test_an_id_that_is_too_long_keeps_its_beginning() -> None:
    chat = identity.key("adk", "ann", "app", "x" * 300).chat_id
    assert (len(chat), chat[:10]) == (255, "adk/app/xx")
    assert identity.key("adk", "ann", "a" * 251).chat_id == "adk/" + "a" * 251


def test_each_part_is_a_label() -> None:
    labels = identity.labels("adk", app="shop/eu", session="x" * 300)
    assert labels["framework"] == "adk"
    assert labels["app"] == "shop/eu"
    assert len(labels["session"]) == 255


def test_a_part_that_no_database_accepts_is_refused() -> None:
    with pytest.raises(InvalidIdError, match="NUL"):
        identity.key("adk", "ann", "a\x00b")
    with pytest.raises(InvalidIdError, match="surrogates"):
        identity.key("adk", "ann", "\ud800" * 300)
