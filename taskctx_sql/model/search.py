"""What a search looks for, and what it found: the same rules for every engine, with and without an index.

The searched text of an update is its data as it stands in JSON, with the escapes of quotes, backslashes and line breaks
replaced by what they stand for. So a word is found in strings, keys and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import orjson

from taskctx_sql.errors import InvalidArgumentError

SearchOrder = Literal["newest", "relevance"]
ORDERS: Final[tuple[SearchOrder, ...]] = get_args(SearchOrder)

# How many hits are ordered by their relevance: the newest ones.
RANKED: Final = 1_000

_MAX_WORDS: Final = 32
_MAX_CHARACTERS: Final = 1_000
# A quoted phrase, or a word. A quote that is never closed is a character like others.
_WORD: Final = re.compile(r'"([^\s](?:.*?))"(?=\s|$)|(\S+)', re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(["\\nrt])')
_UNESCAPED: Final = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}

# The lengths of a snippet and of what precedes the first match in it.
_SNIPPET: Final = 200
_BEFORE: Final = 60
# Of longer data, no string is looked for that contains the match.
_MAX_DECODED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SearchHit:
    """An update whose data contains all that was searched for.

    Attributes:
        context_id: The id of its context's rows.
        user_id: Whose context it is.
        chat_id: Which of the user's.
        seq: Its number in the context.
        timestamp: Its time in seconds since the epoch.
        update_type: Its type.
        data: Its data, as JSON text.
        removed: Whether it is no longer in the history.
        title: The context's title.
        snippet: The text around the first match, in one line, of about 200 characters at most.
        matches: Where the matches are in the snippet: the index of the first character, and that after the last one.
        rank: Its relevance if the hits are ordered by it; only comparable within one search.
    """

    context_id: str
    user_id: str
    chat_id: str
    seq: int
    timestamp: float | None
    update_type: str
    data: str
    removed: bool
    title: str | None = field(default=None, metadata={"is_column": False})
    snippet: str = field(default="", metadata={"is_column": False})
    matches: tuple[tuple[int, int], ...] = field(default=(), metadata={"is_column": False})
    rank: float | None = field(default=None, metadata={"is_column": False})


@dataclass(frozen=True, slots=True)
class Words:
    """The words and phrases of a search, each with the forms in which it is looked for.

    The case of ASCII letters is ignored unless ``case_sensitive``; then each word has one form. Other letters are found
    as they were given, in lower case, in upper case, and capitalized.
    """

    forms: tuple[tuple[str, ...], ...]
    case_sensitive: bool

    def found_in(self, text: str) -> tuple[int, list[tuple[int, int]]]:
        """Return how many of the words are in a text, and where."""
        text = text if self.case_sensitive else lower_ascii(text)
        found = [list(_positions(text, forms)) for forms in self.forms]
        return sum(map(bool, found)), _merged(position for positions in found for position in positions)

    def rank(self, data: str) -> float:
        """Return the relevance of JSON text: by how often it has each word, as whole words, and how long it is."""
        text = searched_text(data)
        text = text if self.case_sensitive else lower_ascii(text)
        total = 0.0
        for forms in self.forms:
            found = list(_positions(text, forms))
            whole = sum(_is_whole(text, begin, end) for begin, end in found)
            weight = len(found) + 2 * whole
            total += weight / (weight + 1 + len(text) / 1_000)
        return round(total, 6)


def parse_words(text: str, *, case_sensitive: bool) -> Words:
    """Return the words and quoted phrases of a text, or raise InvalidArgumentError."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgumentError("text", text, "a string with a word")
    if len(text) > _MAX_CHARACTERS:
        raise InvalidArgumentError("text", f"{text[:20]}...", f"at most {_MAX_CHARACTERS:,} characters")
    words = list(dict.fromkeys(quoted or word for quoted, word in _WORD.findall(text)))
    if len(words) > _MAX_WORDS:
        raise InvalidArgumentError("text", f"{len(words)} words", f"at most {_MAX_WORDS} words and phrases")
    return Words(tuple(_forms(_as_in_json(word), case_sensitive=case_sensitive) for word in words), case_sensitive)


def searched_text(data: str) -> str:
    """Return what is searched of JSON text."""
    return _ESCAPE.sub(lambda escape: _UNESCAPED[escape[1]], data) if "\\" in data else data


def lower_ascii(text: str) -> str:
    """Return a text with its ASCII letters in lower case, as ``lower`` of SQLite makes it."""
    # Only `bytes` have a method that leaves the other letters.
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def snippet_of(data: str, words: Words) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text around the first match in JSON text, in one line, and where the matches are in it."""
    text, found = _best_string(data, words)
    first = found[0][0] if found else 0
    begin = max(0, first - _BEFORE) if len(text) > _SNIPPET else 0
    end = begin + _SNIPPET
    head, tail = "…" if begin else "", "…" if end < len(text) else ""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[begin:end])
    moved = len(head) - begin
    matches = ((start + moved, min(stop, end) + moved) for start, stop in found if begin <= start < end)
    return f"{head}{shown}{tail}", tuple(matches)


def check_order(order: Any) -> None:
    """Raise InvalidArgumentError if hits cannot be ordered so."""
    if order not in ORDERS:
        raise InvalidArgumentError("order", order, f"one of {', '.join(ORDERS)}")


def _forms(word: str, *, case_sensitive: bool) -> tuple[str, ...]:
    if case_sensitive:
        return (word,)
    return tuple(dict.fromkeys(map(lower_ascii, (word, word.lower(), word.upper(), word.capitalize()))))


def _as_in_json(word: str) -> str:
    """Return a word as searched texts have it: JSON escapes control characters, and a database has no surrogates."""
    word = word.encode("utf-8", "replace").decode()
    return "".join(orjson.dumps(one).decode()[1:-1] if one < " " and one not in "\n\r\t" else one for one in word)


def _positions(text: str, forms: Iterable[str]) -> Iterator[tuple[int, int]]:
    for form in forms:
        at = text.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = text.find(form, at + len(form))


def _merged(positions: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return positions in their order, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(positions):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _is_whole(text: str, begin: int, end: int) -> bool:
    return not text[max(begin - 1, 0) : begin].isalnum() and not text[end : end + 1].isalnum()


def _best_string(data: str, words: Words) -> tuple[str, list[tuple[int, int]]]:
    """Return the string in JSON text that has the most of the words, and where; all of the text if none has any."""
    best: tuple[int, str, list[tuple[int, int]]] = (0, "", [])
    for string in _strings(data) if len(data) <= _MAX_DECODED else ():
        count, found = words.found_in(string)
        if count > best[0]:
            best = (count, string, found)
    if best[0]:
        return best[1:]
    # It is a number, or goes beyond a string.
    text = searched_text(data)
    return text, words.found_in(text)[1]


def _strings(data: str) -> Iterator[str]:
    """Yield the strings in JSON text, in their order; none if it is deeper than the parser goes."""
    try:
        left: list[Any] = [orjson.loads(data)]
    except ValueError:
        return
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += [part for item in reversed(list(value.items())) for part in reversed(item)]
        elif isinstance(value, Sequence):
            left += reversed(value)
