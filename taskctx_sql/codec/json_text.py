"""Values to JSON text and back, losslessly.

Two forms of the same encoding. `SQL` is strict JSON that ``::jsonb`` and ``json_extract`` accept, so what they refuse
(NUL characters, lone surrogates, NaN, huge integers) is tagged. `FILE` is the original's own encoding wherever the
original could write a value, so that its files come back byte for byte.

What JSON has no form for is an object with one key that names its type: ``{"__datetime__": "2026-01-02T03:04:05"}``.
A user's own object of that look is written as ``{"__items__": [[key, value]]}``, so no value is ever mistaken.
The table of all types is docs/values.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from taskctx_sql.codec.encoding import MAX_INTEGER_BITS, Encoding, from_file_tag
from taskctx_sql.codec.foreign_values import shown, text_of
from taskctx_sql.codec.fresh_stack import with_fresh_stack
from taskctx_sql.codec.tags import TAGS, from_tag

T = TypeVar("T")

__all__ = [
    "decode",
    "decode_untagged",
    "encode",
    "encode_plain",
    "may_have_tags",
    "read_file_text",
    "read_file_value",
    "shown",
    "text_of",
    "to_file_tree",
    "with_fresh_stack",
]


_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# Of an integer in a file.
MAX_DIGITS: Final = 100_000
# No program can set its limit lower.
_DIGITS_AT_A_TIME: Final = 640

_ALWAYS_PLAIN: Final = frozenset({str, bool, type(None)})

# What it would write in its own way goes the slow path instead.
_LEAVE: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode(value: Any, place: str = "the value", *, strict: bool = False, warn: bool = True) -> str:
    """Return the JSON text of ``value`` for a database.

    Args:
        value: Anything.
        place: What to call the value in an error.
        strict: Raise for a value that would come back as its text.
        warn: Warn, once for each type, about such a value.

    Returns:
        Text without NUL and lone surrogates, valid JSON to every reader.

    Raises:
        UnstorableValueError: In strict mode, naming the place within ``place``.
    """
    text = encode_plain(value)
    if text is None:
        tree = Encoding(strict=strict, warn=warn, for_file=False).tree(value, place)
        text = with_fresh_stack(lambda: _write(tree))
    return text


def encode_plain(value: Any) -> str | None:
    """Return what `encode` does for a value that is all strings, numbers, lists and the like; None for any other."""
    try:
        text = orjson.dumps(value, None, _LEAVE)
        # The writer accepted it, so it is finite: now see that each part comes back as it was. It writes null for a
        # NaN, and lists for tuples.
        if b"\\u0000" not in text and _is_plain(value):
            return text.decode()
    except Exception:  # noqa: S110  # not plain: a type, a surrogate, a cycle, a depth
        pass
    return None


def decode(text: str | bytes) -> Any:
    """Return the value that `encode` wrote, from its text or that as UTF-8.

    Raises:
        ValueError: The text is not JSON, or a tag in it has a content that is not its own.
    """
    if isinstance(text, str):
        text = text.encode()
    if may_have_tags(text):
        return with_fresh_stack(lambda: json.loads(text, object_hook=from_tag))
    return decode_untagged(text)


def may_have_tags(text: bytes) -> bool:
    """Whether a text needs more than `decode_untagged`."""
    return b'{"__' in text


decode_untagged = orjson.loads


def to_file_tree(value: Any, place: str = "the value", *, strict: bool = False) -> Any:
    """Return ``value`` as a tree that ``json.dump`` writes as the original would, and that `from_file_tree` reads back.

    Raises:
        UnstorableValueError: In strict mode, naming the place within ``place``.
    """
    return Encoding(strict=strict, warn=True, for_file=True).tree(value, place)


def read_file_text(text: str) -> Any:
    """Return what ``json.dump`` wrote of a `to_file_tree`; an object that only looks like a tag stays as it is.

    Raises:
        ValueError: The text is not JSON.
    """
    read = _tagged_file if '"__' in text else _plain_file
    return _with_any_integer(read, lambda decoder: decoder.decode(text))


def read_file_value(text: str, at: int) -> tuple[Any, int]:
    """Return the value that begins at a place of a file's text, as `read_file_text` reads it, and where it ends.

    Raises:
        ValueError: No whole value begins there.
    """
    value, end = _with_any_integer(_plain_file, lambda decoder: decoder.raw_decode(text, at))
    if text.find('"__', at, end) >= 0:
        value, end = _with_any_integer(_tagged_file, lambda decoder: decoder.raw_decode(text, at))
    return value, end


def _with_any_integer(decoders: _Decoders, read: Callable[[json.JSONDecoder], T]) -> T:
    """Read a file's text, at a second try whatever number of digits this program may read at a time."""
    try:
        return with_fresh_stack(lambda: read(decoders.usual))
    except json.JSONDecodeError:
        raise
    except ValueError:
        return with_fresh_stack(lambda: read(decoders.patient))


class _Decoders(NamedTuple):
    usual: json.JSONDecoder
    patient: json.JSONDecoder


def _integer(text: str) -> int:
    """Return the integer of a text, in parts that every program may read.

    Raises:
        ValueError: It has so many digits that it would cost far more than its size.
    """
    digits = text.removeprefix("-")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits, and the limit is {MAX_DIGITS:,}")
    number = 0
    for start in range(0, len(digits), _DIGITS_AT_A_TIME):
        part = digits[start : start + _DIGITS_AT_A_TIME]
        number = number * 10 ** len(part) + int(part)
    return -number if text.startswith("-") else number


_plain_file: Final = _Decoders(json.JSONDecoder(), json.JSONDecoder(parse_int=_integer))
_tagged_file: Final = _Decoders(
    json.JSONDecoder(object_hook=from_file_tag), json.JSONDecoder(object_hook=from_file_tag, parse_int=_integer)
)


def _is_plain(value: Any) -> bool:
    """Whether every part of what the writer accepted is of a type that JSON gives back as it was."""
    containers: list[Iterable[Any]] = [[value]]
    for container in containers:
        for part in container:
            kind = type(part)
            if kind in _ALWAYS_PLAIN:
                continue
            if kind is float:
                if part - part != 0.0:
                    return False
            elif kind is int:
                if part.bit_length() > MAX_INTEGER_BITS:
                    return False
            elif kind is list:
                containers.append(part)
            elif kind is not dict or (len(part) == 1 and next(iter(part)) in TAGS):
                return False
            else:
                containers.append(part.values())
    return True
