"""The schemes of addresses: the library's own, and those of stores that other packages bring."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "taskctx_sql.stores"
BUILT_IN: Final = ("sqlite", "postgresql", "postgres", "json")

# One letter is the drive of a path on Windows.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def other_scheme(address: str) -> str | None:
    """Return the scheme of an address, in lower case, or None if it has none or one that is built in."""
    found = _SCHEME.match(address)
    if found is None:
        return None
    scheme = found[1].lower()
    # With any driver: `sqlite+mine` is not for others to take either.
    return None if scheme.partition("+")[0] in BUILT_IN else scheme


def installed_schemes() -> dict[str, list[EntryPoint]]:
    """Return what installed packages offer for each scheme that is not built in."""
    # Imported here, since it takes as long as all of the rest that a program with a SQLite file needs.
    from importlib.metadata import entry_points

    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        scheme = point.name.lower()
        if scheme.partition("+")[0] not in BUILT_IN:
            found.setdefault(scheme, []).append(point)
    return found
