"""The results of checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# What `maintenance.examine` checks.
CHECKS: Final = (
    *("open", "schema", "machines", "functions", "row-level-security", "indexes", "orphans", "unfinished", "numbers"),
    *("contexts", "largest", "expired", "sqlite", "journal", "synchronous", "busy-timeout", "space"),
    *("fsync", "full_page_writes", "synchronous_commit", "clock"),
    *("folder", "histories", "set-aside", "left-over", "self-test"),
)
Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was checked: "schema", "journal", "indexes", "orphans" and so on.
        level: "ok", "note" (good to know), "warning" (may cost data or time) or "error".
        message: What was found.
        remedy: What to do about it; empty if nothing.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings about a store. `ok` is True without warnings and errors."""

    database_url: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no warning and no error."""
        return all(found.level in ("ok", "note") for found in self.findings)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings of a diagnosis. It is true unless one of them is an error."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error among the findings."""
        return all(finding.level != "error" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok
