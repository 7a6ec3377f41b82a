"""What a driver was told to connect to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DRIVERS = ("asyncpg", "psycopg")

Connects = Callable[..., Any]


def subset(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    return {name: found.get(name) for name in expected}
