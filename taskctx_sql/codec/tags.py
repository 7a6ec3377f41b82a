"""Tagged objects for values that JSON has no form for: one key, which names the type."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, Final
from uuid import UUID

from taskctx_sql.codec.foreign_values import are_crowded

_MICROSECOND: Final = timedelta(microseconds=1)
# In microseconds.
_SECOND: Final = 1_000_000
# No exponent: "1E999999" would be a number of a million digits.
_SECONDS: Final = re.compile(r"(-?)([0-9]{1,14})(?:\.([0-9]{1,6}))?")


def escape(text: str) -> str:
    """Return a text with NUL and surrogates as JSON escapes."""
    return json.dumps(text)[1:-1]


def _time_text(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise ValueError("a time of day in a zone whose offset depends on the date")
    return value.isoformat()


def _timedelta_text(value: timedelta) -> str:
    # In integers, since a program can set the precision and the format of Decimal.
    microseconds = value // _MICROSECOND
    seconds, rest = divmod(abs(microseconds), _SECOND)
    return f"{'-' if microseconds < 0 else ''}{seconds}.{rest:06}"


def _timedelta(text: str) -> timedelta:
    found = _SECONDS.fullmatch(text)
    if found is None:
        raise ValueError("not a number of seconds")
    sign, seconds, rest = found.groups("")
    microseconds = int(seconds) * _SECOND + int(rest.ljust(6, "0"))
    return timedelta(microseconds=-microseconds if sign else microseconds)


TO_TAG: Final[dict[type, tuple[str, Callable[[Any], Any]]]] = {
    datetime: ("__datetime__", datetime.isoformat),
    date: ("__date__", date.isoformat),
    time: ("__time__", _time_text),
    timedelta: ("__timedelta__", _timedelta_text),
    UUID: ("__uuid__", str),
    # A program can set the case of the exponent's E.
    Decimal: ("__decimal__", lambda value: str(value).replace("e", "E")),
    bytes: ("__bytes__", lambda value: base64.b64encode(value).decode("ascii")),
    PurePath: ("__path__", str),
}

FROM_TAG: Final[dict[str, Callable[[Any], Any]]] = {
    "__datetime__": datetime.fromisoformat,
    "__date__": date.fromisoformat,
    "__time__": time.fromisoformat,
    "__timedelta__": _timedelta,
    "__uuid__": UUID,
    "__decimal__": Decimal,
    "__bytes__": lambda text: base64.b64decode(text, validate=True),
    "__path__": Path,
    "__tuple__": tuple,
    "__set__": set,
    "__frozenset__": frozenset,
    "__items__": dict,
    "__int__": lambda text: int(text, 16),
    "__float__": float,
    "__str__": lambda text: str(json.loads(f'"{text}"')),
}

TAGS: Final = frozenset(FROM_TAG)
# Their content is a list; that of the others is a string.
LIST_TAGS: Final = frozenset({"__tuple__", "__set__", "__frozenset__", "__items__"})
# Their members or keys are hashed.
_HASHED_TAGS: Final = LIST_TAGS - {"__tuple__"}


def _hashed(tag: str, content: Iterable[Any]) -> Iterable[Any]:
    is_items = tag == "__items__"
    return [pair[0] for pair in content if isinstance(pair, list | tuple) and pair] if is_items else content


def from_tag(obj: dict[str, Any]) -> Any:
    """Return the value of a tagged object, or raise ValueError; any other object is returned as it is.

    So is one whose members or keys are crowded: see `are_crowded`.
    """
    if len(obj) != 1:
        return obj
    ((tag, content),) = obj.items()
    if tag not in TAGS:
        return obj
    if not isinstance(content, list if tag in LIST_TAGS else str):
        raise ValueError(f"{tag} with a {type(content).__name__}")
    try:
        is_crowded = tag in _HASHED_TAGS and are_crowded(_hashed(tag, content))
        return obj if is_crowded else FROM_TAG[tag](content)
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{tag}: {error}") from error
