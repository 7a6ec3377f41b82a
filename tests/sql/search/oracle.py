"""Hostile texts, questions about them, and what a search must answer: found by looking at each text in Python."""

from __future__ import annotations

import re
from typing import Any, Final

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.codec import encode

TEXTS: Final[tuple[Any, ...]] = (
    "plain words, in English",
    "拒绝连接：服务器没有回应",
    "中文和English混合",
    "🦊 a fox, 👩‍👩‍👧 a family",
    'he said "no" twice',
    "100 % of a_b and a\\b",
    "line\nbreak\tand tab\r\n",
    "back\\nslash, no break",
    "\\\\server\\share",
    "nul \x00 and bell \x07",
    "Ärger STRASSE straße ÉTÉ été İstanbul ςΣσ",
    {"a key": [1, 2.5, None, {"deep": "Value 42"}], "中": "é"},
    42,
    "a",
    "",
    "\ud800 alone",
    "'; DROP TABLE x; --",
    "xyz" * 2_000,
    {"tokens": 12345678901234567890, "ok": True},
    "u4e2d \\u4e2d",
)
QUESTIONS: Final = (
    *("words", "WORDS", "ord", "in English", '"in English"', '"English in"', "a", "%", "_", "\\", "a_b", "a\\b", "'"),
    *(
        "拒绝",
        "连接",
        "绝",
        "中文",
        "中",
        "没有回应",
        "🦊",
        "👩‍👩‍👧",
        '"',
        '"no"',
        'said "no" twice"',
        '"said "no"',
        "x" * 900,
    ),
    *(
        "ärger",
        "ÄRGER",
        "straße",
        "été",
        "ÉTÉ",
        "istanbul",
        "σ",
        "line\nbreak",
        '"line\nbreak"',
        "nbreak",
        "\\n",
        "\\\\",
    ),
    *(
        "nul \x00",
        "\x07",
        "\ud800",
        "42",
        "2.5",
        "12345678901234567890",
        "true",
        "null",
        "a key",
        '"a key"',
        "deep value",
    ),
    *("no such", "DROP table", "--", "*", "AND", "OR NOT", "xyzxyz", "zyx", "b\\", "{", "u4e2d", "\\u4e2d"),
)


def answer(texts: dict[int, str], question: str, *, case_sensitive: bool = False) -> list[int]:
    """The numbers of the JSON texts that have all words of a question, the highest first."""
    words = [one or other for one, other in re.findall(r'"(\S.*?)"(?=\s|$)|(\S+)', question, re.DOTALL)]
    return sorted((number for number, text in texts.items() if _has_all(text, words, case_sensitive)), reverse=True)


def _has_all(text: str, words: list[str], case_sensitive: bool) -> bool:
    meant = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
    text = re.sub(r'\\(["\\nrt])', lambda found: meant[found[1]], text)
    return (
        all(any(_lower(form) in _lower(text) for form in _forms(word)) for word in words)
        if not case_sensitive
        else all(_in_json(word) in text for word in words)
    )


def _forms(word: str) -> set[str]:
    word = _in_json(word)
    return {word, word.lower(), word.upper(), word.capitalize()}


def _in_json(word: str) -> str:
    shown = word.replace("\x00", "\\u0000").replace("\x07", "\\u0007")
    return shown.encode("utf-8", "replace").decode()


def _lower(text: str) -> str:
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), text)


async def fill(store: SqlStore, key: ContextKey) -> dict[int, str]:
    """Save each text as an update of a context, and return their JSON by their numbers."""
    await store.write(key, updates=[("message", text) for text in TEXTS])
    return {number: encode(text, warn=False) for number, text in enumerate(TEXTS, 1)}


async def expect_answers(store: SqlStore, key: ContextKey, texts: dict[int, str], **filters: Any) -> None:
    """Ask all questions, and compare the answers."""
    for number, question in enumerate(QUESTIONS):
        for case_sensitive in (False, True)[: 1 + (number % 4 == 0)]:
            found = await store.search(question, user_id=key.user_id, case_sensitive=case_sensitive, **filters)
            expected = answer(texts, question, case_sensitive=case_sensitive)
            assert sorted((hit.seq for hit in found), reverse=True) == expected, (question, case_sensitive)
