"""Values to JSON text and back, losslessly.

There are two forms. In a database it is strict JSON that ``::jsonb`` and ``json_extract`` accept; what they refuse
(NUL characters, lone surrogates, NaN, huge integers) is tagged. In a file it is the original's encoding wherever the
original could write a value, so that its files are rewritten byte for byte.

Values that JSON has no form for are tagged: an object with one key that names the type, such as
``{"__datetime__": "2026-01-02T03:04:05"}``. A user's object that looks like one is written as
``{"__items__": [[key, value]]}``. The page "Values" of the docs lists all types.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import orjson

from taskctx_sql.codec.encoder import MAX_INTEGER_BITS, Encoder, from_file_tag
from taskctx_sql.codec.tags import TAGS, from_tag
from taskctx_sql.concurrency import with_fresh_stack

T = TypeVar("T")

_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# The longest integer that is read from a file.
MAX_DIGITS: Final = 100_000
# The lowest limit that a program can set.
_DIGITS_AT_A_TIME: Final = 640

_ALWAYS_PLAIN: Final = frozenset({str, bool, type(None)})

# orjson would write these in another form: they take the slow path.
_LEAVE: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode(value: Any, name: str = "the value", *, strict: bool = False, warn: bool = True) -> str:
    """Return the JSON text of any value for a database: valid for every reader, without NUL and lone surrogates.

    Of a value that would be read back as its text, it warns, once for each type, or raises UnstorableValueError if
    ``strict``, with the position within ``name``.
    """
    text = encode_plain(value)
    if text is None:
        tree = Encoder(strict=strict, warn=warn, for_file=False).tree(value, name)
        text = with_fresh_stack(lambda: _write(tree))
    return text


def encode_plain(value: Any) -> str | None:
    """Return what `encode` returns if the value consists of plain JSON types, or else None."""
    if type(value) is dict and not value:
        # Most updates have no metadata.
        return "{}"
    try:
        text = orjson.dumps(value, None, _LEAVE)
        # orjson accepted it, so it is finite. It still writes null for a NaN, and lists for tuples.
        if b"\\u0000" not in text and _is_plain(value):
            return text.decode()
    except Exception:  # noqa: S110  # not plain: another type, a surrogate, a cycle, too deep
        pass
    return None


def decode(text: str | bytes) -> Any:
    """Return the value of a text from `encode`, which may be UTF-8 bytes, or raise ValueError."""
    if isinstance(text, str):
        text = text.encode()
    if may_have_tags(text):
        return with_fresh_stack(lambda: json.loads(text, object_hook=from_tag))
    return decode_untagged(text)


def decode_all(texts: Sequence[str]) -> list[Any]:
    """Return the values of texts as `decode` does, in less time for each."""
    return [decode_untagged(text) if '{"__' not in text else decode(text) for text in texts]


def may_have_tags(text: bytes) -> bool:
    """Whether a text needs more than `decode_untagged`."""
    return b'{"__' in text


decode_untagged: Callable[[bytes | str], Any] = orjson.loads


def to_file_tree(value: Any, name: str = "the value", *, strict: bool = False) -> Any:
    """Return a value as a tree that ``json.dump`` writes as the original would, and `read_file_text` reads back."""
    return Encoder(strict=strict, warn=True, for_file=True).tree(value, name)


def read_file_text(text: str) -> Any:
    """Return the value that ``json.dump`` wrote from `to_file_tree`, or raise ValueError.

    Objects that only look like tags stay as they are.
    """
    read = _tagged_file if '"__' in text else _plain_file
    return _with_any_integer(read, lambda decoder: decoder.decode(text))


def read_file_value(text: str, at: int) -> tuple[Any, int]:
    """Return the value that begins at an index of a file's text, as `read_file_text` would, and where it ends."""
    value, end = _with_any_integer(_plain_file, lambda decoder: decoder.raw_decode(text, at))
    if text.find('"__', at, end) >= 0:
        value, end = _with_any_integer(_tagged_file, lambda decoder: decoder.raw_decode(text, at))
    return value, end


def _with_any_integer(decoders: tuple[json.JSONDecoder, json.JSONDecoder], read: Callable[[json.JSONDecoder], T]) -> T:
    """Read a file's text; the second decoder reads integers beyond the program's limit of digits."""
    try:
        return with_fresh_stack(lambda: read(decoders[0]))
    except json.JSONDecodeError:
        raise
    except ValueError:
        return with_fresh_stack(lambda: read(decoders[1]))


def _integer(text: str) -> int:
    """Return the integer of a text, read in parts that are within every program's limit.

    More than `MAX_DIGITS` digits, which would take far more time than their size suggests, are a ValueError.
    """
    digits = text.removeprefix("-")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits, and the limit is {MAX_DIGITS:,}")
    number = 0
    for start in range(0, len(digits), _DIGITS_AT_A_TIME):
        part = digits[start : start + _DIGITS_AT_A_TIME]
        number = number * 10 ** len(part) + int(part)
    return -number if text.startswith("-") else number


_plain_file: Final = (json.JSONDecoder(), json.JSONDecoder(parse_int=_integer))
_tagged_file: Final = (
    json.JSONDecoder(object_hook=from_file_tag),
    json.JSONDecoder(object_hook=from_file_tag, parse_int=_integer),
)


def _is_plain(value: Any) -> bool:
    """Whether each part of a value that orjson accepted is read back unchanged."""
    containers: list[Iterable[Any]] = [(value,)]
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
