"""What an examination found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at: "schema", "journal", "indexes", "orphans" and so on.
        level: "ok"; "note" for what is good to know; "warning" for what may cost data or time; "error".
        message: What was found.
        remedy: What to do about it; empty where there is nothing to do.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found at an database_url."""

    database_url: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no warning and no error."""
        return all(found.level in ("ok", "note") for found in self.findings)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found. It is true when nothing is wrong; a warning is nothing wrong."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error among the findings."""
        return all(finding.level != "error" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok
