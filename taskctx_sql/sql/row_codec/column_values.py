"""Single values as every engine's columns take them; what a column cannot hold exactly is kept beside it as JSON."""

from __future__ import annotations

import math
import operator
from decimal import Decimal
from numbers import Real
from typing import Any, Final

from taskctx_sql import codec

# What a BIGINT holds.
_LARGEST: Final = 2**63 - 1


def is_column_text(value: Any) -> bool:
    """Whether a column holds the value exactly."""
    return type(value) is str and "\x00" not in value and (value.isascii() or column_text(value) == value)


def column_text(value: Any) -> Any:
    """Return a text for every engine that reads like the value, NUL and lone surrogates escaped; None stays None."""
    if value is None:
        return None
    text = value if type(value) is str else codec.text_of(value)
    if "\x00" in text:
        text = text.replace("\x00", "\\u0000")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def is_column_float(value: Any) -> bool:
    """Whether a column holds the value exactly."""
    return type(value) is float and (value > 0.0 or repr(column_float(value)) == repr(value))


def column_float(value: Any) -> float | None:
    """Return the finite number that the value is or is nearest to, or None."""
    if type(value) is float:
        # SQLite would turn a NaN into NULL and -0.0 into 0.0 by itself; so does this, on every engine.
        return value + 0.0 if value == value else None
    if not isinstance(value, Real | Decimal) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except Exception:
        # Too large, or a class of somebody's own, which may raise anything.
        return None
    return number if math.isfinite(number) else None


def column_integer(value: Any) -> int | None:
    """Return the whole number that a count is or is nearest to, such as 10.0 or numpy's 10, or None."""
    if type(value) is int:
        return value if -_LARGEST <= value <= _LARGEST else None
    if not isinstance(value, Real | Decimal) or isinstance(value, bool):
        return None
    try:
        # Compared first: as an int, Decimal("1E999999") has a million digits.
        count: Any = value
        number = operator.index(round(count)) if -_LARGEST <= count <= _LARGEST else None
    except Exception:
        # A NaN that refuses to be compared, or a class of somebody's own, which may raise anything.
        return None
    return number if number is not None and -_LARGEST <= number <= _LARGEST else None
