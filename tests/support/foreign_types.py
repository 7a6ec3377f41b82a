"""Types of programs and libraries that the codec has never heard of."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime, timedelta
from numbers import Integral, Real
from typing import Any


class Color(enum.Enum):
    RED = "red"


class Level(enum.Enum):
    LOW = 1


class Name(str):
    __slots__ = ()


class WholeNumber:
    """A number as numpy's: no int, but one that says that it is whole."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.value)

    def __round__(self) -> int:
        return self.value

    def __le__(self, other: int) -> bool:
        return self.value <= other

    def __ge__(self, other: int) -> bool:
        return self.value >= other


Integral.register(WholeNumber)


class RealNumber:
    """A number as numpy's float32."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)


Real.register(RealNumber)


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int


class Opaque:
    def __str__(self) -> str:
        return "opaque"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def cycle() -> Any:
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)
    return value


class Nanoseconds(datetime):
    """A time that is more than a datetime, as pandas' are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds) and super().__eq__(other)

    __hash__ = datetime.__hash__

    def __str__(self) -> str:
        return "2026-01-02 00:00:00.000000789"


class NoTime(datetime):
    """No time at all, and a datetime by its class."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__

    def __str__(self) -> str:
        return "NoTime"


class Fraction(timedelta):
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = timedelta.__hash__

    def __str__(self) -> str:
        return "1500 ns"


class Rounded(RealNumber):
    """A number that no float is equal to."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = RealNumber.__hash__

    def __str__(self) -> str:
        return "0.3333333333333333333333"


class Tagged(str):
    """A text that is equal to one with the same tag only."""

    tag: int

    def __new__(cls, text: str, tag: int) -> Tagged:
        made = super().__new__(cls, text)
        made.tag = tag
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and str.__eq__(self, other) and self.tag == other.tag

    def __hash__(self) -> int:
        return hash((str.__hash__(self), self.tag))


class Money(int):
    """A number that is equal to no other kind of number."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and int(self) == int(other)

    def __hash__(self) -> int:
        return int.__hash__(self)


class Meters(float):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Meters) and float(self) == float(other)

    def __hash__(self) -> int:
        return float.__hash__(self)
